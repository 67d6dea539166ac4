"""What a table shape is: a table as somebody has it, as data, for the suite that takes it through a whole life."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from psycopg import sql

BOTH = ("column", "table")


class Row(NamedTuple):
    """A row of docs/tables.md that a shape stands for."""

    group: str
    what: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A table shape; every table has a column of running numbers and one of text.

    `columns`, `options`: of CREATE TABLE, or `create` instead of it, with statements `before` and `after`, in which
    `{a}` and `{b}` are roles. `values`: SQL over i, the row's number, for columns that need one. `rekey`: changes a
    row's key, `write` what else the application does, `clean` what is done in the end. `readers`: roles that must find
    in the views what they find in the table. `touched`: columns that the table's own triggers change when its rows are
    updated. `prepared`: its subscribers are. By layout, `refused`: what the refusal says, `failed`: the outcome of rows
    that cannot be written. `major`: the first PostgreSQL that has it.
    """

    name: str
    rows: Sequence[Row]
    columns: str = "id bigint PRIMARY KEY"
    options: str = ""
    create: str = ""
    before: str = ""
    after: str = ""
    values: Mapping[str, str] = field(default_factory=lambda: {"id": "i"})
    rekey: str = "id = id + 1000"
    write: str = ""
    clean: str = ""
    schema: str = "public"
    table: str = "documents"
    slot: str = "embedding"
    number: str = "n"
    body: str = "body"
    text: str = "'passage ' || i || repeat(' and so on', i % 7)"
    input: str = ""
    key: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    touched: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    prepared: bool = False
    major: int = 0

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts that take it."""
        return tuple(layout for layout in BOTH if layout not in {**self.refused, **self.failed})

    @property
    def identifier(self) -> sql.Identifier:
        """The table's quoted name."""
        return sql.Identifier(self.schema, self.table)

    def statements(self, roles: Mapping[str, str]) -> list[str]:
        """Return what makes the table, without rows."""
        own = f"{quoted(self.number)} int, {quoted(self.body)} text"
        table = self.identifier.as_string(None)
        create = self.create or f"CREATE TABLE {table} ({self.columns}, {own}) {self.options}"
        return [named(text, roles) for text in (self.before, create, self.after) if text]

    def insert(self, first: int, last: int) -> str:
        """Return the application's INSERT of rows with those numbers."""
        values = {self.number: "i", self.body: self.text} | dict(self.values)
        names = ", ".join(map(quoted, values))
        return (
            f"INSERT INTO {self.identifier.as_string(None)} ({names}) "
            f"SELECT {', '.join(values.values())} FROM generate_series({first}, {last}) AS i"
        )

    def update(self, what: str, numbers: str) -> str:
        """Return the application's UPDATE of rows; `what` may use {body} and {n}, `numbers` is a condition on {n}."""
        return _with_names(self, f"UPDATE {self.identifier.as_string(None)} SET {what} WHERE {numbers}")

    def delete(self, numbers: str) -> str:
        """Return the application's DELETE of rows."""
        return _with_names(self, f"DELETE FROM {self.identifier.as_string(None)} WHERE {numbers}")


def quoted(name: str) -> str:
    """Return an SQL identifier."""
    return sql.Identifier(name).as_string(None)


def named(statement: str, roles: Mapping[str, str]) -> str:
    """Return the statement with the names of its roles."""
    for role, name in roles.items():
        statement = statement.replace(f"'{{{role}}}'", f"'{name}'").replace(f"{{{role}}}", quoted(name))
    return statement


def _with_names(shape: Shape, statement: str) -> str:
    return statement.replace("{body}", quoted(shape.body)).replace("{n}", quoted(shape.number))

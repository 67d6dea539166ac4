"""What is looked at: a column, the contract that it is said to be of, and what a sample must know of the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, scalar_row

from pgvmig import adding, lengths
from pgvmig import sql as files
from pgvmig.adding import Facts
from pgvmig.address import Address
from pgvmig.catalog.connection import translated
from pgvmig.catalog.keys import identifier
from pgvmig.contract import Contract
from pgvmig.errors import NotFoundError
from pgvmig.locating import located
from pgvmig.runner import ConnectionRunner, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A column and the contract that it is said to be of.

    `telling`: columns that may say which rows are of another model, `dates` those of them that have an order; `by`: the
    column of which every value is looked at. `has_dimensions`: whether the column's type says how many.
    """

    conn: psycopg.Connection[Any]
    where: Address
    column: str
    contract: Contract
    facts: Facts
    has_dimensions: bool
    not_null: bool
    pages: int
    telling: Sequence[str]
    dates: frozenset[str]
    by: str | None

    @property
    def name(self) -> str:
        """How messages name the column: `documents.embedding`."""
        return f"{self.where.table.name}.{self.column}"

    @contextmanager
    def looking(self) -> Iterator[psycopg.Cursor[Any]]:
        """Run the block in a transaction of its own that only reads."""
        with translated(), self.conn.transaction(), self.conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(files.query("adopt", "settings"), {"table_schema": self.where.table.schema})
            yield cursor

    def query(self, name: str, **more: sql.Composable) -> sql.Composed:
        """Return a query of adopt.sql about the column. The table has its own name there, as the input may say it."""
        table = self.where.table
        schema = str(self.facts.vector_schema)
        return files.query(
            "adopt",
            name,
            table=identifier(str(table.schema), table.name),
            alias=identifier(table.name),
            column=identifier(self.column),
            dims=identifier(schema, "vector_dims"),
            norm=identifier(schema, lengths.norm_function(self.contract.vector_type)),
            group=self._of(self.by) if self.by else sql.SQL("NULL"),
            key=sql.SQL(", ").join(sql.SQL("{}::text").format(self._of(key.source)) for key in self.facts.key),
            telling=sql.SQL(", ").join(sql.SQL("{}::text").format(self._of(column)) for column in self.telling),
            # check_input() has taken it for one immutable expression over this row
            input=files.escaped(sql.SQL(self.contract.input)),
            **more,
        )

    def _of(self, column: str) -> sql.SQL:
        return identifier(self.where.table.name, column)


def locate(run: ConnectionRunner, target: str, version: str, column: str | None) -> tuple[Address, str]:
    """Return the address and the column that the user named: the slot's own, unless `column` says another.

    Raises UsageError, and NotFoundError naming the vector columns that there are.
    """
    where = located(run, target, version)
    return where, _existing(run, where, column or where.slot)


def _existing(run: ConnectionRunner, where: Address, column: str) -> str:
    rows = run.run(files.query("adopt", "vector_columns", relation=where.table.relation))
    names = [row["name"] for row in rows]
    if column in names:
        return column
    others = f"; it has {', '.join(names)}" if names else ""
    raise NotFoundError(
        f"{where.table.name} has no vector column {column}{others}",
        next_step=f"--column {names[0]}" if names else "name the table that holds the vectors",
    )


def of_the_column(conn: psycopg.Connection[Any], where: Address, column: str) -> dict[str, Any]:
    """Return what the column's type says of the contract."""
    kind = _type(ConnectionRunner(conn), where, column)
    dimensions = {} if kind["dimensions"] == -1 else {"dimensions": kind["dimensions"]}
    return {"vector_type": kind["name"], **dimensions}


def _type(run: ConnectionRunner, where: Address, column: str) -> Row:
    (kind,) = run.run(files.query("adding", "column_type", relation=where.table.relation, column=sql.Literal(column)))
    return kind


def examine(
    conn: psycopg.Connection[Any], where: Address, column: str, contract: Contract, by: str | None
) -> Subject | None:
    """Return what to look at, None when the column is that very version already.

    Raises what adoption itself would: ContractError, ConflictError, NotFoundError, InputExpressionError.
    """
    facts = adding.examine(ConnectionRunner(conn), where, column, contract)
    if facts is None:
        return None
    relation = files.text(where.table.identifier)
    read = _columns_read(conn, relation, contract)
    given = {"relation": relation, "column": column, "read": [*read, *(key.source for key in facts.key)]}
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(files.query("adopt", "facts"), given).fetchone() or {}
    if by is not None and by not in row["telling"]:
        raise NotFoundError(
            f"{where.table.name} has no column {by} by which its rows could be told apart",
            next_step=f"--by with one of {', '.join(row['telling'])}" if row["telling"] else "leave --by out",
        )
    return Subject(
        conn=conn,
        where=where,
        column=column,
        contract=contract,
        facts=facts,
        has_dimensions=_type(ConnectionRunner(conn), where, column)["dimensions"] != -1,
        not_null=row["not_null"],
        pages=row["pages"],
        telling=row["telling"],
        dates=frozenset(row["dates"]),
        by=by,
    )


def _columns_read(conn: psycopg.Connection[Any], relation: str, contract: Contract) -> list[str]:
    """Return the columns that the input reads; the temporary objects that find them go again."""
    with translated(), conn.transaction(force_rollback=True), conn.cursor(row_factory=scalar_row) as cursor:
        cursor.execute(files.query("adopt", "check_input"), {"relation": relation, "input": contract.input})
        return list(cursor.fetchone() or [])

"""What a verb is about: a table, one of its slots, a version; and how statements name them."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from pgvmig import sql as files
from pgvmig.errors import UsageError
from pgvmig.names import DEFAULT_SLOT, check_version, label


@dataclass(frozen=True, slots=True)
class Table:
    """A table as statements name it; without a schema the search_path decides, as in plain SQL."""

    schema: str | None
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name."""
        return self.beside(self.name)

    @property
    def relation(self) -> sql.Literal:
        """The name as a string that PostgreSQL casts to regclass."""
        return sql.Literal(files.text(self.identifier))

    def beside(self, name: str) -> sql.Identifier:
        """Return the quoted name of something in the table's schema."""
        return sql.Identifier(name) if self.schema is None else sql.Identifier(self.schema, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a verb is about: a table, one of its slots, a version."""

    table: Table
    version: str
    slot: str = DEFAULT_SLOT

    @property
    def label(self) -> str:
        """How messages name it: `documents v2`."""
        return f"{label(self.table.name, self.slot, self.table.schema)} {self.version}"

    def literals(self) -> dict[str, sql.Literal]:
        """Return the parts as SQL literals, for the calls of our SQL functions."""
        return {
            "relation": self.table.relation,
            "slot": sql.Literal(self.slot),
            "version": sql.Literal(self.version),
        }


def address(table: str, version: str, schema: str | None = None, slot: str = DEFAULT_SLOT) -> Address:
    """Return the checked address. Raises UsageError."""
    if not table or not slot:
        raise UsageError("a table's and a slot's name cannot be empty")
    return Address(table=Table(schema, table), version=check_version(version), slot=slot)

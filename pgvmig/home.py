"""Where a version's vectors are and what their columns are called: beside the row, or in a table of their own. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgvmig.address import Address, Table
from pgvmig.names import key_column, provenance_columns, vector_table


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the user's table under another name: in the views, or as the key of a table of vectors.

    `source` is its present name in the table, `operator` what compares a key's column, as SQL.
    """

    name: str
    source: str
    operator: str = "="


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The table that holds the vectors, and its columns; `key` says which row one belongs to, where it is apart."""

    layout: str
    table: Table
    vector: str
    version_id: str
    source_hash: str
    embedded_at: str
    key: tuple[Column, ...] = ()

    @property
    def alias(self) -> str:
        """What the views call the table, beside `d` for the row."""
        return "e" if self.layout == "table" else "d"


def beside(table: Table, vector: str) -> Home:
    """Return the column layout's home: columns of the table itself, named after the vector's."""
    version_id, source_hash, embedded_at = provenance_columns(vector)
    return Home(
        layout="column",
        table=table,
        vector=vector,
        version_id=version_id,
        source_hash=source_hash,
        embedded_at=embedded_at,
    )


def apart(where: Address, key: Sequence[Column]) -> Home:
    """Return the table layout's home: a table of the version's own, keyed like the rows.

    `key` are the row's key columns: the names under which the slot knows them, and their present names.
    """
    return Home(
        layout="table",
        table=Table(where.table.schema, vector_table(where.table.name, where.slot, where.version)),
        vector="embedding",
        version_id="version_id",
        source_hash="source_hash",
        embedded_at="embedded_at",
        key=tuple(Column(key_column(column.name), column.source, column.operator) for column in key),
    )

"""The layouts' DDL: the vector and its provenance beside the row, or in a table that is keyed like it."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.contract import Contract
from pgvmig.home import Home
from pgvmig.names import fit


def type_name(schema: str | None, vector_type: str) -> sql.Identifier:
    """Return pgvector's type, with the schema of the extension where that is known."""
    return sql.Identifier(vector_type) if schema is None else sql.Identifier(schema, vector_type)


def check_name(table: Table, vector: str) -> str:
    """Return the name of the check that vector and provenance are both there or both absent."""
    return fit(f"{table.name}_{vector}_whole")


def make_home(table: Table, home: Home, contract: Contract, vector_schema: str | None) -> list[sql.Composed]:
    """Return the statements that make room for a version's vectors and their provenance."""
    sized = sql.SQL("{}({})").format(type_name(vector_schema, contract.vector_type), sql.Literal(contract.dimensions))
    if home.layout == "column":
        return [_add_columns(home, sized)]
    return [
        files.query(
            "adding",
            "create_vectors",
            vectors=home.table.identifier,
            table=table.identifier,
            key=_listed(
                sql.SQL("d.{} AS {}").format(sql.Identifier(k.source), sql.Identifier(k.name)) for k in home.key
            ),
        ),
        files.query(
            "adding",
            "complete_vectors",
            vectors=home.table.identifier,
            vector=home.vector,
            type=sized,
            key=_listed(sql.Identifier(k.name) for k in home.key),
            **_provenance(home),
        ),
        files.query(
            "adding",
            "comment_on_vectors",
            vectors=home.table.identifier,
            comment=sql.Literal(
                f"pgvmig: vectors of {table.name} ({contract.model}), keyed like its rows; written by pgvmig backfill, "
                "searched through the view, dropped by op.retire_embedding"
            ),
        ),
    ]


def add_provenance_columns(home: Home) -> sql.Composed:
    """Return ALTER TABLE for the provenance of a vector column that the application made."""
    return files.query("adding", "add_provenance_columns", table=home.table.identifier, **_provenance(home))


def _add_columns(home: Home, sized: sql.Composable) -> sql.Composed:
    return files.query(
        "adding",
        "add_columns",
        table=home.table.identifier,
        vector=home.vector,
        type=sized,
        check=check_name(home.table, home.vector),
        **_provenance(home),
    )


def _provenance(home: Home) -> dict[str, str]:
    return {"version_id": home.version_id, "source_hash": home.source_hash, "embedded_at": home.embedded_at}


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)

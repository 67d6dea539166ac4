"""The column layout's DDL: the vector and its provenance beside the row."""

from __future__ import annotations

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.contract import Contract
from pgvmig.names import fit, provenance_columns


def type_name(schema: str | None, vector_type: str) -> sql.Identifier:
    """Return pgvector's type, with the schema of the extension where that is known."""
    return sql.Identifier(vector_type) if schema is None else sql.Identifier(schema, vector_type)


def check_name(table: Table, vector: str) -> str:
    """Return the name of the check that vector and provenance are both there or both absent."""
    return fit(f"{table.name}_{vector}_whole")


def add_columns(table: Table, vector: str, contract: Contract, vector_schema: str | None) -> sql.Composed:
    """Return ALTER TABLE for a version's vector and provenance."""
    sized = sql.SQL("{}({})").format(type_name(vector_schema, contract.vector_type), sql.Literal(contract.dimensions))
    return files.query(
        "adding",
        "add_columns",
        table=table.identifier,
        vector=vector,
        type=sized,
        check=check_name(table, vector),
        **_provenance(vector),
    )


def add_provenance_columns(table: Table, vector: str) -> sql.Composed:
    """Return ALTER TABLE for the provenance of a vector column that the application made."""
    return files.query("adding", "add_provenance_columns", table=table.identifier, **_provenance(vector))


def _provenance(vector: str) -> dict[str, str]:
    version_id, source_hash, embedded_at = provenance_columns(vector)
    return {"version_id": version_id, "source_hash": source_hash, "embedded_at": embedded_at}

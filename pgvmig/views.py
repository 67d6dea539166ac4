"""Version views as SQL text. The current view is PostgreSQL's copy of one of them, see sql/functions/60_switch.sql.

Every version of a slot renders the same columns in the same order, or the current view could not be swapped.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.contract import Contract
from pgvmig.errors import ConflictError
from pgvmig.home import Column, Home
from pgvmig.names import view_columns, view_name


def refuse_collisions(columns: Sequence[str], slot: str, table: str) -> None:
    """Raise ConflictError where the table has a column that the views want to add."""
    for name in view_columns(slot):
        if name in columns:
            raise ConflictError(
                f"{table} has a column {name}, which is what the views call a column of slot {slot}",
                hazard="One of the two would be hidden",
                next_step="name another slot with slot=, or take the vectors there with op.adopt_embedding()",
            )


def with_slot(columns: Sequence[str], slot: str) -> list[str]:
    """Return the list with the slot's name in it: there stand the vector and its provenance, at the end by default."""
    return [*columns] if slot in columns else [*columns, slot]


def create(
    table: Table,
    version: str,
    slot: str,
    *,
    contract: Contract,
    home: Home,
    columns: Sequence[Column],
    vector_type: sql.Composable,
) -> sql.Composed:
    """Return CREATE VIEW for a version; a column named like the slot stands for the vector and its provenance."""
    vector_part = _vector_columns(version, slot, contract, home, vector_type)
    shown = [
        vector_part
        if column.name == slot
        else sql.SQL("d.{}").format(sql.Identifier(column.source))
        if column.name == column.source
        else sql.SQL("d.{} AS {}").format(sql.Identifier(column.source), sql.Identifier(column.name))
        for column in columns
    ]
    return files.query(
        "adding",
        "create_view" if home.layout == "column" else "create_joined_view",
        view=table.beside(view_name(table.name, slot, version)),
        table=table.identifier,
        vectors=home.table.identifier,
        vector=home.vector,
        same_key=_same_key(home),
        columns=sql.SQL(",\n    ").join(shown),
    )


def _same_key(home: Home) -> sql.Composed:
    pairs = (
        # PostgreSQL's own spelling of an operator, quoted where it must be
        sql.SQL("e.{} {} d.{}").format(sql.Identifier(key.name), sql.SQL(key.operator), sql.Identifier(key.source))
        for key in home.key
    )
    return sql.SQL(" AND ").join(pairs)


def _vector_columns(
    version: str, slot: str, contract: Contract, home: Home, vector_type: sql.Composable
) -> sql.Composed:
    _, space, model, model_version, hash_as, at_as = view_columns(slot)
    return files.query(
        "adding",
        "view_vector_columns",
        alias=home.alias,
        vector=home.vector,
        type=vector_type,
        slot=slot,
        version_text=sql.Literal(version),
        space=space,
        model_text=sql.Literal(contract.model),
        model=model,
        model_version_text=sql.Literal(contract.model_version),
        model_version=model_version,
        source_hash=home.source_hash,
        source_hash_as=hash_as,
        embedded_at=home.embedded_at,
        embedded_at_as=at_as,
    )

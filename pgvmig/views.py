"""Version views as SQL text. The current view is PostgreSQL's copy of one of them, see sql/functions/60_switch.sql.

Every version of a slot renders the same columns in the same order, or the current view could not be swapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.contract import Contract
from pgvmig.errors import ConflictError
from pgvmig.names import provenance_columns, view_columns, view_name


@dataclass(frozen=True, slots=True)
class Column:
    """A column that the views show: its name there and its present name in the table."""

    name: str
    source: str


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
    vector: str,
    columns: Sequence[Column],
    vector_type: sql.Composable,
) -> sql.Composed:
    """Return CREATE VIEW for a version; a column named like the slot stands for the vector and its provenance."""
    vector_part = _vector_columns(version, slot, contract, vector, vector_type)
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
        "create_view",
        view=table.beside(view_name(table.name, slot, version)),
        table=table.identifier,
        vector=vector,
        columns=sql.SQL(",\n    ").join(shown),
    )


def _vector_columns(
    version: str, slot: str, contract: Contract, vector: str, vector_type: sql.Composable
) -> sql.Composed:
    _, space, model, model_version, hash_as, at_as = view_columns(slot)
    _, source_hash, embedded_at = provenance_columns(vector)
    return files.query(
        "adding",
        "view_vector_columns",
        vector=vector,
        type=vector_type,
        slot=slot,
        version_text=sql.Literal(version),
        space=space,
        model_text=sql.Literal(contract.model),
        model=model,
        model_version_text=sql.Literal(contract.model_version),
        model_version=model_version,
        source_hash=source_hash,
        source_hash_as=hash_as,
        embedded_at=embedded_at,
        embedded_at_as=at_as,
    )

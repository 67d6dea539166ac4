"""What the models declare, as Alembic's configuration lets us see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic.util import to_list
from sqlalchemy import Table

from pgvmig.alembic_plugin.recorded import OwnNames, Place, Recorded
from pgvmig.names import current_view_name, provenance_columns, vector_column, vector_table, view_name
from pgvmig.sqlalchemy import Embedding, declared

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


@dataclass(frozen=True, slots=True)
class Declared:
    """An embedding and its table, as Alembic names that: without the schema where it is the default one."""

    place: Place
    embedding: Embedding
    table: Table | None


def declarations(context: AutogenContext) -> list[Declared]:
    """Return what all metadata declare and the user's filters let through."""
    found = []
    for metadata in to_list(context.metadata):
        for schema, name, embedding in declared(metadata):
            place = place_of(context, schema, name)
            table = metadata.tables.get(name if schema is None else f"{schema}.{name}")
            if _is_let_through(context, place, table):
                found.append(Declared(place, embedding, table))
    return found


def place_of(context: AutogenContext, schema: str | None, name: str) -> Place:
    """Return a table's name as Alembic has it."""
    default = getattr(context.dialect, "default_schema_name", None)
    return (None if schema == default else schema), name


def _is_let_through(context: AutogenContext, place: Place, table: Table | None) -> bool:
    schema, name = place
    parents: Any = {"schema_name": schema}
    if not context.run_name_filters(schema, "schema", {}) or not context.run_name_filters(name, "table", parents):
        return False
    return table is None or context.run_object_filters(table, name, "table", False, None)


def reserve(own: OwnNames, found: list[Declared], recorded: Recorded) -> None:
    """Add the names that versions of declared slots have or will have: models may describe them, only we make them."""
    for each in found:
        slot, schema = each.embedding.slot, each.place[0]
        before = recorded.slot(each.place, slot)
        newest = max((version.number for version in before.versions), default=0) if before else 0
        own.future_tables.add((schema, current_view_name(each.place[1], slot)))
        for version in (f"v{number}" for number in range(1, newest + 2)):
            for name in (view_name(each.place[1], slot, version), vector_table(each.place[1], slot, version)):
                own.future_tables.add((schema, name))
            vector = vector_column(slot, version)
            columns = {vector, *provenance_columns(vector)} - {each.embedding.adopt}
            own.future_columns |= {(each.place, name) for name in columns}

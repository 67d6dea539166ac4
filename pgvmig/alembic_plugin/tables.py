"""What a table will look like when this revision's other operations have run: what the views can show, and the key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from alembic.operations import ops as alembic_ops
from sqlalchemy import Column, Table, UniqueConstraint

from pgvmig.alembic_plugin.compare import Subject
from pgvmig.alembic_plugin.declared import Declared
from pgvmig.alembic_plugin.recorded import OwnNames, Place, Recorded, RecordedSlot, table_facts


@dataclass(slots=True)
class Changes:
    """What the other operations do to a table."""

    created: Table | None = None
    added: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def changes_of(operations: Iterable[Any]) -> dict[Place, Changes]:
    """Return what the operations do, by table."""
    changes: dict[Place, Changes] = {}
    for operation in _flat(operations):
        of_table = changes.setdefault((operation.schema, operation.table_name), Changes())
        match operation:
            case alembic_ops.CreateTableOp():
                of_table.created = operation.to_table()
            case alembic_ops.AddColumnOp():
                of_table.added.append(str(operation.column.name))
            case alembic_ops.DropColumnOp():
                of_table.dropped.append(operation.column_name)
    return changes


def _flat(operations: Iterable[Any]) -> Iterable[Any]:
    for operation in operations:
        if isinstance(operation, alembic_ops.OpContainer):
            yield from _flat(operation.ops)
        elif getattr(operation, "table_name", None) is not None:
            yield operation


def subject(connection: Any, declared: Declared, recorded: Recorded, changes: dict[Place, Changes]) -> Subject:
    """Return a declared embedding with what its operations must say of the table."""
    slot = recorded.slot(declared.place, declared.embedding.slot)
    columns, key, vectors = _facts(connection, declared, slot, recorded.own, changes.get(declared.place, Changes()))
    return Subject(
        place=declared.place, embedding=declared.embedding, recorded=slot, columns=columns, key=key, vectors=vectors
    )


def _facts(
    connection: Any, declared: Declared, slot: RecordedSlot | None, own: OwnNames, changes: Changes
) -> tuple[list[str] | None, list[str] | None, dict[str, Any]]:
    if slot is not None:
        shown = [*slot.view_columns, *(changes.added if slot.shows_all else [])]
        # at the end it stands there by default
        return shown[:-1] if shown[-1] == slot.slot else shown, slot.key_columns, {}
    facts = table_facts(connection, declared.place)
    if facts is not None:
        there = [name for name in facts["columns"] if name not in changes.dropped]
        columns = [name for name in [*there, *changes.added] if (declared.place, name) not in own.columns]
        return columns, facts["key"], facts["vectors"]
    if changes.created is not None:
        return [column.name for column in changes.created.columns], _key(changes.created), {}
    return None, None, {}


def _key(table: Table) -> list[str] | None:
    if names := _names(table.primary_key.columns):
        return names
    unique = [c.columns for c in table.constraints if isinstance(c, UniqueConstraint)]
    whole = [_names(columns) for columns in unique if not any(column.nullable for column in columns)]
    return min(whole, key=len) if whole else None


def _names(columns: Iterable[Column[Any]]) -> list[str]:
    return [str(column.name) for column in columns]

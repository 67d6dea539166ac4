"""What the application's own changes mean for versions: hazards to name, views to bring up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alembic.operations import MigrateOperation
from alembic.operations import ops as alembic_ops

from pgvmig.alembic_plugin import ops
from pgvmig.alembic_plugin.notice import NoticeOp, log, noticed
from pgvmig.alembic_plugin.recorded import Place, Recorded, RecordedSlot
from pgvmig.names import label


def with_notices(operations: Iterable[Any], recorded: Recorded) -> list[MigrateOperation]:
    """Return the operations, each that PostgreSQL will refuse because of a version with a notice before it."""
    return [each for operation in operations for each in (*_notices(operation, recorded), operation)]


def _notices(operation: Any, recorded: Recorded) -> Iterator[NoticeOp]:
    if isinstance(operation, alembic_ops.DropTableOp):
        place = (operation.schema, operation.table_name)
        versions = [f"{label_of(slot)} {v.name}" for slot in recorded.slots if place in slot.places for v in slot.live]
        if versions:
            yield noticed(
                f"{operation.table_name} has {', '.join(versions)}: PostgreSQL will not drop it while their views show "
                "it. Next: op.drop_embedding() for each, before this; it asks before it destroys vectors"
            )
    elif isinstance(operation, alembic_ops.ModifyTableOps):
        for change in operation.ops:
            yield from _notices_of_column(change, recorded)


def _notices_of_column(change: Any, recorded: Recorded) -> Iterator[NoticeOp]:
    retyped = isinstance(change, alembic_ops.AlterColumnOp) and change.modify_type is not None
    if not retyped and not isinstance(change, alembic_ops.DropColumnOp):
        return
    versions = recorded.dependents.get(((change.schema, change.table_name), change.column_name))
    if versions:
        verb = "change the type of" if retyped else "drop"
        hint = "" if retyped else "if it was renamed, op.alter_column(..., new_column_name=...) instead; else "
        yield noticed(
            f"{change.table_name}.{change.column_name} is shown or read by {', '.join(versions)}: PostgreSQL will not "
            f"{verb} it. Next: {hint}docs/tables.md has the recipe"
        )


def refreshes(operations: Iterable[Any], recorded: Recorded) -> Iterator[MigrateOperation]:
    """Yield what makes views show the columns that this revision adds, where they show all that there are."""
    grown = {
        (operation.schema, operation.table_name)
        for operation in operations
        if isinstance(operation, alembic_ops.ModifyTableOps)
        and any(isinstance(change, alembic_ops.AddColumnOp) for change in operation.ops)
    }
    for slot in recorded.slots:
        place = next((place for place in slot.places if place in grown), None)
        if place is not None and slot.live and slot.shows_all:
            yield ops.RefreshEmbeddingViewsOp(table=place[1], schema=place[0], slot=slot.slot)


def warn_of_undeclared(recorded: Recorded, declared: set[tuple[Place, str]], tables: set[Place]) -> None:
    """Say which versions no model declares. They stay: nobody loses vectors because a line was deleted."""
    for slot in recorded.slots:
        known = any((place, slot.slot) in declared for place in slot.places)
        if slot.live and not known and tables & set(slot.places):
            name, versions = label_of(slot), [version.name for version in slot.live]
            log.warning(
                "%s has %s, and no model declares an embedding there; nothing is dropped. Next: declare it with "
                "Embedding(...), or take the versions away: pgvmig retire, op.drop_embedding(), op.release_embedding()",
                *(name, ", ".join(versions)),
            )


def label_of(slot: RecordedSlot) -> str:
    """Return how messages name a recorded slot."""
    return label(slot.table, slot.slot, slot.schema)

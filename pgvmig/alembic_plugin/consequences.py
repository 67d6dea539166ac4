"""What the application's own changes mean for versions: hazards to name, views to bring up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alembic.operations import MigrateOperation
from alembic.operations import ops as alembic_ops

from pgvmig.alembic_plugin.change_ops import BeginTableChangeOp, RefreshEmbeddingViewsOp
from pgvmig.alembic_plugin.notice import NoticeOp, log, noticed
from pgvmig.alembic_plugin.recorded import Place, Recorded, RecordedSlot, RecordedVersion
from pgvmig.names import label


class AtDowngrade(alembic_ops.OpContainer):
    """Nothing in the upgrade, and an operation in the downgrade."""

    def __init__(self, operation: MigrateOperation) -> None:
        super().__init__([])
        self.operation = operation

    def reverse(self) -> MigrateOperation:
        """Return the operation."""
        return self.operation


def beside_versions(operations: Iterable[Any], recorded: Recorded) -> list[MigrateOperation]:
    """Return the operations with what those on tables with versions need before and after them."""
    return [each for operation in operations for each in _beside_versions(operation, recorded)]


def _beside_versions(operation: Any, recorded: Recorded) -> Iterator[MigrateOperation]:
    if isinstance(operation, alembic_ops.DropTableOp):
        yield from _drop_table(operation, recorded)
    elif isinstance(operation, alembic_ops.ModifyTableOps):
        yield from _change_table(operation, recorded)
    else:
        yield operation


def _drop_table(operation: alembic_ops.DropTableOp, recorded: Recorded) -> Iterator[MigrateOperation]:
    slots = [slot for slot in recorded.slots if (operation.schema, operation.table_name) in slot.places]
    versions = [f"{label_of(slot)} {version.name}" for slot in slots for version in slot.live]
    if versions:
        yield noticed(
            f"{operation.table_name} has {', '.join(versions)}: PostgreSQL will not drop it while their views show it. "
            "Next: op.drop_embedding() for each, before this; it asks before it destroys vectors"
        )
    yield operation


def _change_table(operation: alembic_ops.ModifyTableOps, recorded: Recorded) -> Iterator[MigrateOperation]:
    """Columns that views show are dropped and retyped while the views are away; the views show new ones as well."""
    place = (operation.schema, operation.table_name)
    changed = [name for name in map(_dropped_or_retyped, operation.ops) if name and (place, name) in recorded.shown]
    refreshes = list(_refreshes(operation, recorded)) if any(map(_is_added, operation.ops)) else []
    begin = BeginTableChangeOp(operation.table_name, operation.schema)
    for change in operation.ops:
        yield from _notices(change, recorded)
    if changed:
        yield from (begin, operation, begin.reverse(), *refreshes)
    elif refreshes:
        refreshes[0].opposite = begin
        yield from (AtDowngrade(begin.reverse()), operation, *refreshes)
    else:
        yield operation


def _dropped_or_retyped(change: Any) -> str | None:
    retyped = isinstance(change, alembic_ops.AlterColumnOp) and change.modify_type is not None
    return change.column_name if retyped or isinstance(change, alembic_ops.DropColumnOp) else None


def _is_added(change: Any) -> bool:
    return isinstance(change, alembic_ops.AddColumnOp)


def _notices(change: Any, recorded: Recorded) -> Iterator[NoticeOp]:
    if not isinstance(change, alembic_ops.DropColumnOp):
        return
    place = (change.schema, change.table_name)
    for slot in recorded.slots:
        for version in slot.versions if place in slot.places else ():
            if version.adopted and not version.live and version.vector_column == change.column_name:
                yield _after_retirement(label_of(slot), version)
    versions = recorded.embedded.get((place, change.column_name))
    if versions:
        yield noticed(
            f"{change.table_name}.{change.column_name} is embedded by {', '.join(versions)}, and without it nobody can "
            "say of which text their vectors are: this will be refused. Next: if it was renamed, op.alter_column(..., "
            "new_column_name=...) instead; else declare an input that does without it, cut over, retire what reads it"
        )


def _after_retirement(table: str, version: RecordedVersion) -> NoticeOp:
    """A new database gets the main line first, and there the column is still that of a version."""
    name = f"{table} {version.name}"
    if version.retired_by is None:
        return noticed(
            f"{version.vector_column} was adopted as {name}, and no revision retires that: a new database refuses to "
            f"drop it. Next: pgvmig scaffold retire {name}, and depends_on that revision here"
        )
    return noticed(
        f"{version.vector_column} was adopted as {name}, which revision {version.retired_by} retires: a new database "
        f"refuses to drop it before that. Next: depends_on = {version.retired_by!r} here"
    )


def _refreshes(operation: alembic_ops.ModifyTableOps, recorded: Recorded) -> Iterator[RefreshEmbeddingViewsOp]:
    """Yield what makes the views show the columns that are added, where they show all that there are."""
    schema, table = place = (operation.schema, operation.table_name)
    for slot in recorded.slots:
        if place in slot.places and slot.live and slot.shows_all:
            yield RefreshEmbeddingViewsOp(table=table, schema=schema, slot=slot.slot)


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

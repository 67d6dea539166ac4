"""The comparators: what Alembic calls when it compares models with the database. Its `setup()` registers them.

They run whichever of the plugin's names `autogenerate_plugins` gives, once a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from alembic.operations import MigrateOperation
from alembic.operations import ops as alembic_ops
from alembic.util import DispatchPriority, PriorityDispatchResult
from psycopg import sql
from sqlalchemy.engine import Connection

from pgvmig import sql as files
from pgvmig.alembic_plugin import consequences, recorded, render, schema_ops, tables
from pgvmig.alembic_plugin.compare import compare
from pgvmig.alembic_plugin.declared import Declared, declarations, place_of, reserve
from pgvmig.alembic_plugin.migration_runner import as_command_error, rows
from pgvmig.alembic_plugin.notice import NoticeOp
from pgvmig.alembic_plugin.own import filter_own, without_own
from pgvmig.alembic_plugin.recorded import Recorded
from pgvmig.catalog import schema
from pgvmig.errors import PgvmigError

# Alembic is still being imported when it loads its plugins.
if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.runtime.plugins import Plugin


@dataclass(slots=True)
class _Run:
    """What one run has found out before the other comparators began."""

    recorded: Recorded
    declared: list[Declared]
    done: bool = False


_runs: WeakKeyDictionary[Any, _Run] = WeakKeyDictionary()


def setup(plugin: Plugin) -> None:
    """Register the comparators and the renderers."""
    render.register()
    plugin.add_autogenerate_comparator(look, "autogenerate", "pgvmig_look", priority=DispatchPriority.FIRST)
    plugin.add_autogenerate_comparator(write, "autogenerate", "pgvmig_write", priority=DispatchPriority.LAST)


def look(context: AutogenContext, _upgrade: alembic_ops.UpgradeOps) -> PriorityDispatchResult:
    """Read declarations and control schema, and keep the other comparators away from what is ours."""
    if context not in _runs and context.connection is not None and context.dialect.name == "postgresql":
        found = _Run(recorded.read(context.connection), declarations(context))
        _refuse_newer(context.connection, found.recorded.schema_version)
        reserve(found.recorded.own, found.declared, found.recorded)
        filter_own(context, found.recorded.own)
        _runs[context] = found
    return PriorityDispatchResult.CONTINUE


def _refuse_newer(connection: Connection, present: int | None) -> None:
    """Raise SchemaVersionError where an older toolkit would not know what belongs to pgvmig."""
    if present is not None and present > schema.newest():
        try:
            rows(connection, files.query("schema", "require_schema", wanted=sql.Literal(schema.newest())))
        except PgvmigError as error:
            raise as_command_error(error) from error


def write(context: AutogenContext, upgrade: alembic_ops.UpgradeOps) -> PriorityDispatchResult:
    """Take out what others found of ours, and add what the declarations ask for."""
    run = _runs.get(context)
    if run is None or run.done:
        return PriorityDispatchResult.CONTINUE
    run.done = True
    theirs = without_own(upgrade.ops, run.recorded.own)
    changes = tables.changes_of(theirs)
    ours: list[MigrateOperation] = []
    for each in run.declared:
        ours.extend(compare(tables.subject(context.connection, each, run.recorded, changes)))
    _warn_of_undeclared(context, run)
    upgrade.ops[:] = [*_control_schema(run), *consequences.beside_versions(theirs, run.recorded), *ours]
    if upgrade.ops and all(isinstance(operation, NoticeOp) for operation in upgrade.ops):
        upgrade.ops[-1].alone = True  # type: ignore[attr-defined]
    return PriorityDispatchResult.CONTINUE


def _warn_of_undeclared(context: AutogenContext, run: _Run) -> None:
    there = {place_of(context, table.schema, table.name) for table in context.table_key_to_table.values()}
    consequences.warn_of_undeclared(run.recorded, {(each.place, each.embedding.slot) for each in run.declared}, there)


def _control_schema(run: _Run) -> list[MigrateOperation]:
    """Return what brings the control schema to this toolkit's version; it comes first, pgvector with it."""
    present, wanted = run.recorded.schema_version, schema.newest()
    if present is None:
        return [schema_ops.InstallOp(wanted)] if run.declared else []
    return [schema_ops.UpgradeOp(wanted)] if present < wanted else []

"""Execute the operations: each hands over to the verb of its name."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from alembic.operations import MigrateOperation, Operations

from pgvmig import adding, hazards, indexing, retiring, switch
from pgvmig.address import Address, address
from pgvmig.alembic_plugin import ops, schema_ops, switch_ops
from pgvmig.alembic_plugin.calm import before_build, dsn_of
from pgvmig.alembic_plugin.embedding_op import EmbeddingOp
from pgvmig.alembic_plugin.migration_runner import MigrationRunner, as_command_error, begin, require_own_transaction
from pgvmig.catalog import schema
from pgvmig.contract import Contract, why_halfvec
from pgvmig.errors import PgvmigError, UsageError
from pgvmig.locating import resolved
from pgvmig.terms import Terms

# below Alembic's own: the fileConfig() of its templates disables loggers that they do not name
log = logging.getLogger("alembic.pgvmig")


def implementation_for(operation: type[MigrateOperation]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register an implementation whose errors Alembic prints as its own, in a line and not as a traceback."""

    def register(implementation: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(implementation)
        def implemented(*arguments: Any) -> None:
            try:
                implementation(*arguments)
            except PgvmigError as error:
                raise as_command_error(error) from error

        Operations.implementation_for(operation)(implemented)
        return implemented

    return register


@implementation_for(schema_ops.InstallOp)
def install(operations: Operations, operation: schema_ops.InstallOp) -> None:
    """Install or upgrade the control schema."""
    run = require_own_transaction(operations)
    if schema.install(run, operation.version) and not run.offline and (mind := hazards.of_the_control_schema(run)):
        log.warning("%s", mind)


@implementation_for(schema_ops.UninstallOp)
def uninstall(operations: Operations, _operation: schema_ops.UninstallOp) -> None:
    """Drop the control schema."""
    schema.uninstall(require_own_transaction(operations))


@implementation_for(ops.AddEmbeddingOp)
def add(operations: Operations, operation: ops.AddEmbeddingOp) -> None:
    """Add a version."""
    run = begin(operations)
    where = _address(operation)
    added = adding.add(
        run,
        where,
        operation.contract,
        layout=operation.layout,
        columns=operation.columns,
        key=operation.key,
        prepared=_told(run, "pgvmig_published", where),
        search=operation.search,
    )
    if added and not run.offline:
        _say_halfvec(where, Contract.of(operation.contract))
    if added and not run.offline and operation.layout == "column":
        _name_triggers(run, where)


@implementation_for(ops.SetEmbeddingSearchOp)
def set_search(operations: Operations, operation: ops.SetEmbeddingSearchOp) -> None:
    """Change how a version is searched."""
    adding.set_search(begin(operations), _address(operation), operation.search)


@implementation_for(ops.DropEmbeddingOp)
def drop(operations: Operations, operation: ops.DropEmbeddingOp) -> None:
    """Undo add."""
    run = begin(operations)
    where = _address(operation)
    adding.drop(run, where, destroy=_told(run, "pgvmig_drop", where))


@implementation_for(ops.AdoptEmbeddingOp)
def adopt(operations: Operations, operation: ops.AdoptEmbeddingOp) -> None:
    """Adopt a column's vectors."""
    run = begin(operations)
    where = _address(operation)
    adding.adopt(
        run,
        where,
        operation.column,
        operation.contract,
        writer=operation.writer,
        columns=operation.columns,
        key=operation.key,
        prepared=_told(run, "pgvmig_published", where),
    )


@implementation_for(ops.ReleaseEmbeddingOp)
def release(operations: Operations, operation: ops.ReleaseEmbeddingOp) -> None:
    """Undo adopt."""
    adding.release(begin(operations), _address(operation))


@implementation_for(ops.IndexEmbeddingOp)
def index(operations: Operations, operation: ops.IndexEmbeddingOp) -> None:
    """Build the index."""
    run = begin(operations)
    where = _address(operation)
    early = _told(run, "pgvmig_early_index", where)
    indexing.build(
        run,
        where,
        method=operation.method,
        options=operation.options,
        quantize=operation.quantize,
        after_backfill=operation.after_backfill,
        early=early,
        calm=functools.partial(before_build, run, where),
        say=_inform,
    )


@implementation_for(ops.DropEmbeddingIndexOp)
def drop_index(operations: Operations, operation: ops.DropEmbeddingIndexOp) -> None:
    """Drop the index."""
    run = begin(operations)
    where = _address(operation)
    indexing.drop(
        run,
        where,
        method=operation.method,
        version_stays=operation.version_stays or _told(run, "pgvmig_drop_index", where),
        destroy=_told(run, "pgvmig_drop", where),
    )


@implementation_for(switch_ops.CutOverEmbeddingOp)
def cut_over(operations: Operations, operation: switch_ops.CutOverEmbeddingOp) -> None:
    """Cut over."""
    run, where, terms = begin(operations), _address(operation), Terms.forced(operation.force)
    _say(where, "cut over", switch.cut_over(run, where, terms, beside=_beside(run), tell=_warn))


@implementation_for(switch_ops.RollBackEmbeddingOp)
def roll_back(operations: Operations, operation: switch_ops.RollBackEmbeddingOp) -> None:
    """Roll back."""
    run, where, terms = begin(operations), _address(operation), Terms.forced(operation.force)
    _say(where, "rolled back", switch.roll_back(run, where, terms, beside=_beside(run), tell=_warn))


@implementation_for(switch_ops.RetireEmbeddingOp)
def retire(operations: Operations, operation: switch_ops.RetireEmbeddingOp) -> None:
    """Retire."""
    run = begin(operations)
    where = _address(operation)
    terms = retiring.RetireTerms.of(_said_of(run, "pgvmig_soak", where) or operation.soak, operation.force)
    outcome = retiring.retire(run, where, terms)
    _say(where, "retired", outcome)
    if outcome.get("held_bytes"):
        log.info("%s: %s", where.label, retiring.space_left(where.table, outcome))


def _address(operation: EmbeddingOp) -> Address:
    return address(operation.table, operation.version, operation.schema, operation.slot)


def _beside(run: MigrationRunner) -> str | None:
    """Return how to ask about standbys and long readers, None where they are not asked."""
    return None if run.offline or "off" in run.told("pgvmig_calm") else dsn_of(run.connection)


def _inform(text: str) -> None:
    log.info("%s", text)


def _warn(text: str) -> None:
    log.warning("%s", text)


def _told(run: MigrationRunner, key: str, where: Address) -> bool:
    """Whether `-x <key>=documents.v2` names this very version, as the revision does or as the errors do."""
    return any(_is_named(run, where, name) for name in run.told(key))


def _said_of(run: MigrationRunner, key: str, where: Address) -> str | None:
    """Return what `-x <key>=documents.v2:value` says of this version, None when it says nothing."""
    for said in run.told(key):
        name, _, value = said.rpartition(":")
        if not name:
            raise UsageError(f"-x {key}={said} names no version", next_step=f"-x {key}=documents.v1:{said}")
        if _is_named(run, where, name):
            return value
    return None


def _is_named(run: MigrationRunner, where: Address, name: str) -> bool:
    labels = (where.label, resolved(run, where).label)
    # a shell may have taken the quotes off
    return any(_bare(label) == _bare(name) for label in labels)


def _bare(label: str) -> str:
    return label.replace(" ", ".").replace('"', "")


def _say_halfvec(where: Address, contract: Contract) -> None:
    """Say why the vectors are halfvec; autogenerate writes the type down, so that nobody need have chosen it."""
    if contract.halfvec_by_itself:
        log.info("%s: %s", where.label, why_halfvec(contract.dimensions))


def _name_triggers(run: MigrationRunner, where: Address) -> None:
    found = hazards.triggers(run, where.table)
    if found:
        log.warning(
            "%s: every batch of the backfill fires your triggers %s; see that they bear one update of every row, or "
            'use layout="table", which updates none. Next: pgvmig plan %s',
            where.label,
            ", ".join(map(str, found)),
            where.label,
        )


def _say(where: Address, done: str, outcome: dict[str, Any]) -> None:
    if not outcome:
        return
    if not outcome.get("changed"):
        log.info("%s: nothing to do", where.label)
        return
    missing = outcome.get("missing")
    log.info("%s %s%s", where.label, done, "" if missing is None else f", {missing:,} rows not embedded yet")

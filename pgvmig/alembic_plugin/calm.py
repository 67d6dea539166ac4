"""Before a big index is built: wait until all pacing signals are well. A build cannot be slowed down once it runs."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import make_conninfo

from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.alembic_plugin.migration_runner import MigrationRunner
from pgvmig.errors import SignalError
from pgvmig.pacing.calm import require_calm
from pgvmig.pacing.configured import configured
from pgvmig.pacing.signals import Subject

# What is smaller is built before anybody notices.
BIG = 100 * 1024 * 1024


def before_build(run: MigrationRunner, where: Address, home: Table) -> None:
    """Wait until every signal is OK, unless the table is small or `-x pgvmig_calm=off` is given.

    Raises SignalError after the configured patience.
    """
    if run.offline or "off" in run.told("pgvmig_calm"):
        return
    (found,) = run.run(files.query("pace", "to_build", relation=where.table.relation, home=home.relation))
    if (found["bytes"] or 0) < BIG:
        return
    subject = Subject(relation=found["relation"], slot=where.slot, version=where.version)
    try:
        require_calm(dsn_of(run.connection), configured().limits, subject)
    except SignalError as error:
        raise SignalError(
            f"the index of {where.label} is not begun: {error.found}",
            hazard="A build reads the whole table, writes as much WAL as the index is large, and cannot be slowed down",
            next_step=f"{error.next_step or 'pgvmig signals'}; alembic -x pgvmig_calm=off upgrade ... builds it now",
            **error.data,
        ) from error


def dsn_of(connection: Any) -> str:
    """Return where the migration's connection leads: signals are read beside it, by a driver of their own."""
    info = getattr(connection.connection.driver_connection, "info", None)
    if info is None:  # another driver than psycopg
        return str(connection.engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    parameters = getattr(info, "dsn_parameters", None) or {}
    return make_conninfo(getattr(info, "dsn", "") or "", **parameters | {"password": info.password or None})

"""Before a big index is built: wait until all pacing signals are well. A build cannot be slowed down once it runs."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import make_conninfo

from pgvmig.address import Address, Table
from pgvmig.alembic_plugin.migration_runner import MigrationRunner
from pgvmig.pacing.building import require_calm_for


def before_build(run: MigrationRunner, where: Address, home: Table) -> None:
    """Wait until every signal is OK, unless the table is small or `-x pgvmig_calm=off` is given.

    Raises SignalError after the configured patience.
    """
    if run.offline or "off" in run.told("pgvmig_calm"):
        return
    anyway = "alembic -x pgvmig_calm=off upgrade ... builds it now"
    require_calm_for(run, where, home, dsn_of(run.connection), anyway=anyway)


def dsn_of(connection: Any) -> str:
    """Return where the migration's connection leads: signals are read beside it, by a driver of their own."""
    info = getattr(connection.connection.driver_connection, "info", None)
    if info is None:  # another driver than psycopg
        return str(connection.engine.url.set(drivername="postgresql").render_as_string(hide_password=False))
    parameters = getattr(info, "dsn_parameters", None) or {}
    return make_conninfo(getattr(info, "dsn", "") or "", **parameters | {"password": info.password or None})

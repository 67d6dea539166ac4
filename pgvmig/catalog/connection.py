"""Connections to PostgreSQL, and its errors as ours.

Where PgBouncer in transaction mode stands in between, settings are set with SET LOCAL only; nothing is prepared on the
server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors as pg

from pgvmig import errors
from pgvmig.catalog.session import Session

# SQLSTATEs that our SQL functions raise; sql/functions/ says where.
_OURS: dict[str, type[errors.PgvmigError]] = {
    "PV001": errors.SpaceMismatchError,
    "PV002": errors.GateError,
    "PV003": errors.NotFoundError,
    "PV004": errors.IllegalTransitionError,
    "PV005": errors.ConflictError,
    "PV006": errors.InputExpressionError,
    "PV007": errors.DestructionRefusedError,
    "PV008": errors.SchemaVersionError,
    "PV009": errors.PublishedTableError,
    "PV010": errors.UsageError,
    "PV011": errors.TooMightyError,
}


# Connection exceptions, and what a server says that shuts down, starts, has no room, or is no primary (any more): 25006
# is what a write meets after a failover, and what the worker says of a standby.
_CONNECTION = "08"
_PASSING = {
    pg.AdminShutdown.sqlstate,
    pg.CrashShutdown.sqlstate,
    pg.CannotConnectNow.sqlstate,
    pg.TooManyConnections.sqlstate,
    pg.ReadOnlySqlTransaction.sqlstate,
}

# The names on a search_path: in quotes, or bare.
_ON_THE_PATH = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')

# Its own tables; those of a version are gone when it is retired.
_OUR_SCHEMA = re.compile(r'schema "pgvmig"|"pgvmig\.(?![^"]*_(?:stale|outcome)")')


def connect(dsn: str, *, application_name: str = "pgvmig", **options: Any) -> Session:
    """Open an autocommit connection under PostgreSQL's own search_path. Raises DatabaseError when nobody answers."""
    try:
        connection = Session.opened(dsn, application_name=application_name, connect_timeout=10, **options)
    except psycopg.OperationalError as error:
        raise errors.DatabaseError(
            f"no connection to PostgreSQL: {_first_line(error)}",
            next_step="check --dsn, PGVMIG_DSN or DATABASE_URL, and that the server runs (pg_isready)",
            sqlstate=error.sqlstate or pg.SqlclientUnableToEstablishSqlconnection.sqlstate,
        ) from error
    # Sent with BEGIN, whatever default_transaction_isolation is: the next statement must see what was waited for.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    try:
        require_own_functions(connection.path)
    except errors.ConfigError:
        connection.close()
        raise
    return connection


def require_own_functions(search_path: str) -> None:
    """Raise ConfigError for a search_path on which somebody's functions come before PostgreSQL's own.

    A revision's queries call count(), now() and so on by their bare names, and so may triggers that a worker fires.
    Temporary schemas are not searched for functions.
    """
    names = [quoted.replace('""', '"') or bare for quoted, bare in _ON_THE_PATH.findall(search_path)]
    before = [name for name in names[: names.index("pg_catalog")] if name != "pg_temp"] if "pg_catalog" in names else []
    if before:
        raise errors.ConfigError(
            f"search_path = {search_path} puts {', '.join(before)} before pg_catalog",
            hazard="Functions and operators there would be run in place of PostgreSQL's own, with your rights",
            next_step="ALTER ROLE ... SET search_path without pg_catalog, which then comes first; or for pgvmig alone "
            "PGOPTIONS='-c search_path=public'",
        )


def is_passing(error: errors.DatabaseError) -> bool:
    """Whether it is only the connection that is lost: with another one, after a while, the same may work."""
    state = error.data.get("sqlstate") or ""
    return state.startswith(_CONNECTION) or state in _PASSING


@contextmanager
def translated() -> Iterator[None]:
    """Turn what PostgreSQL raises inside the block into the errors of pgvmig/errors.py."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: BaseException) -> errors.PgvmigError:
    """Return the PgvmigError for a driver's error: psycopg's, or any other that carries a SQLSTATE and diagnostics."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None and isinstance(error, psycopg.OperationalError):
        state = pg.ConnectionFailure.sqlstate  # libpq's own: the server did not live to say so
    message, hint, detail = _said(error)
    if state in _OURS:
        return _OURS[state](message, next_step=hint, **_hazard_or_data(detail), sqlstate=state)
    if state == pg.LockNotAvailable.sqlstate:
        return errors.LockNotAvailableError(
            f"a lock was not to be had: {message}",
            hazard="Somebody holds a transaction open on this table or view; waiting longer would queue everybody else",
            next_step=hint or "find it in pg_stat_activity (xact_start), let it end, and run this again",
            sqlstate=state,
        )
    if state in (pg.UndefinedTable.sqlstate, pg.InvalidSchemaName.sqlstate) and _OUR_SCHEMA.search(message):
        return schema_missing()
    if state == pg.InsufficientPrivilege.sqlstate and _hides_rows(error):
        return errors.HiddenRowsError(
            message,
            hazard="Rows that policies hide from us would look as if nothing were to be done for them",
            next_step="ALTER ROLE ... BYPASSRLS for the role that logs in (members do not inherit it), or work as the "
            "table's owner, with NO FORCE ROW LEVEL SECURITY",
            sqlstate=state,
        )
    if state == pg.InsufficientPrivilege.sqlstate:
        return errors.DatabaseError(
            message, next_step="GRANT what is missing, or run this as the table's owner", sqlstate=state
        )
    return errors.DatabaseError(message, next_step=hint, sqlstate=state)


def schema_missing() -> errors.SchemaVersionError:
    """Return the error for a database without the control schema."""
    return errors.SchemaVersionError(
        "this database has no control schema (pgvmig)",
        next_step="pgvmig init, or op.install_pgvmig() in a revision",
    )


def _said(error: BaseException) -> tuple[str, str | None, str | None]:
    """Return message, hint and detail: of psycopg's diagnostics, or of asyncpg's error, which SQLAlchemy wraps."""
    diag = getattr(error, "diag", None)
    if diag is not None:
        return diag.message_primary or _first_line(error), diag.message_hint, diag.message_detail
    inner = error.__cause__ if hasattr(error.__cause__, "hint") else error
    message = getattr(inner, "message", None) or _first_line(error)
    return message, getattr(inner, "hint", None), getattr(inner, "detail", None)


def _hazard_or_data(detail: str | None) -> dict[str, Any]:
    """Gates put their figures into DETAIL as JSON, the other errors say there what the hazard is."""
    if not detail:
        return {}
    if detail.startswith("{"):
        try:
            return {"gates": json.loads(detail)}
        except ValueError:
            pass
    return {"hazard": detail.rstrip(".")}


def _hides_rows(error: BaseException) -> bool:
    """Whether row_security = off met a policy: by the server's function, as messages have their language."""
    diag = getattr(error, "diag", None)
    return diag is not None and diag.source_function == "check_enable_rls"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

"""Standbys: which ones were declared, and what of them is connected now.

Having no standbys is declared as well, never inferred: a standby that is gone looks the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row, tuple_row

from pgvmig import sql
from pgvmig.catalog.connection import schema_missing, translated
from pgvmig.errors import ConfigError, ConflictError, NotFoundError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """One connection of a standby, or a declared standby that has none (`pid` is None).

    LSNs are numbers, `slot_retains` is bytes of WAL. Figures are None when the standby has not reported them yet and
    when the role that asks may not see them.
    """

    name: str
    declared: bool
    dsn: str | None = None
    added_at: datetime | None = None
    added_by: str | None = None
    pid: int | None = None
    state: str | None = None
    replay_lag: timedelta | None = None
    replay_lsn: int | None = None
    lag_bytes: int | None = None
    slot_name: str | None = None
    slot_active: bool | None = None
    slot_wal_status: str | None = None
    slot_retains: int | None = None

    @property
    def connected(self) -> bool:
        """Whether it streams from this server, or tries to."""
        return self.pid is not None


def all_standbys(conn: psycopg.Connection[Any]) -> list[Standby]:
    """Return the declared standbys with what is connected of them, then the standbys that nobody declared."""
    with translated(), conn.cursor(row_factory=class_row(Standby)) as cursor:
        return cursor.execute(sql.query("standbys", "standbys")).fetchall()


def is_none(conn: psycopg.Connection[Any]) -> bool:
    """Whether the cluster was declared to have no standbys."""
    with translated():
        return _flag(conn, "declaration")


def add(conn: psycopg.Connection[Any], name: str, dsn: str | None = None) -> list[Standby]:
    """Declare a standby by its application_name, or give a declared one another DSN.

    Returns what `all_standbys` says of that name now: without a connection the worker will wait for it.
    Raises UsageError, ConfigError for a DSN that is none or holds a password.
    """
    if not name.strip():
        raise UsageError(
            "a standby's name is empty",
            next_step="give its application_name: SELECT application_name FROM pg_stat_replication",
        )
    if dsn is not None:
        _check_dsn(name, dsn)
    with translated(), conn.transaction():
        none_was_declared = _lock(conn)
        if none_was_declared or (name, dsn) not in _declared(conn):
            _declare(conn, name, dsn)
            conn.execute(sql.query("standbys", "set_no_standbys"), {"none": False})
            _record(conn, "add", name, dsn)
    return [standby for standby in all_standbys(conn) if standby.declared and standby.name == name]


def remove(conn: psycopg.Connection[Any], name: str) -> None:
    """Take a declaration back; with the last one gone nothing is declared. Raises NotFoundError."""
    with translated(), conn.transaction():
        _lock(conn)
        if not conn.execute(sql.query("standbys", "remove"), {"name": name}).rowcount:
            known = ", ".join(other for other, _ in _declared(conn))
            raise NotFoundError(
                f"no standby {name} is declared",
                next_step=f"use one of {known}" if known else "pgvmig standby list",
            )
        _record(conn, "remove", name)


def none(conn: psycopg.Connection[Any]) -> list[Standby]:
    """Declare that the cluster has no standbys. Returns those that stream all the same, and contradict it.

    Raises ConflictError while standbys are declared.
    """
    with translated(), conn.transaction():
        already = _lock(conn)
        names = [name for name, _ in _declared(conn)]
        if names:
            raise ConflictError(
                f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} declared",
                hazard="A cluster with a declared standby does not have none",
                next_step="; ".join(f"pgvmig standby remove {name}" for name in names),
                names=names,
            )
        if not already:
            conn.execute(sql.query("standbys", "set_no_standbys"), {"none": True})
            _record(conn, "none")
    return all_standbys(conn)


def _lock(conn: psycopg.Connection[Any]) -> bool:
    """Make other declarations wait for the end of this transaction; return whether `none` was declared."""
    return _flag(conn, "lock_declaration")


def _flag(conn: psycopg.Connection[Any], block: str) -> bool:
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(sql.query("standbys", block)).fetchone()
    if row is None:
        raise schema_missing()
    return bool(row[0])


def _declared(conn: psycopg.Connection[Any]) -> list[tuple[str, str | None]]:
    with conn.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(sql.query("standbys", "declared")).fetchall()


def _declare(conn: psycopg.Connection[Any], name: str, dsn: str | None) -> None:
    try:
        conn.execute(sql.query("standbys", "declare"), {"name": name, "dsn": dsn})
    except pg.CheckViolation:
        # Not chained: PostgreSQL's error shows the failing row, and the password with it.
        raise _password(name) from None


def _record(conn: psycopg.Connection[Any], action: str, name: str | None = None, dsn: str | None = None) -> None:
    conn.execute(sql.query("standbys", "record"), {"action": action, "name": name, "dsn": dsn})


def _check_dsn(name: str, dsn: str) -> None:
    # Before PostgreSQL sees it, whose log would keep the failing row.
    try:
        parameters = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ConfigError(
            f"the DSN of {name} is not one that libpq can read",
            next_step="write host=... port=... dbname=... user=..., or postgresql://user@host:port/dbname",
        ) from None
    if {"password", "sslpassword"} & parameters.keys():
        raise _password(name)


def _password(name: str) -> ConfigError:
    return ConfigError(
        f"the DSN of {name} holds a password",
        hazard="It is kept in the database, where whoever may read pgvmig.standby would read it, and so would dumps",
        next_step="put the password into a password file (~/.pgpass, passfile=...) or a service file (service=...), "
        "and leave it out of the DSN",
    )

"""Reads the primary and its standbys. Knows how to ask and to give up in time, not what the answers mean."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pgvmig import sql
from pgvmig.catalog import standbys as catalog
from pgvmig.catalog.connection import connect, translate, translated
from pgvmig.errors import PgvmigError, SignalError
from pgvmig.pacing.lag import Position, Snapshot, quoted

APPLICATION_NAME = "pgvmig pacing"
# The server gives up after the first; a server that is frozen cannot, so we hang up after the second.
STATEMENT_SECONDS = 2.0
DEADLINE_SECONDS = 3.0

Connection = psycopg.Connection[Any]


class Reader(Protocol):
    """Where snapshots come from: PostgreSQL, or a test's recording."""

    def read(self) -> Snapshot:
        """Read once. Raises PgvmigError, after which it has nothing left to go on from."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


class DatabaseReader:
    """Reads through a connection of its own, opened when it is needed and again after an error."""

    def __init__(self, dsn_or_connect: str | Callable[[], Connection], clock: Callable[[], float]) -> None:
        self._connect = dsn_or_connect if callable(dsn_or_connect) else _opener(dsn_or_connect)
        self._clock = clock
        self._connection: Connection | None = None
        self._direct: dict[str, Connection] = {}

    def read(self) -> Snapshot:
        """Read the primary, and each standby that was declared with a DSN. Raises PgvmigError."""
        try:
            with translated():
                if self._connection is None:
                    self._connection = self._connect()
                return self._read(self._connection)
        except PgvmigError as error:
            denied = self._denied(error)
            self.close()
            if denied is None:
                raise
            raise denied from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection; the next reading opens them again."""
        for connection in (*self._direct.values(), self._connection):
            if connection is not None:
                _close(connection)
        self._direct.clear()
        self._connection = None

    def _read(self, connection: Connection) -> Snapshot:
        began = self._clock()
        with _reading(connection):
            primary = _row(connection, "primary")
            rows = catalog.all_standbys(connection)
            dsns = {row.name: row.dsn for row in rows if row.dsn is not None}
            system = _row(connection, "system_identifier")["system_identifier"] if dsns else None
        ended = self._clock()
        positions = self._positions(dsns, system) if primary["lsn"] is not None else {}
        return Snapshot(began=began, ended=ended, standbys=rows, positions=positions, **primary)

    def _denied(self, error: PgvmigError) -> SignalError | None:
        if self._connection is None or error.data.get("sqlstate") != pg.InsufficientPrivilege.sqlstate:
            return None
        role = quoted(self._connection.info.user)
        return SignalError(
            f"{role} may not read which standbys are declared: {error.found}",
            next_step=f"GRANT SELECT ON pgvmig.standby TO {role}; GRANT pg_monitor TO {role}",
        )

    def _positions(self, dsns: Mapping[str, str], system: int | None) -> dict[str, Position]:
        for dsn in self._direct.keys() - set(dsns.values()):
            _close(self._direct.pop(dsn))
        return {name: self._position(dsn, system) for name, dsn in dsns.items()}

    def _position(self, dsn: str, system: int | None) -> Position:
        try:
            if dsn not in self._direct:
                self._direct[dsn] = _connect_directly(dsn)
            connection = self._direct[dsn]
            with _reading(connection):
                found = _row(connection, "standby_position")
        except psycopg.Error as error:
            if dsn in self._direct:
                _close(self._direct.pop(dsn))
            return Position(problem=f"its DSN does not answer ({translate(error).found})", next_step=_CHECK_DSN)
        if found["system_identifier"] != system:
            return Position(problem="its DSN leads to another cluster", next_step=_CHECK_DSN)
        if not found["in_recovery"]:
            return Position(problem="its DSN leads to a server that is no standby", next_step=_CHECK_DSN)
        return Position(replay_lsn=found["replay_lsn"])


_CHECK_DSN = "check it with psql, and give another with pgvmig standby add NAME --dsn ..."


@contextmanager
def _reading(connection: Connection) -> Iterator[None]:
    """Run the block in a transaction that the server, or else we ourselves, end after a time."""
    late = threading.Event()
    timer = threading.Timer(DEADLINE_SECONDS, _hang_up, [connection, late])
    timer.daemon = True
    timer.start()
    try:
        with connection.transaction():
            limit = {"milliseconds": int(STATEMENT_SECONDS * 1000)}
            connection.execute(sql.query("pacing", "limit_reading"), limit)
            yield
    except (psycopg.Error, PgvmigError) as error:
        if late.is_set():
            raise psycopg.OperationalError(f"no answer within {DEADLINE_SECONDS:g} s") from error
        raise
    finally:
        timer.cancel()
        timer.join()  # it must not hang up on whoever gets our file descriptor next


def _hang_up(connection: Connection, late: threading.Event) -> None:
    late.set()
    # Closing would not wake the thread that waits for an answer; the end of the stream does.
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as stream:
        stream.shutdown(socket.SHUT_RDWR)


def _row(connection: Connection, block: str) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(sql.query("pacing", block)).fetchone()
    if row is None:
        raise AssertionError(block)
    return row


def _opener(dsn: str) -> Callable[[], Connection]:
    return lambda: connect(dsn, application_name=APPLICATION_NAME)


def _connect_directly(dsn: str) -> Connection:
    conninfo = make_conninfo(dsn, application_name=APPLICATION_NAME, connect_timeout=int(DEADLINE_SECONDS))
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)


def _close(connection: Connection) -> None:
    with suppress(psycopg.Error):
        connection.close()

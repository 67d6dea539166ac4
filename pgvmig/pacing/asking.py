"""How the server is asked so that it cannot keep us: a transaction that ends after a time, whoever has to end it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pgvmig import sql
from pgvmig.catalog.connection import connect
from pgvmig.catalog.session import Session
from pgvmig.errors import PgvmigError

APPLICATION_NAME = "pgvmig pacing"
# The server gives up after the first; a server that is frozen cannot, so we hang up after the second.
STATEMENT_SECONDS = 2.0
DEADLINE_SECONDS = 3.0

Connection = psycopg.Connection[Any]


@contextmanager
def in_time(connection: Connection) -> Iterator[None]:
    """Run the block in a transaction that the server, or else we ourselves, end after a time. Raises psycopg.Error."""
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


def rows(connection: Connection, block: str) -> list[dict[str, Any]]:
    """Return what a block of pacing.sql says."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql.query("pacing", block)).fetchall()


def row(connection: Connection, block: str) -> dict[str, Any]:
    """Return the only row of a block of pacing.sql."""
    (found,) = rows(connection, block)
    return found


def open_primary(dsn: str) -> Connection:
    """Connect to the server that is paced. Raises DatabaseError."""
    return connect(dsn, application_name=APPLICATION_NAME)


def open_standby(dsn: str) -> Connection:
    """Connect to a standby itself. Raises psycopg.Error."""
    conninfo = make_conninfo(dsn, application_name=APPLICATION_NAME, connect_timeout=int(DEADLINE_SECONDS))
    return Session.opened(conninfo)


def close(connection: Connection) -> None:
    """Close it, whatever state it is in."""
    with suppress(psycopg.Error):
        connection.close()

"""What tests do to servers and standbys. Each is a block at whose end the server is as it was."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import psycopg

from pgvmig import embedded


@contextmanager
def replay_paused(standby: psycopg.Connection[Any]) -> Iterator[None]:
    """Let a standby receive and not replay."""
    standby.execute("SELECT pg_wal_replay_pause()")
    deadline = time.monotonic() + 30
    while standby.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
        assert time.monotonic() < deadline, "replay does not pause"
        time.sleep(0.01)
    try:
        yield
    finally:
        standby.execute("SELECT pg_wal_replay_resume()")


@contextmanager
def frozen(server: embedded.Server) -> Iterator[None]:
    """Stop a server's processes where they are, as a swapping or suspended machine would."""
    assert server.pid is not None
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@contextmanager
def stopped(server: embedded.Server, mode: embedded.Mode = "fast") -> Iterator[None]:
    """Shut a server down, and start it again."""
    server.stop(mode)
    try:
        yield
    finally:
        server.start()


@contextmanager
def setting(connection: psycopg.Connection[Any], name: str, value: str) -> Iterator[None]:
    """Change a setting of the whole server, which needs no restart."""
    connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    connection.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        # The connection may not have lived through what came of it.
        with psycopg.connect(connection.info.dsn, autocommit=True) as again:
            again.execute("SET default_transaction_read_only = off")
            again.execute(f"ALTER SYSTEM RESET {name}")
            again.execute("SELECT pg_reload_conf()")

"""The run's second connection: renews leases while the first is busy or idle, and hears of new rows.

A thread of its own, so that neither a slow provider nor a slow statement costs a lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg

from pgvmig import sql as files
from pgvmig.backfill.transactions import PASSING
from pgvmig.catalog.connection import connect, translate
from pgvmig.errors import PgvmigError

CHANNEL = "pgvmig_stale"
# Nobody notifies without a listener. Short, so that a listener who died is soon forgotten.
FOLLOWER_WINDOW = timedelta(seconds=10)
_TICK = 0.2


class Companion:
    """Runs from `with` to its end. `woken` is set when rows were queued; `error` when its connection was lost."""

    def __init__(self, dsn: str, run_id: UUID, lease: timedelta, *, follow: bool) -> None:
        self._conn = connect(dsn, application_name="pgvmig backfill")
        self._run_id = run_id
        self._lease = lease
        self._follow = follow
        self._version_ids: list[int] = []
        self._due = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pgvmig-companion", daemon=True)
        self.woken = threading.Event()
        self.error: PgvmigError | None = None

    @property
    def pid(self) -> int:
        """Its backend's process id."""
        return self._conn.info.backend_pid

    def __enter__(self) -> Self:
        if self._follow:
            self._conn.execute(f"LISTEN {CHANNEL}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=5)
        self._conn.close()

    def look_after(self, version_ids: Iterable[int]) -> None:
        """Be the listener for these versions, as soon as the thread gets to it: the connection is its alone."""
        self._version_ids = list(version_ids)
        self._due = 0.0

    def _run(self) -> None:
        interval = min(self._lease, FOLLOWER_WINDOW).total_seconds() / 3
        try:
            while not self._over.is_set():
                if time.monotonic() >= self._due:
                    self._due = time.monotonic() + interval
                    # our own batch may hold a lease for longer than we wait for it; the next time is soon
                    with suppress(*PASSING):
                        self._renew()
                self._listen()
        except psycopg.Error as error:
            self.error = translate(error)
            self.woken.set()

    def _listen(self) -> None:
        if not self._follow:
            self._over.wait(_TICK)
            return
        for _ in self._conn.notifies(timeout=_TICK, stop_after=1):
            self.woken.set()

    def _renew(self) -> None:
        self._execute("extend_leases", lease=self._lease)
        self._execute("seen")
        if self._follow and self._version_ids:
            self._execute("follow", version_ids=self._version_ids, window=FOLLOWER_WINDOW)

    def _execute(self, name: str, **given: Any) -> None:
        with self._conn.transaction():
            self._conn.execute(files.query("backfill", "transaction_settings"))
            self._conn.execute(files.query("backfill", name), {"run_id": self._run_id, **given})

"""Hangs up on a server that does not answer: frozen, or behind a line that swallows everything.

Every statement of the worker has a time limit of its own, which only a server that is alive can keep; and libpq waits
for ever. Hanging up makes it a lost connection, which is somebody else's to deal with.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

# The worker's statement_timeout is 60 s.
NO_ANSWER = 75.0
# When the run should have ended already.
NO_ANSWER_AT_THE_END = 10.0
_LOOK = 0.25


class Watchdog:
    """Watches one connection until it is told to stop. `ending` says whether the run should end."""

    def __init__(self, conn: psycopg.Connection[Any], ending: Callable[[], bool]) -> None:
        self._conn = conn
        self._ending = ending
        self._asked_at: float | None = None
        self._over = threading.Event()
        self._wait = conn.wait
        # All that psycopg sends, it waits for here.
        conn.wait = self._watched  # type: ignore[method-assign]
        threading.Thread(target=self._run, name="pgvmig-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()

    def _watched(self, *args: Any, **kwargs: Any) -> Any:
        self._asked_at = time.monotonic()
        try:
            return self._wait(*args, **kwargs)
        finally:
            self._asked_at = None

    def _run(self) -> None:
        while not self._over.wait(_LOOK):
            asked_at = self._asked_at
            patience = NO_ANSWER_AT_THE_END if self._ending() else NO_ANSWER
            if asked_at is not None and time.monotonic() - asked_at > patience:
                self._hang_up()
                return

    def _hang_up(self) -> None:
        # Closing would not wake the thread that waits for an answer; the end of the stream does.
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._conn.fileno())) as stream:
            stream.shutdown(socket.SHUT_RDWR)

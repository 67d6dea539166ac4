"""Threads that run only as far as they are told to: the real code, in an order that a test chooses.

A thread stops before every statement that it sends and goes on when it is let. One that waits for somebody's lock in
PostgreSQL counts as stopped too; it goes on by itself when the lock is free.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

# Nothing here takes seconds; what does, hangs.
_PATIENCE = 30.0
_LOOK = 0.004
_here = threading.local()


class KilledError(BaseException):
    """The thread was told to end at once, as SIGKILL ends a process."""


def point(name: str | None = None) -> None:
    """Stop here, in a thread that is stepped; go on in any other."""
    actor = getattr(_here, "actor", None)
    if actor is not None:
        actor.stop(name)


class SteppedConnection(psycopg.Connection[Any]):
    """Stops before every statement, each of which has a cursor of its own."""

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for leave, then return a cursor."""
        point()
        return super().cursor(*args, **kwargs)


class Actor:
    """Runs `work` in a thread, step by step. `blocked` says whether it waits for a lock; `at` is where it stopped."""

    def __init__(self, work: Callable[[], None], blocked: Callable[[], bool]) -> None:
        self._work = work
        self._blocked = blocked
        self._changed = threading.Condition()
        self._leave = 0
        self.at: str | None = None
        self._stopped = self._killed = False
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether its work is over."""
        return not self._thread.is_alive()

    def stop(self, name: str | None) -> None:
        """Wait for leave; called by its own thread."""
        with self._changed:
            self.at = name
            self._stopped = True
            self._changed.notify_all()
            while not self._leave and not self._killed:
                self._changed.wait()
            if self._killed:
                raise KilledError
            self._leave -= 1
            self._stopped = False

    def step(self, steps: int) -> None:
        """Let it take so many steps; return when it has, has ended, or waits for a lock."""
        with self._changed:
            self._leave += steps
            self._stopped = False
            self._changed.notify_all()
        self.settle()

    def kill(self) -> None:
        """Let its next step be its end."""
        with self._changed:
            self._killed = True
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(_PATIENCE)
        assert self.ended, "it does not end"

    def settle(self) -> None:
        """Wait until it stands still."""
        deadline = time.monotonic() + _PATIENCE
        while not self._stands_still():
            assert time.monotonic() < deadline, "it neither stops nor waits for a lock"

    def _stands_still(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self.ended, _LOOK)
            if self._stopped or self.ended:
                return True
        return self._blocked()

    def _run(self) -> None:
        _here.actor = self
        try:
            self._work()
        except KilledError:
            pass
        except BaseException as error:  # noqa: BLE001  # raised in the test's own thread
            self.error = error
        finally:
            with self._changed:
                self._changed.notify_all()


class Session:
    """A connection of the application's, which sends one statement after the other and can be kept waiting."""

    def __init__(self, connection: psycopg.Connection[Any], blocked: Callable[[int], bool]) -> None:
        self.connection = connection
        self.pid = connection.info.backend_pid
        self._blocked = blocked
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether its last statement still waits for a lock."""
        return not self._idle.is_set()

    def do(self, job: Callable[[], None]) -> None:
        """Start a job; return when it is done or waits for a lock."""
        assert not self.busy
        self._idle.clear()
        self._jobs.put(job)
        self.settle()

    def settle(self) -> None:
        """Wait until it stands still."""
        deadline = time.monotonic() + _PATIENCE
        while not self._idle.wait(_LOOK) and not self._blocked(self.pid):
            assert time.monotonic() < deadline, "a statement neither ends nor waits for a lock"

    def close(self) -> None:
        """End the thread and the connection."""
        self._jobs.put(None)
        self._thread.join(_PATIENCE)
        self.connection.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            finally:
                self._idle.set()

"""Requests to providers while they are on their way, each in a thread of its own.

Daemon threads: a request that nobody waits for any more must not keep the process from ending.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Finished(Generic[T, R]):
    """What came of a request: `result`, or the `error` that it raised."""

    of: T
    result: R | None
    error: Exception | None


class InFlight(Generic[T, R]):
    """Requests that were sent and not yet collected."""

    def __init__(self) -> None:
        self._finished: queue.SimpleQueue[Finished[T, R]] = queue.SimpleQueue()
        self._open = 0

    def __len__(self) -> int:
        return self._open

    def send(self, of: T, request: Callable[[], R]) -> None:
        """Start a request."""
        self._open += 1
        threading.Thread(target=self._ask, args=(of, request), name="pgvmig-request", daemon=True).start()

    def collect(self, timeout: float) -> Finished[T, R] | None:
        """Return the next that is finished, None when there is none within `timeout` seconds."""
        try:
            finished = self._finished.get(timeout=timeout) if timeout > 0 else self._finished.get_nowait()
        except queue.Empty:
            return None
        self._open -= 1
        return finished

    def _ask(self, of: T, request: Callable[[], R]) -> None:
        try:
            self._finished.put(Finished(of, request(), None))
        except Exception as error:  # noqa: BLE001  # it is raised where the result is collected
            self._finished.put(Finished(of, None, error))

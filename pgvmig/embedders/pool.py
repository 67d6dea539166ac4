"""Threads for requests. Knows nothing of what is asked.

Not concurrent.futures' own pool: Python joins its threads before the process ends, and a provider that does not answer
would keep a worker from ending when it is told to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
_Task: TypeAlias = tuple["Future[T]", Callable[[], T]]


class Pool(Generic[T]):
    """At most `size` calls at once, each in a daemon thread; the others wait in their order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: SimpleQueue[_Task[T] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have it called; the future can be cancelled until it is."""
        future: Future[T] = Future()
        self._tasks.put((future, call))
        with self._starting:
            if len(self._threads) < self._size:
                self._threads.append(threading.Thread(target=self._work, name="pgvmig-embed", daemon=True))
                self._threads[-1].start()
        return future

    def close(self) -> None:
        """Cancel what waits, and wait for what is on its way."""
        with suppress(Empty):
            while (task := self._tasks.get_nowait()) is not None:
                task[0].cancel()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, call = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
                future.set_exception(error)

"""SIGTERM and Ctrl-C as an orderly end, for commands that run until they are told to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """Set the event on SIGTERM and Ctrl-C; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def end(number: int, _frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

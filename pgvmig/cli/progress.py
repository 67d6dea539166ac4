"""What commands show while they work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

# A figure that jumps cannot be read.
_RATE_SECONDS = 30.0


class Rate:
    """Rows a second over the last half minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: list[tuple[float, int]] = []

    def add(self, rows: int) -> float | None:
        """Take how many rows are done; return the rate, None when it is too early to tell."""
        now = self._clock()
        self._seen.append((now, rows))
        while len(self._seen) > 2 and now - self._seen[1][0] > _RATE_SECONDS:  # noqa: PLR2004
            del self._seen[0]
        began, before = self._seen[0]
        return (rows - before) / (now - began) if now - began >= 1 and rows > before else None


@contextlib.contextmanager
def progress(*, shown: bool) -> Iterator[Callable[[Any], None]]:
    """Show a bar for each version: how far the walk over its table is, what was done on the way, how it goes on."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, disable=not shown) as bars:
        tasks: dict[str, tuple[TaskID, Rate]] = {}

        def report(at: Any) -> None:
            name = at.version.name
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=None, said=""), Rate()
            task, rate = tasks[name]
            position = at.position
            said = describe(at, rate.add(at.counters.rows))
            bars.update(task, completed=position.next_block, total=position.end_block or None, said=said)

        yield report


def describe(at: Any, rate: float | None) -> str:
    """Return the line beside the bar: rows, how long it takes yet, and what is in the way."""
    parts = [f"{at.counters.written:,} rows"]
    if at.rows:
        parts[0] = f"{at.counters.written:,} of about {at.rows:,} rows"
    if rate is not None:
        parts.append(f"{rate:,.0f} rows/s")
        if (left := _left(at)) is not None:
            parts.append(f"about {span(left / rate)} left")
    return ", ".join([*parts, *_in_the_way(at)])


def _in_the_way(at: Any) -> list[str]:
    if at.trouble:
        return [f"asks again: {at.trouble}"]
    if at.pace is not None and at.pace.state != "running":
        return [f"{at.pace.state}: {at.pace.reason}"]
    if at.waiting:
        return [f"waits: {at.waiting}"]
    return [at.pace.reason] if at.pace is not None and at.pace.reason else []


def span(seconds: float) -> str:
    """Return a time span as people say it: `40 s`, `12 min`, `3.5 h`."""
    for unit, length in (("days", 172_800), ("h", 7200), ("min", 120)):
        if seconds >= length:
            of = {"days": 86_400, "h": 3600, "min": 60}[unit]
            return f"{seconds / of:.1f} {unit}" if unit != "min" else f"{seconds / of:.0f} {unit}"
    return f"{timedelta(seconds=seconds).total_seconds():.0f} s"


def _left(at: Any) -> float | None:
    """Return an estimate of the rows that the walk has before it."""
    position = at.position
    if not at.rows or not position.end_block or position.walked:
        return None
    return float(at.rows * (1 - position.next_block / position.end_block))


@contextlib.contextmanager
def bars(*, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each measurement, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield report

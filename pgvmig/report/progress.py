"""What workers had written by when, as a speed over time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

from pgvmig.report.facts import Moment, Stop

# So many stretches show every stop of a backfill and stay a small drawing.
STRETCHES = 120


def moments(
    rows: Iterable[Mapping[str, Any]], began: datetime, ended: datetime, stretches: int = STRETCHES
) -> list[Moment]:
    """Return the speed of all workers together and their worst lag, in equal stretches of time.

    `rows` are `run_id, at, rows_written, lag`, of one run after the other and each in its order. What was written
    between two rows was written evenly.
    """
    seconds = (ended - began).total_seconds()
    rows = list(rows)
    # No more stretches than there were readings: between two of them nobody knows more than the mean.
    stretches = max(1, min(stretches, len(rows)))
    length = seconds / stretches
    if length <= 0:
        return []
    written = [0.0] * stretches
    lags: list[float | None] = [None] * stretches
    for _, run in groupby(rows, key=lambda row: row["run_id"]):
        for before, after in pairwise(run):
            _spread(written, (before["at"] - began).total_seconds(), (after["at"] - began).total_seconds(),
                    after["rows_written"] - before["rows_written"], length)  # fmt: skip
    for row in rows:
        if row["lag"] is not None:
            i = min(int((row["at"] - began).total_seconds() / length), stretches - 1)
            lags[i] = max(lags[i] or 0.0, row["lag"])
    middle = [began + timedelta(seconds=(i + 0.5) * length) for i in range(stretches)]
    return [
        Moment(at=at, rows_per_second=rows / length, lag=lag)
        for at, rows, lag in zip(middle, written, lags, strict=True)
    ]


def _spread(written: list[float], start: float, end: float, rows: float, length: float) -> None:
    """Add rows, written evenly from `start` to `end`, to the stretches that this touches."""
    whole = max(end - start, 1e-9)
    first = min(int(start / length), len(written) - 1)
    last = min(int(end / length), len(written) - 1)
    for i in range(first, last + 1):
        until = (i + 1) * length if i < len(written) - 1 else max(end, (i + 1) * length)
        share = (min(end, until) - max(start, i * length)) / whole
        written[i] += rows * (share if first != last else 1.0)


def merged(stops: Sequence[Stop], gap: timedelta) -> list[tuple[datetime, datetime]]:
    """Return from when to when somebody was stopped; what is nearer than `gap` is one."""
    spans: list[tuple[datetime, datetime]] = []
    for stop in sorted(stops, key=lambda stop: stop.began):
        if spans and stop.began - spans[-1][1] <= gap:
            spans[-1] = (spans[-1][0], max(spans[-1][1], stop.ended))
        else:
            spans.append((stop.began, stop.ended))
    return spans

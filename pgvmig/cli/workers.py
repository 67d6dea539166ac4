"""The part of `pgvmig status` that is about workers: how they go on, why not faster, and when they will be done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pgvmig.cli import output
from pgvmig.cli.progress import span

Row = dict[str, Any]

# Below that a backfill pays for the old index with nearly every row.
POOR_HOT_SHARE = 0.5
_CHANGES = 5


def show(found: Row) -> None:
    """Print the workers, what holds them up, and the last changes of their pace."""
    workers = [(version, worker) for version in found["versions"] for worker in version["workers"]]
    if workers:
        columns = ("version", "process", "state", "written", "rows/s", "batch", "HOT", "peak lag")
        output.table("Workers", columns, [_row(version, worker) for version, worker in workers])
    for version, worker in workers:
        for line in _remarks(worker):
            output.say(f"{_name(version)} {_process(worker)}: {line}")
    for version in found["versions"]:
        for line in _outlook(version):
            output.say(f"{_name(version)}: {line}")
    _show_changes(found["pacing"])


def state(worker: Row) -> str:
    """Return in a few words how it is with a worker."""
    if worker["ended_at"] is not None:
        return f"ended: {worker['ended_why']}"
    if worker["silent"]:
        return f"not heard of for {_ago(worker['silent_for'])}"
    return worker["state"] or "starting"


def hot_share(worker: Row) -> float | None:
    """Return which share of a worker's updates was HOT, None where it has updated nothing."""
    updated, hot = worker["rows_updated"], worker["rows_hot"]
    return hot / updated if updated and hot is not None else None


def _row(version: Row, worker: Row) -> tuple[Any, ...]:
    hot = hot_share(worker)
    lag = worker["peak_lag"]
    return (
        _name(version),
        _process(worker),
        state(worker),
        worker["rows_written"],
        _rate(worker["rows_per_second"]),
        worker["batch_size"],
        None if hot is None else f"{hot:.0%}",
        None if lag is None else f"{lag.total_seconds():.2f} s",
    )


def _remarks(worker: Row) -> Iterator[str]:
    if worker["ended_at"] is not None:
        return
    if worker["silent"]:
        yield "killed, or cut off from the database; its rows are free for others when its leases are over"
        return
    reason = worker["waiting"] or worker["reason"]
    if reason:
        since = f" for {_ago(worker['for'])}" if worker["for"] is not None else ""
        step = f". Next: {worker['next']}" if worker["next"] else ""
        yield f"{worker['state'] or 'waits'}{since}: {reason}{step}"
    if worker["speed"] is not None and worker["speed"] < 1:
        yield f"goes at {worker['speed']:.0%} of its speed"


def _outlook(version: Row) -> Iterator[str]:
    progress = version["progress"]
    if progress is None:
        return
    left, total, eta = (progress[key] for key in ("rows_left_estimate", "rows_estimate", "eta_seconds"))
    if left and total and version["writer"] == "worker":
        when = f", about {span(eta)} at this speed" if eta else ""
        yield f"about {left:,} of {total:,} rows left to walk over{when} (estimates)"
    if progress["leases_over"]:
        number = progress["leases_over"]
        what = "1 lease has" if number == 1 else f"{number:,} leases have"
        yield f"{what} run out: the next worker takes them over"
    if version["horizon"] is not None:
        yield f"{version['horizon']['reason']}. Next: {version['horizon']['next_step'] or 'let it end'}"


def _show_changes(changes: list[Row]) -> None:
    if changes:
        output.table(
            "Last changes of pace",
            ("at", "process", "state", "reason"),
            [(f"{c['at']:%H:%M:%S}", _process(c), c["state"], c["reason"]) for c in changes[:_CHANGES]],
        )


def _name(version: Row) -> str:
    return f"{version['target']} {version['version']}"


def _process(worker: Row) -> str:
    return f"{worker['host']}:{worker['pid']}"


def _rate(rows_per_second: float | None) -> str | None:
    return None if rows_per_second is None else f"{rows_per_second:,.0f}"


def _ago(interval: Any) -> str:
    return span(interval.total_seconds())

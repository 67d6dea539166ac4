"""Whoever is blocked by us: the application's sessions behind a batch, or a migration's lock behind a worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pgvmig.pacing.definition import Look, Signal, unset
from pgvmig.pacing.signals import Reading, Subject, ok, share, stop
from pgvmig.pacing.units import session, span

NAME = "blocked sessions"

# Behind PgBouncer the process ids that a client is told are not the server's, so our sessions go by their name as well.
OURS = "pgvmig "
# A worker that waits for another's batch: nobody's search is late by it, and a pause would help neither.
WORKER = f"{OURS}backfill"


def _judge(look: Look) -> tuple[Reading, ...]:
    limit = look.limits.max_blocking or timedelta()
    blocked = [row for row in look.rows if row["application_name"] != WORKER and _blockers(row, look.subject)]
    if not blocked:
        return (ok(NAME, "nobody is blocked by us", pressure=0.0),)
    worst = max(blocked, key=_waited)
    waited, pressure = _waited(worst), share(_waited(worst), limit)
    by = ", ".join(str(pid) for pid in _blockers(worst, look.subject))
    reason = f"{session(worst)} has been blocked by us (pid {by}) for {span(waited)}"
    if waited <= limit:
        return (ok(NAME, reason, pressure=pressure),)
    more = f", {len(blocked)} in all" if len(blocked) > 1 else ""
    return (
        stop(
            NAME,
            f"{reason}{more}; the limit is {span(limit)}",
            "it ends with our transaction; if it keeps coming back, lower target_time",
            pressure=pressure,
        ),
    )


def _blockers(row: Mapping[str, Any], subject: Subject | None) -> list[int]:
    pids = subject.pids if subject is not None else frozenset()
    return [
        blocker["pid"]
        for blocker in row["blockers"] or []
        if blocker["pid"] in pids or (blocker["application_name"] or "").startswith(OURS)
    ]


def _waited(row: Mapping[str, Any]) -> timedelta:
    return timedelta(seconds=max(row["waited"] or 0.0, 0.0))


SIGNAL = Signal(
    name=NAME,
    meaning="nobody has been waiting for a lock of one of pgvmig's sessions for longer than `max_blocking`",
    incident="an UPDATE of the application waits for a batch to commit, and a queue forms behind its own locks",
    judge=_judge,
    limits=("max_blocking",),
    off=unset("max_blocking"),
    query="blocked",
    needs_figures=True,
)

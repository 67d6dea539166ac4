"""Synchronous replication: commits wait for a standby, for ever when it is gone."""

from __future__ import annotations

import re
from datetime import timedelta

from pgvmig.pacing.definition import Look, Signal
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import Reading, ok, share, stop, unknown
from pgvmig.pacing.snapshot import Snapshot
from pgvmig.pacing.units import session, span

NAME = "synchronous replication"

# `s1, s2` means FIRST 1 (s1, s2); FIRST may be left out.
_NUMBER = re.compile(r"\s*(?:(?:FIRST|ANY)\s+)?(\d+)\s*\(", re.IGNORECASE)


def needed(names: str) -> int:
    """Return how many standbys a commit waits for by that value of synchronous_standby_names."""
    match = _NUMBER.match(names)
    return int(match[1]) if match else 1


def _judge(look: Look) -> tuple[Reading, ...]:
    names = look.snapshot.synchronous_standby_names
    if names is None:
        return (unknown(NAME, "synchronous_standby_names was not read"),)
    (row,) = look.rows
    if row["connected"] < needed(names):
        return (
            stop(
                NAME,
                f"{row['connected']} of {needed(names)} synchronous standbys are connected "
                f"(synchronous_standby_names is {names!r}), so every COMMIT hangs",
                "start them, or ALTER SYSTEM SET synchronous_standby_names to those that are there; "
                "SELECT pg_reload_conf()",
            ),
        )
    return (_judge_waits(look),)


def _judge_waits(look: Look) -> Reading:
    waiting = look.rows[0]["waiting"] or []
    limit = look.limits.max_sync_wait
    if not waiting or limit is None:
        return ok(NAME, "nobody waits for synchronous replication", pressure=0.0)
    worst = max(waiting, key=lambda row: row["waited"] or 0)
    waited = timedelta(seconds=worst["waited"] or 0)
    pressure = share(waited, limit)
    reason = f"{session(worst)} has been waiting for synchronous replication for {span(waited)}"
    if waited <= limit:
        return ok(NAME, reason, pressure=pressure)
    return stop(
        NAME,
        f"{reason}, {len(waiting)} in all; the limit is {span(limit)}",
        "look at the synchronous standby's disk and network, or let another one take its part",
        pressure=pressure,
    )


def _off(_: Limits, snapshot: Snapshot) -> str | None:
    return "synchronous_standby_names is empty" if snapshot.synchronous_standby_names == "" else None


SIGNAL = Signal(
    name=NAME,
    meaning="as many synchronous standbys are connected as a commit waits for, and nobody has waited longer than "
    "`max_sync_wait`",
    incident="a synchronous standby is gone and every commit hangs, past statement_timeout, the application's as well",
    judge=_judge,
    limits=("max_sync_wait",),
    off=_off,
    query="synchronous",
    needs_figures=True,
)

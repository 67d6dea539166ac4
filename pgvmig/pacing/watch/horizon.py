"""What holds back the xmin horizon: while it stands still no dead row version can be removed.

A held horizon undoes HOT: each update then needs room on another page, and an entry in every index. So a worker
that rewrites rows goes at half speed once that has lasted a while, for a report or a dump ends by itself and a backfill
that stops for each would never end. It stops when it has lasted far longer than any transaction should: then somebody
has forgotten it. A side table that is only appended to leaves nothing to prune.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pgvmig.pacing.definition import Look, Signal, unset
from pgvmig.pacing.signals import Reading, Subject, ok, share, stop
from pgvmig.pacing.units import literal, session, span

NAME = "xmin horizon"

# Of our own sessions these hold transactions open as a matter of course, none of them for long.
_OURS = frozenset({"pgvmig backfill", "pgvmig pacing"})
_SPEED = 0.5
# A snapshot that is so much older than the statement that uses it is its transaction's (REPEATABLE READ, as pg_dump
# has it): statement after statement it looks young, and has held since the transaction began. Under that, it may
# have its xmin from another transaction that ran when it began.
_OLDER_SECONDS = 30.0


def _judge(look: Look) -> tuple[Reading, ...]:
    holders = [(_held(row, look), row) for row in look.rows if not _own(row, look.subject)]
    if not holders:
        return (ok(NAME, "nobody holds back the xmin horizon", pressure=0.0),)
    held, row = max(holders, key=lambda holder: holder[0])
    return (_judge_oldest(look, held, row),)


def _judge_oldest(look: Look, held: timedelta, row: Mapping[str, Any]) -> Reading:
    slow, longest = look.limits.max_horizon_age, look.limits.stop_horizon_age
    reason = f"{_holder(row)} has held back the xmin horizon for {span(held)}"
    pressure = None if longest is None else share(held, longest)
    if look.subject is not None and not look.subject.rewrites:
        return ok(NAME, f"{reason}, which does not matter to a table that is only appended to", pressure=0.0)
    if longest is not None and held > longest:
        return stop(NAME, f"{reason}, the limit is {span(longest)}", _step(row), pressure=pressure)
    if slow is not None and held > slow:
        return ok(NAME, f"{reason}: updates are no longer HOT", next_step=_step(row), pressure=pressure, speed=_SPEED)
    return ok(NAME, reason, pressure=pressure)


def _own(row: Mapping[str, Any], subject: Subject | None) -> bool:
    if row["kind"] != "session":
        return False
    return row["application_name"] in _OURS or (subject is not None and row["pid"] in subject.pids)


def _held(row: Mapping[str, Any], look: Look) -> timedelta:
    """Return for how long, at least: by the holder's own time, and by when we saw the transaction after its xmin."""
    held, opened = max(row["held"] or 0.0, 0.0), row["open"]
    if look.snapshot.xid is None or row["xids"] is None or row["kind"] == "prepared":
        return timedelta(seconds=held)
    seen = look.history.xids.age(look.snapshot.xid - row["xids"], look.snapshot.began, look.snapshot.ended).at_least
    if opened is None:
        return timedelta(seconds=max(held, seen))
    if seen - held > _OLDER_SECONDS:
        return timedelta(seconds=opened)
    # A session cannot have held it for longer than its transaction has been open.
    return timedelta(seconds=max(held, min(seen, opened)))


def _holder(row: Mapping[str, Any]) -> str:
    if row["kind"] == "prepared":
        return f"prepared transaction {row['gid']} ({row['usename']})"
    if row["kind"] == "slot":
        return f"replication slot {row['slot_name']} ({'active' if row['active'] else 'inactive'})"
    if row["backend_type"] == "walsender":
        return f"standby {row['application_name']}, by hot_standby_feedback,"
    return session(row)


def _step(row: Mapping[str, Any]) -> str:
    if row["kind"] == "prepared":
        return f"COMMIT PREPARED or ROLLBACK PREPARED {literal(row['gid'])}"
    if row["kind"] == "slot" and not row["active"]:
        return f"start its standby, or SELECT pg_drop_replication_slot({literal(row['slot_name'])}) if it is gone"
    if row["kind"] == "slot" or row["backend_type"] == "walsender":
        return "end the long query on that standby (its hot_standby_feedback holds the primary's rows)"
    return f"let it end, or SELECT pg_terminate_backend({row['pid']})"


SIGNAL = Signal(
    name=NAME,
    meaning="no transaction, prepared transaction, slot or standby has held back the xmin horizon for longer than "
    "`max_horizon_age` (half speed) or `stop_horizon_age` (stop); does not matter to a side table",
    incident="an analyst's session stays open over night, nothing can be pruned, and the backfill leaves a table of "
    "twice the size and bloated indexes",
    judge=_judge,
    limits=("max_horizon_age", "stop_horizon_age"),
    off=unset("max_horizon_age", "stop_horizon_age"),
    query="horizon",
    every=1.0,
    needs_figures=True,
)

"""Amazon Aurora: replicas that share the primary's storage, known by aurora_replica_status(). Pure.

Follows the Aurora User Guide's description of the function; judged in tests by recorded rows only, as no Aurora can be
had outside of its cloud. There pg_current_wal_lsn() and pg_stat_replication say nothing of the replicas. The primary's
`durable_lsn` takes the part of its WAL position, a replica's that of what it has replayed, `replica_lag_in_msec` that
of its lag; a replica's `server_id` is the name to declare it by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pgvmig.catalog.standbys import Standby
from pgvmig.pacing.definition import MAX_AGE_SECONDS
from pgvmig.pacing.snapshot import Position

_PRIMARY = "MASTER_SESSION_ID"


def primary_lsn(rows: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the primary's durable LSN, None when the function does not show it."""
    return next((row["durable_lsn"] for row in rows if row["session_id"] == _PRIMARY), None)


def standbys(rows: Iterable[Mapping[str, Any]], declared: Iterable[Standby]) -> list[Standby]:
    """Return the replicas in the form of pg_stat_replication's, with the declared standbys that are none of them."""
    by_name = {standby.name: standby for standby in declared if standby.declared}
    found = [_standby(row, by_name) for row in rows if row["session_id"] != _PRIMARY]
    there = {standby.name for standby in found}
    return found + [standby for name, standby in by_name.items() if name not in there or standby.connected]


def problems(rows: Sequence[Mapping[str, Any]]) -> dict[str, Position]:
    """Return what is wrong with what a replica reported: it has gone silent, or never said when it did."""
    found = {}
    for row in rows:
        if row["session_id"] == _PRIMARY or (row["age"] is not None and row["age"] <= MAX_AGE_SECONDS):
            continue
        when = "does not say when it last reported" if row["age"] is None else f"last reported {row['age']:.1f} s ago"
        found[row["server_id"]] = Position(
            problem=f"{when} (aurora_replica_status())", next_step="look at that instance in the RDS console"
        )
    return found


def _standby(row: Mapping[str, Any], declared: Mapping[str, Standby]) -> Standby:
    lag = row["replica_lag_in_msec"]
    known = declared.get(row["server_id"]) or Standby(name=row["server_id"], declared=False)
    return replace(
        known,
        pid=0,  # it has no sender here; connected all the same
        state="streaming",
        replay_lsn=row["durable_lsn"],
        replay_lag=None if lag is None else timedelta(milliseconds=lag),
    )

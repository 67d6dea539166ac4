"""Vacuum of a table that we write: an ordinary one halves the speed, one against wraparound stops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgvmig.pacing.definition import Look, Signal
from pgvmig.pacing.signals import Reading, ok, stop

NAME = "vacuum"

# Not a stop: the worker's own dead rows would have autovacuum run all the time, and starve the worker.
_SPEED = 0.5


def _judge(look: Look) -> tuple[Reading, ...]:
    rows = [row for row in look.rows if look.about(row)]
    return tuple(_judge_table(row) for row in rows) or (ok(NAME, "no vacuum runs on the table"),)


def _judge_table(row: Mapping[str, Any]) -> Reading:
    age = f"its oldest transaction is {row['xids']:,} transactions old"
    if row["pid"] is not None and (_names_wraparound(row) or row["xids"] > row["freeze_max_age"]):
        return stop(
            NAME,
            f"a vacuum against wraparound runs on {row['target']} (pid {row['pid']}, {row['phase']}); {age}",
            "let it end; see pg_stat_progress_vacuum",
        )
    if row["xids"] > row["failsafe_age"]:
        return stop(
            NAME,
            f"{row['target']} is in danger of wraparound: {age}, vacuum_failsafe_age is {row['failsafe_age']:,}",
            f"VACUUM (FREEZE, INDEX_CLEANUP OFF) {row['target']}",
        )
    if row["pid"] is not None:
        return ok(NAME, f"a vacuum runs on {row['target']} (pid {row['pid']}, {row['phase']})", speed=_SPEED)
    return ok(NAME, f"no vacuum runs on {row['target']}")


def _names_wraparound(row: Mapping[str, Any]) -> bool:
    # What autovacuum_main's activity reads: `autovacuum: VACUUM public.documents (to prevent wraparound)`.
    return "to prevent wraparound" in (row["query"] or "")


SIGNAL = Signal(
    name=NAME,
    meaning="no vacuum against wraparound runs on the table, and none is overdue; during an ordinary vacuum the worker "
    "goes at half speed",
    incident="a backfill keeps the vacuum busy that is to prevent transaction ID wraparound, after which the server "
    "takes no more writes",
    judge=_judge,
    query="vacuums",
    every=1.0,
    needs_figures=True,
)

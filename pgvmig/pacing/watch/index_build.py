"""An index build, or a rewrite, of a table that we write."""

from __future__ import annotations

from pgvmig.pacing.definition import Look, Signal
from pgvmig.pacing.signals import Reading, ok, stop
from pgvmig.pacing.units import session

NAME = "index build"


def _judge(look: Look) -> tuple[Reading, ...]:
    builds = [row for row in look.rows if look.about(row)]
    return tuple(
        stop(
            NAME,
            f"{row['command']} runs on {row['target']} ({row['phase']}): {session(row)}",
            "wait for it; what it waits for itself is in pg_stat_progress_create_index",
        )
        for row in builds
    ) or (ok(NAME, "no index is being built on the table"),)


SIGNAL = Signal(
    name=NAME,
    meaning="no CREATE INDEX, REINDEX, CLUSTER or VACUUM FULL runs on the table",
    incident="every row that is written meanwhile goes into the new index as well, one by one, and a concurrent build "
    "has to wait for each of the worker's transactions",
    judge=_judge,
    query="index_builds",
    every=1.0,
    needs_figures=True,
)

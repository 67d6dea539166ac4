"""A cap on the WAL that the cluster writes, measured by our own samples."""

from __future__ import annotations

from pgvmig.pacing.definition import Look, Signal, unset
from pgvmig.pacing.signals import Reading, ok, share, stop, unknown
from pgvmig.pacing.units import size

NAME = "WAL rate"


def _judge(look: Look) -> tuple[Reading, ...]:
    limit = look.limits.max_wal_rate or 0
    rate = look.history.wal_rate
    if rate is None:
        return (unknown(NAME, "how much WAL is written in a second is not known yet"),)
    reason, pressure = f"the cluster writes {size(round(rate))} of WAL in a second", share(rate, limit)
    if rate <= limit:
        return (ok(NAME, reason, pressure=pressure),)
    return (
        stop(
            NAME,
            f"{reason}, the limit is {size(limit)}",
            "it falls while we wait; or raise max_wal_rate",
            pressure=pressure,
        ),
    )


SIGNAL = Signal(
    name=NAME,
    meaning="the cluster has written at most `max_wal_rate` of WAL a second in the last five seconds",
    incident="the link to the replicas or to the archive is shared, and the backfill takes all of it",
    judge=_judge,
    limits=("max_wal_rate",),
    default="off",
    off=unset("max_wal_rate"),
)

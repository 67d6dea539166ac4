"""WAL archiving: what is not archived stays in pg_wal, and point-in-time recovery ends there."""

from __future__ import annotations

from pgvmig.pacing.definition import Look, Signal
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import Reading, ok, share, stop, unknown
from pgvmig.pacing.snapshot import Snapshot

NAME = "WAL archiving"


def _judge(look: Look) -> tuple[Reading, ...]:
    (row,) = look.rows
    limit = look.limits.max_archive_backlog or 0
    if row["ready"] is None:
        return (unknown(NAME, "how many WAL files wait to be archived is not known"),)
    waiting = f"{row['ready']:,} WAL {'file waits' if row['ready'] == 1 else 'files wait'} to be archived"
    pressure = share(row["ready"], limit)
    if row["failing"] and row["ready"]:
        return (
            stop(
                NAME,
                f"archiving fails, last for {row['last_failed_wal']}; {waiting}",
                "look into the server's log for what archive_command or archive_library says",
                pressure=pressure,
            ),
        )
    if row["ready"] > limit:
        return (
            stop(
                NAME,
                f"{waiting}, the limit is {limit:,}",
                "look at the archive's bandwidth, or raise max_archive_backlog",
                pressure=pressure,
            ),
        )
    return (ok(NAME, waiting, pressure=pressure),)


def _off(limits: Limits, snapshot: Snapshot) -> str | None:
    if limits.max_archive_backlog is None:
        return "max_archive_backlog is not set"
    return "archive_mode is off" if snapshot.archive_mode == "off" else None


SIGNAL = Signal(
    name=NAME,
    meaning="WAL archiving has not failed since it last succeeded, and at most `max_archive_backlog` files wait for it",
    incident="archive_command fails or is slower than the backfill, pg_wal grows until the disk is full, and meanwhile "
    "there is no point-in-time recovery",
    judge=_judge,
    limits=("max_archive_backlog",),
    off=_off,
    query="archiving",
    every=1.0,
)

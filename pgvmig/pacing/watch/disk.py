"""Caps on disk space: pg_wal, the database, and what is free where the worker runs on the server's machine.

They give no pressure: nothing is wrong with a database at nine tenths of its cap, and none shrinks to half of it.
"""

from __future__ import annotations

import os

from pgvmig.pacing.definition import Look, Signal, unset
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import Reading, ok, stop, unknown
from pgvmig.pacing.snapshot import Rows
from pgvmig.pacing.units import size

WAL, DATABASE, FREE = "size of pg_wal", "size of the database", "free disk space"


def _cap(name: str, setting: str, what: str, *, step: str, incident: str, query: str, every: float) -> Signal:
    """Return the signal of a size that the database knows, and of the limit that may be set for it."""

    def judge(look: Look) -> tuple[Reading, ...]:
        (row,) = look.rows
        limit = getattr(look.limits, setting)
        if row["bytes"] is None or limit is None:
            return (unknown(name, f"the {name} is not known"),)
        reason = f"the {name} is {size(row['bytes'])}"
        if row["bytes"] <= limit:
            return (ok(name, reason),)
        return (stop(name, f"{reason}, {setting} is {size(limit)}", step),)

    return Signal(
        name=name,
        meaning=f"the {what} is not larger than `{setting}`",
        incident=incident,
        judge=judge,
        limits=(setting,),
        default="off",
        off=unset(setting),
        query=query,
        every=every,
    )


def _free(limits: Limits) -> Rows:
    if limits.disk_path is None:
        return []
    found = os.statvfs(limits.disk_path)
    return [{"path": limits.disk_path, "bytes": found.f_bavail * found.f_frsize}]


def _judge_free(look: Look) -> tuple[Reading, ...]:
    limit = look.limits.min_free_disk or 0
    if not look.rows:
        step = "set disk_path where the worker is started, on the database's own machine"
        return (unknown(FREE, "min_free_disk is set and disk_path is not", step, lasting=True),)
    (row,) = look.rows
    reason = f"{size(row['bytes'])} are free on the file system of {row['path']}"
    if row["bytes"] >= limit:
        return (ok(FREE, reason),)
    return (stop(FREE, f"{reason}, min_free_disk is {size(limit)}", "make room"),)


WAL_SIGNAL = _cap(
    WAL,
    "max_pg_wal",
    "directory pg_wal",
    step="look for what retains WAL (slots, archiving, wal_keep_size), or wait for the next checkpoint",
    incident="pg_wal has a volume of its own, which fills while nobody looks, and the server stops",
    query="pg_wal_size",
    every=1.0,
)

DATABASE_SIGNAL = _cap(
    DATABASE,
    "max_database_size",
    "database",
    step="make room, or raise max_database_size",
    incident="a managed service turns read-only at its storage limit, or grows it, which is billed for ever",
    query="database_size",
    # It asks the file system for every file of the database.
    every=5.0,
)

FREE_SIGNAL = Signal(
    name=FREE,
    meaning="at least `min_free_disk` is free on the file system of `disk_path`",
    incident="PostgreSQL panics when its WAL finds no space",
    judge=_judge_free,
    limits=("min_free_disk", "disk_path"),
    default="off",
    off=unset("min_free_disk"),
    probe=_free,
)

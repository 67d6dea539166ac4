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


def _capped(name: str, setting: str, look: Look, limit: int | None, step: str) -> tuple[Reading, ...]:
    (row,) = look.rows
    if row["bytes"] is None or limit is None:
        return (unknown(name, f"the {name} is not known"),)
    reason = f"the {name} is {size(row['bytes'])}"
    if row["bytes"] <= limit:
        return (ok(name, reason),)
    return (stop(name, f"{reason}, {setting} is {size(limit)}", step),)


def _judge_wal(look: Look) -> tuple[Reading, ...]:
    step = "look for what retains WAL (slots, archiving, wal_keep_size), or wait for the next checkpoint"
    return _capped(WAL, "max_pg_wal", look, look.limits.max_pg_wal, step)


def _judge_database(look: Look) -> tuple[Reading, ...]:
    step = "make room, or raise max_database_size"
    return _capped(DATABASE, "max_database_size", look, look.limits.max_database_size, step)


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


WAL_SIGNAL = Signal(
    name=WAL,
    meaning="the directory pg_wal is not larger than `max_pg_wal`",
    incident="pg_wal has a volume of its own, which fills while nobody looks, and the server stops",
    judge=_judge_wal,
    limits=("max_pg_wal",),
    default="off",
    off=unset("max_pg_wal"),
    query="pg_wal_size",
    every=1.0,
)

DATABASE_SIGNAL = Signal(
    name=DATABASE,
    meaning="the database is not larger than `max_database_size`",
    incident="a managed service turns read-only at its storage limit, or grows it, which is billed for ever",
    judge=_judge_database,
    limits=("max_database_size",),
    default="off",
    off=unset("max_database_size"),
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

"""Replication slots, physical and logical: what nobody fetches stays on the primary's disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgvmig.pacing.definition import Look, Signal, unset
from pgvmig.pacing.signals import Reading, not_applicable, ok, share, stop, unknown
from pgvmig.pacing.units import literal, size

NAME = "replication slots"

# Of what max_slot_wal_keep_size lets a slot retain: others write as well, and the slot is lost at a checkpoint.
_KEEP_SHARE = 0.5


def _judge(look: Look) -> tuple[Reading, ...]:
    if not look.rows:
        return (not_applicable(NAME, "there is no replication slot"),)
    return tuple(_judge_slot(row, look.limits.max_slot_wal or 0, aurora=look.snapshot.aurora) for row in look.rows)


def _judge_slot(row: Mapping[str, Any], limit: int, *, aurora: bool) -> Reading:
    slot, signal = _described(row), f"replication slot {row['slot_name']}"
    if row["wal_status"] == "lost":
        why = f" ({row['invalidated']})" if row["invalidated"] else ""
        return stop(
            signal,
            f"{slot} is lost{why}: its consumer must be built anew",
            f"drop it when its consumer is gone or rebuilt: SELECT pg_drop_replication_slot({_quoted(row)})",
            lasting=True,
        )
    if row["wal_status"] == "unreserved":
        return stop(signal, f"{slot} is unreserved: the next checkpoint removes WAL that it needs", _step(row))
    if row["retains"] is None:
        return _without_figure(signal, slot, row, aurora=aurora)
    kept = None if row["safe_wal_size"] is None else int((row["retains"] + row["safe_wal_size"]) * _KEEP_SHARE)
    return _judge_retained(signal, row, limit if kept is None else min(limit, kept))


def _judge_retained(signal: str, row: Mapping[str, Any], limit: int) -> Reading:
    retained = f"{_described(row)} retains {size(row['retains'])} of WAL"
    pressure = share(row["retains"], limit)
    if row["retains"] > limit:
        return stop(signal, f"{retained}, the limit is {size(limit)}", _step(row), pressure=pressure)
    return ok(signal, retained, pressure=pressure)


def _without_figure(signal: str, slot: str, row: Mapping[str, Any], *, aurora: bool) -> Reading:
    if row["wal_status"] is None:
        return ok(signal, f"{slot} reserves no WAL yet")
    if aurora:
        return ok(signal, f"{slot} is {row['wal_status']}; what it retains is on Aurora's storage, not on this disk")
    return unknown(signal, f"what {slot} retains is not known", "point --dsn at the primary")


def _described(row: Mapping[str, Any]) -> str:
    return f"{row['slot_type']} slot {row['slot_name']} ({'active' if row['active'] else 'inactive'})"


def _step(row: Mapping[str, Any]) -> str:
    if row["active"]:
        return f"look at why the consumer of {row['slot_name']} is slow, or raise max_slot_wal"
    return (
        f"start the consumer of {row['slot_name']}, or SELECT pg_drop_replication_slot({_quoted(row)}) "
        "if it is gone for good"
    )


def _quoted(row: Mapping[str, Any]) -> str:
    return literal(row["slot_name"])


SIGNAL = Signal(
    name=NAME,
    meaning="no replication slot is lost or about to be, and none retains more than `max_slot_wal`, "
    "or half of what max_slot_wal_keep_size lets it",
    incident="a subscriber is down, its slot retains all the WAL that the backfill writes, and the primary's disk "
    "runs full; or the slot is given up, and a standby or a CDC pipeline must be built anew",
    judge=_judge,
    limits=("max_slot_wal",),
    off=unset("max_slot_wal"),
    query="slots",
    every=1.0,
)

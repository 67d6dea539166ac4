"""Rollback triggers in the control schema: declared, listed, removed."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from math import isfinite
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from pgvmig import sql as files
from pgvmig.catalog.connection import translated
from pgvmig.catalog.versions import Version
from pgvmig.errors import NotFoundError, UsageError
from pgvmig.watch.judging import Trigger

_METRIC = re.compile(r"[a-z][a-z0-9_.]{0,62}")
_FIELDS = tuple(field.name for field in fields(Trigger))


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A trigger, and who declared it when."""

    trigger: Trigger
    declared_at: datetime
    declared_by: str

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self.trigger) | {"declared_at": self.declared_at, "declared_by": self.declared_by}


def from_row(row: dict[str, Any]) -> Trigger:
    """Return the trigger of a row that has its columns."""
    return Trigger(**{name: row[name] for name in _FIELDS})


def declared(conn: psycopg.Connection[Any], version: Version) -> list[Declared]:
    """Return the triggers of a version's target."""
    return [_declared(row) for row in _rows(conn, "triggers", version)]


def declare(conn: psycopg.Connection[Any], version: Version, trigger: Trigger) -> None:
    """Declare a trigger; of a metric and a side the last one counts. Raises UsageError for one that cannot be."""
    _check(trigger)
    given = {name: sql.Literal(value) for name, value in asdict(trigger).items()}
    with translated(), conn.transaction():
        conn.execute(files.query("watch", "declare", **_target(version), **given))
        _record(conn, "add trigger", version, trigger)


def remove(
    conn: psycopg.Connection[Any], version: Version, metric: str, comparison: str | None = None
) -> list[Declared]:
    """Remove a metric's triggers, or that of one side, and return them. Raises NotFoundError when there is none."""
    with translated(), conn.transaction():
        given = {"metric": sql.Literal(metric), "comparison": sql.Literal(comparison)}
        removed = [_declared(row) for row in _rows(conn, "remove", version, **given)]
        for found in removed:
            _record(conn, "remove trigger", version, found.trigger)
    if not removed:
        side = f" {comparison}" if comparison else ""
        raise NotFoundError(
            f"{version.label} has no trigger on {metric}{side}", next_step=f"pgvmig trigger list {version.label}"
        )
    return removed


def _check(trigger: Trigger) -> None:
    if not _METRIC.fullmatch(trigger.metric):
        raise UsageError(
            f"{trigger.metric!r} is not a metric's name",
            next_step="write it in small letters, digits, dots and underscores: errors, latency_ms",
        )
    if not isfinite(trigger.bound):
        raise UsageError(f"a bound of {trigger.bound} is never met", next_step="give a finite number")
    if trigger.relative and trigger.bound <= 0:
        raise UsageError(
            f"{trigger.bound:g} times another figure is no bound",
            next_step="give a multiple, such as --above 1.5 --relative: half as much again as before",
        )
    if trigger.over.total_seconds() <= 0:
        raise UsageError("no value is as new as that", next_step="give --over 5m")
    if trigger.min_values < 1:
        raise UsageError(f"at least {trigger.min_values} values are always there", next_step="give --min-values 50")


def _declared(row: dict[str, Any]) -> Declared:
    return Declared(trigger=from_row(row), declared_at=row["declared_at"], declared_by=row["declared_by"])


def _record(conn: psycopg.Connection[Any], verb: str, version: Version, trigger: Trigger) -> None:
    detail = asdict(trigger) | {"over": trigger.over.total_seconds()}
    conn.execute(
        files.query("watch", "record", **_target(version), verb=sql.Literal(verb), detail=sql.Literal(Jsonb(detail)))
    )


def _rows(conn: psycopg.Connection[Any], name: str, version: Version, **parts: sql.Literal) -> list[dict[str, Any]]:
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(files.query("watch", name, **_target(version), **parts)).fetchall()


def _target(version: Version) -> dict[str, sql.Literal]:
    return {"relation": sql.Literal(version.relation), "slot": sql.Literal(version.slot)}

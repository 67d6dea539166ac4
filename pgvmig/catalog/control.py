"""What an operator changes while workers run: pauses, and limits that win over configuration and command line.

Limits are kept as JSON by name; what they mean and which there are is pgvmig.pacing's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from pgvmig import sql
from pgvmig.catalog import versions
from pgvmig.catalog.connection import translated


@dataclass(frozen=True, slots=True)
class Scope:
    """A table's slot, or one version of it; None stands for everything in the database."""

    relation: int | None
    slot: str | None
    label: str | None
    version: str | None = None

    @property
    def words(self) -> str:
        """What commands call it: `documents v2`, and nothing for everything."""
        return " ".join(word for word in (self.label, self.version) if word)


EVERYTHING = Scope(None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Who paused what, and why. `target` is None for everything, `version` for all versions of the target."""

    target: str | None
    relation: int | None
    slot: str | None
    version: str | None
    paused_at: datetime
    paused_by: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """Which limits were changed for a target, by whom, and when the last time."""

    target: str
    relation: int
    slot: str
    settings: dict[str, Any]
    changed_at: datetime
    changed_by: str


def scope(conn: psycopg.Connection[Any], target: str | None, version: str | None = None) -> Scope:
    """Return what the operator named. Raises UsageError, NotFoundError."""
    if target is None:
        return EVERYTHING
    with translated():
        found = versions.select(conn, target, version)[0]
    return Scope(found.relation, found.slot, found.label, version)


def pauses(conn: psycopg.Connection[Any]) -> list[Pause]:
    """Return all pauses, that of everything first."""
    with translated(), conn.cursor(row_factory=class_row(Pause)) as cursor:
        return cursor.execute(sql.query("control", "pauses")).fetchall()


def pause(conn: psycopg.Connection[Any], what: Scope, reason: str | None = None) -> bool:
    """Let nothing be written; return false when it was paused already, by whoever has said so first."""
    with translated(), conn.transaction():
        changed = bool(conn.execute(sql.query("control", "pause"), _of(what, reason=reason)).rowcount)
        if changed:
            _record(conn, "pause", what, reason)
    return changed


def resume(conn: psycopg.Connection[Any], what: Scope) -> bool:
    """Take a pause back; return false when there was none. Those of everything, tables and versions are apart.

    Everything includes that this database is a copy: from then on it is a database of its own.
    """
    with translated(), conn.transaction():
        changed = bool(conn.execute(sql.query("control", "resume"), _of(what)).rowcount)
        if what.relation is None:
            changed = _settle_copy(conn) or changed
        if changed:
            _record(conn, "resume", what)
    return changed


def is_copy(conn: psycopg.Connection[Any]) -> bool:
    """Whether this database was copied from the one that its versions were added in, and nobody has settled it."""
    (copied,) = conn.execute(sql.query("control", "is_copy")).fetchone() or (False,)
    return bool(copied)


def _settle_copy(conn: psycopg.Connection[Any]) -> bool:
    """Make a database of its own of one that is a copy; whether it was one."""
    copied = is_copy(conn)
    if copied:
        conn.execute(sql.query("control", "settle_copy"))
    return copied


def throttles(conn: psycopg.Connection[Any]) -> list[Throttle]:
    """Return what was changed, by target."""
    with translated(), conn.cursor(row_factory=class_row(Throttle)) as cursor:
        return cursor.execute(sql.query("control", "throttles")).fetchall()


def throttle(
    conn: psycopg.Connection[Any], what: Scope, settings: Mapping[str, Any], *, reset: bool = False
) -> Throttle | None:
    """Change limits by name, with `reset` after forgetting what was changed before; return what is changed now."""
    with translated(), conn.transaction():
        if reset:
            conn.execute(sql.query("control", "unthrottle"), _of(what))
        if settings:
            conn.execute(sql.query("control", "throttle"), _of(what, settings=Jsonb(dict(settings))))
        if reset or settings:
            _record(conn, "throttle", what, detail={"reset": reset, "settings": dict(settings)})
    return throttle_of(conn, what)


def throttle_of(conn: psycopg.Connection[Any], what: Scope) -> Throttle | None:
    """Return what was changed for a table's slot, None when nothing was."""
    for found in throttles(conn):
        if (found.relation, found.slot) == (what.relation, what.slot):
            return found
    return None


def workers(conn: psycopg.Connection[Any], what: Scope) -> list[dict[str, Any]]:
    """Return who works on a table's slot now, with the limits that they were started with."""
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql.query("control", "workers"), _of(what)).fetchall()


def _of(what: Scope, **more: Any) -> dict[str, Any]:
    return {"relation": what.relation, "slot": what.slot, "version": what.version, **more}


def _record(
    conn: psycopg.Connection[Any],
    verb: str,
    what: Scope,
    reason: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    given = _of(what, verb=verb, reason=reason, detail=Jsonb(dict(detail or {})))
    conn.execute(sql.query("control", "record"), given)

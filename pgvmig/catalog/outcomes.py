"""Rows that failed: list them, have them tried again, or accept that they have no vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog.connection import translated
from pgvmig.catalog.keys import Key, Keys, objects_of
from pgvmig.catalog.versions import Version
from pgvmig.errors import ConflictError, UsageError


@dataclass(frozen=True, slots=True)
class Failed:
    """A row that failed with its present text. The key is as PostgreSQL writes it."""

    key: Key
    error: str | None
    attempts: int
    recorded_at: datetime
    accepted_at: datetime | None
    accepted_by: str | None
    accept_reason: str | None

    @property
    def accepted(self) -> bool:
        """Whether somebody said that it may stay without a vector."""
        return self.accepted_at is not None


def failed(conn: psycopg.Connection[Any], version: Version) -> list[Failed]:
    """Return the failed rows of a version, the oldest failure first. Raises ConflictError when it is retired."""
    width = len(version.key_columns)
    with translated(), conn.transaction():
        conn.execute("SELECT set_config('row_security', 'off', true)")
        rows = conn.execute(_query(version, "failed"), {}).fetchall()
    return [Failed(tuple(row[:width]), *row[width:]) for row in rows]


def retry(conn: psycopg.Connection[Any], version: Version, keys: Sequence[Key] | None = None) -> int:
    """Queue failed rows again, all that nobody accepted or those with the keys; return how many.

    Raises ConflictError when the version is retired, UsageError for a key that is none.
    """
    return _change(conn, version, "retry", keys, None)


def accept(conn: psycopg.Connection[Any], version: Version, reason: str, keys: Sequence[Key] | None = None) -> int:
    """Accept that failed rows have no vector, all of them or those with the keys; return how many.

    It holds until the row fails with another text. Raises as `retry`, and UsageError without a reason.
    """
    if not reason.strip():
        raise UsageError(
            "rows are to be accepted and no reason is given",
            hazard="No search will find them, and later nobody knows why",
            next_step="say why with --reason",
        )
    return _change(conn, version, "accept", keys, reason.strip())


def _change(
    conn: psycopg.Connection[Any], version: Version, verb: str, keys: Sequence[Key] | None, reason: str | None
) -> int:
    _check_width(version, keys or ())
    given = {"all": keys is None, "reason": reason, **Keys.of(version).values(keys or ())}
    with translated(), conn.transaction():
        count = conn.execute(_query(version, verb), given).rowcount
        if count:
            event = {"verb": f"{verb} failed rows", "reason": reason, "rows": count, "version_id": version.version_id}
            conn.execute(files.query("outcomes", "record"), event)
    return count


def _check_width(version: Version, keys: Sequence[Key]) -> None:
    for key in keys:
        if len(key) != len(version.key_columns):
            raise UsageError(
                f"the key {', '.join(key)} has {len(key)} parts", next_step=f"give {', '.join(version.key_columns)}"
            )


def _query(version: Version, name: str) -> sql.Composed:
    if not version.captured:
        raise ConflictError(f"{version.name} is retired, its outcomes went with it", next_step="pgvmig status")
    keys = Keys.of(version)
    more = {"outcome_columns": keys.columns_of("o"), "same_key": keys.same("o", "c")}
    return files.query("outcomes", name, **keys.parts(), **objects_of(version), **more)

"""Readiness gates as data. The gates themselves are SQL functions (sql/functions/50_gates.sql), so that nobody who can
switch can go around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import sql

from pgvmig import sql as files
from pgvmig.runner import Runner


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a gate found: in words, in figures (`measured`), and the next command when it did not pass."""

    gate: str
    passed: bool
    found: str
    next: str
    measured: dict[str, Any]


def check(run: Runner, version_id: int, max_stale_age: timedelta) -> list[GateResult]:
    """Run every gate of a switch to the version; none on an empty table. Changes nothing."""
    rows = run.run(
        files.query(
            "switch",
            "check_gates",
            version_id=sql.Literal(version_id),
            max_stale_age=sql.Literal(max_stale_age),
        )
    )
    return [GateResult(**row) for row in rows]

"""Readiness gates as data. The gates themselves are SQL functions (sql/functions/50_gates.sql), so that nobody who can
switch can go around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog import roles
from pgvmig.runner import Runner
from pgvmig.terms import Terms


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a gate found: in words, in figures (`measured`), its limit in words, and the next command when it failed."""

    gate: str
    passed: bool
    found: str
    wanted: str
    next: str | None
    measured: dict[str, Any]


def check(run: Runner, version_id: int, terms: Terms | None = None, *, way_back: bool = False) -> list[GateResult]:
    """Run every gate of a switch to the version; none on an empty table. Changes nothing.

    Of what `pgvmig verify` has to measure, the newest evidence is asked for. `way_back`: the switch is a rollback.
    """
    terms = terms or Terms()
    rows = run.run(
        files.query(
            "switch",
            "check_gates",
            function=roles.function(run, "check_gates"),
            version_id=sql.Literal(version_id),
            max_stale_age=sql.Literal(terms.max_stale_age),
            max_evidence_age=sql.Literal(terms.max_evidence_age),
            way_back=sql.Literal(way_back),
        )
    )
    return [GateResult(**row) for row in rows]

"""Judged sets, evaluations and required thresholds in the catalog. Needs neither numpy nor a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, TypeVar

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.types.json import Jsonb

from pgvmig import sql as files
from pgvmig.catalog.connection import translated
from pgvmig.catalog.versions import Version
from pgvmig.evaluation.judged import JudgedSet
from pgvmig.evaluation.verdict import Thresholds

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a judged set comes from. `owner` and `judged_on` are None where nobody said it; then the file's date."""

    name: str
    owner: str | None
    judged_on: date | None
    file_date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSet:
    """A judged set as the catalog has it. `old`: it was judged more than 90 days ago."""

    judged_set_id: int
    name: str
    owner: str
    judged_on: date
    old: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of a version: what an evaluation must show, how it is searched, whether it serves services; and when that was."""

    thresholds: dict[str, Any] | None
    search: dict[str, Any]
    serves: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How far a version's backfill is, and whether that is all of it."""

    passed: bool
    found: str
    embedded: int
    total: int

    @property
    def share(self) -> float:
        """The share of rows that have a vector."""
        return self.embedded / self.total if self.total else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the catalog adds to an evaluation."""

    evaluation_id: int
    evaluated_at: datetime
    evaluated_by: str


def facts(conn: psycopg.Connection[Any], version: Version) -> Facts:
    """Return what must be known of a version beside its contract."""
    with translated(), conn.cursor(row_factory=class_row(Facts)) as cursor:
        return _only(cursor.execute(files.query("evaluation", "facts"), {"version_id": version.version_id}))


def coverage(conn: psycopg.Connection[Any], version: Version) -> Coverage:
    """Return how far a version's backfill is. Counts its rows."""
    with translated(), conn.cursor(row_factory=class_row(Coverage)) as cursor:
        return _only(cursor.execute(files.query("evaluation", "complete"), {"version_id": version.version_id}))


def keep_set(conn: psycopg.Connection[Any], version: Version, judged: JudgedSet, origin: Origin) -> StoredSet:
    """Keep a judged set; the same content again is the same set. Returns what is known of it."""
    given = {
        "relation": version.relation,
        "slot": version.slot,
        "hash": judged.hash,
        **asdict(origin),
        "queries": Jsonb([query.as_json() for query in judged.queries]),
        "judgements": Jsonb(judged.judgements),
    }
    with translated(), conn.cursor(row_factory=class_row(StoredSet)) as cursor:
        return _only(cursor.execute(files.query("evaluation", "keep_judged_set"), given))


def keep(conn: psycopg.Connection[Any], evaluation: Mapping[str, Any]) -> Kept:
    """Keep an evaluation, given by the names of its columns; `old`, `new` and `began` for the versions and its time."""
    as_json = {name: Jsonb(evaluation[name]) for name in ("thresholds", "figures", "queries")}
    with translated(), conn.cursor(row_factory=class_row(Kept)) as cursor:
        return _only(cursor.execute(files.query("evaluation", "keep_evaluation"), {**evaluation, **as_json}))


def history(conn: psycopg.Connection[Any], of: Version) -> list[dict[str, Any]]:
    """Return every evaluation of the target's versions, the oldest first."""
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        given = {"relation": of.relation, "slot": of.slot}
        return cursor.execute(files.query("evaluation", "history"), given).fetchall()


def require(
    conn: psycopg.Connection[Any], version: Version, thresholds: Thresholds | None, reason: str | None = None
) -> bool:
    """Let a switch to the version need an evaluation that keeps the thresholds; None: not any more.

    Returns whether that changed anything.
    """
    given = {
        "relation": version.relation,
        "slot": version.slot,
        "version": version.version,
        "thresholds": None if thresholds is None else Jsonb(thresholds.as_json()),
        "reason": reason,
    }
    with translated(), conn.transaction(), conn.cursor(row_factory=scalar_row) as cursor:
        cursor.execute("SELECT set_config('pgvmig.source', 'cli', true)")
        return bool(cursor.execute(files.query("evaluation", "require"), given).fetchone())


def _only(cursor: psycopg.Cursor[T]) -> T:
    (row,) = cursor.fetchall()
    return row

"""One evaluation, from judged queries to a verdict that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import psycopg

from pgvmig.catalog import versions
from pgvmig.catalog.connection import translated
from pgvmig.catalog.versions import Version
from pgvmig.errors import NotFoundError, TooEarlyError, UsageError
from pgvmig.evaluation import rows, searching, store, verdict
from pgvmig.evaluation.figures import Figures
from pgvmig.evaluation.judged import JudgedSet, Usable, usable
from pgvmig.evaluation.searching import Plan, Side
from pgvmig.evaluation.store import Origin, StoredSet
from pgvmig.evaluation.verdict import Thresholds, Verdict
from pgvmig.reading import Opener
from pgvmig.space import Space, find_space

TIMEOUT = 30.0
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to compare, on which queries, by which thresholds (None: those required of the version, or DEFAULT)."""

    target: str
    old: str
    new: str
    judged: JudgedSet
    origin: Origin
    thresholds: Thresholds | None = None
    sql: str | None = None
    doc_column: str | None = None
    rounds: int = 1
    timeout: float = TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An evaluation as it was kept, with its judged set. Its form is in docs/evaluation.md."""

    evaluation_id: int
    evaluated_at: datetime
    evaluated_by: str
    target: str
    old: str
    new: str
    verdict: str | None
    reason: str
    pilot: bool
    thresholds: dict[str, Any]
    judged_set: StoredSet
    figures: dict[str, Any]
    queries: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """Both versions, their spaces and facts; `coverage` is the new version's."""

    old: Version
    new: Version
    spaces: tuple[Space, Space]
    facts: tuple[store.Facts, store.Facts]
    coverage: store.Coverage
    pilot: bool


def evaluate(
    conn: psycopg.Connection[Any],
    request: Request,
    *,
    open_embedder: Opener | None = None,
    report: searching.Report | None = None,
) -> Evaluation:
    """Compare two versions and keep what was found. On an autocommit connection, in transactions of its own.

    Raises UsageError, NotFoundError, ProviderError, DatabaseError; then nothing is kept.
    """
    searching.check(request.judged.queries, request.sql)
    subject = _subject(conn, request)
    found = _rows(conn, request, subject)
    judged = _usable(request, subject, found)
    queries = judged.queries if judged else request.judged.queries
    answers = list(searching.run(conn, _plan(request, subject, found), queries, open_embedder, report))
    figures = Figures(answers, judged)
    thresholds = request.thresholds or _required(subject) or verdict.DEFAULT
    decided = _decide(figures, thresholds, judged, subject)
    about = _about(request, subject, found, judged) | {"queries": len(answers)}
    found_out = {
        "verdict": decided.verdict,
        "reason": decided.reason,
        "pilot": subject.pilot,
        "thresholds": thresholds.as_json(),
        "figures": about | figures.as_json() | {"limits": [asdict(limit) for limit in decided.limits]},
        "queries": figures.queries(),
    }
    return _keep(conn, request, subject, found_out)


def _subject(conn: psycopg.Connection[Any], request: Request) -> _Subject:
    with translated(), conn.transaction():
        old, new = (versions.find(conn, request.target, name) for name in (request.old, request.new))
        if old.version_id == new.version_id:
            raise UsageError(f"{old.name} would be compared with itself", next_step="name the old and the new version")
        spaces = _space(conn, old), _space(conn, new)
    facts = store.facts(conn, old), store.facts(conn, new)
    coverage = store.coverage(conn, new)
    complete = coverage.passed and (facts[0].serves or store.coverage(conn, old).passed)
    return _Subject(old=old, new=new, spaces=spaces, facts=facts, coverage=coverage, pilot=not complete)


def _space(conn: psycopg.Connection[Any], version: Version) -> Space:
    space = find_space(conn, version.relation, version.slot, version.version)
    if space is None or space.view_name is None:
        raise NotFoundError(
            f"{version.name} has no view to search", next_step="compare versions that are not retired; pgvmig status"
        )
    return space


def _required(subject: _Subject) -> Thresholds | None:
    required = subject.facts[1].thresholds
    return None if required is None else Thresholds.of_json(required)


def _rows(conn: psycopg.Connection[Any], request: Request, subject: _Subject) -> rows.Rows:
    with translated(), conn.transaction():
        conn.execute("SET LOCAL row_security = off")
        return rows.find(conn, subject.new, subject.spaces, request.judged.documents, request.doc_column)


def _usable(request: Request, subject: _Subject, found: rows.Rows) -> Usable | None:
    """Return what can be measured, None without judgements. Raises UsageError when it is nothing."""
    if not request.judged.is_judged:
        if subject.pilot:
            raise TooEarlyError(
                f"the backfill of {subject.new.name} is not complete: {subject.coverage.found}",
                hazard="On part of the rows two versions find different things, however alike they are",
                next_step="give judgements with --qrels (some of its rows must have both vectors), or wait",
            )
        return None
    judged = usable(request.judged, found.in_both if subject.pilot else found.names)
    if judged.queries:
        return judged
    if not set(request.judged.judgements) & {query.id for query in request.judged.queries}:
        raise UsageError(
            "none of the queries is judged",
            hazard=f"Judged are queries such as {_some(request.judged.judgements)}",
            next_step="give the judgements of these queries",
        )
    if not found.names:
        raise UsageError(
            f"none of the judged rows is in {subject.new.label}: {_some(request.judged.documents)}",
            hazard=f"A judged row is named by its key ({', '.join(subject.new.key_columns)}), as text",
            next_step="name the column that holds the judged ids with --doc-column",
        )
    if subject.pilot:
        raise TooEarlyError(
            "no query has a relevant row with a vector in both versions yet",
            next_step=f"pgvmig backfill {subject.new.name}",
        )
    raise UsageError("no query has a relevant row that exists", next_step="judge queries with a grade above 0")


def _plan(request: Request, subject: _Subject, found: rows.Rows) -> Plan:
    old, new = (
        Side(
            version_id=version.version_id,
            space=space,
            key_columns=[request.doc_column] if request.doc_column else space.key_columns,
            template=request.sql,
            condition=rows.candidate_condition(version, space) if subject.pilot else None,
            values=rows.candidate_values(version, found.candidates) if subject.pilot else {},
        )
        for version, space in zip((subject.old, subject.new), subject.spaces, strict=True)
    )
    limit = searching.limit_for(single=found.single)
    return Plan(old=old, new=new, rounds=request.rounds, timeout=request.timeout, limit=limit)


def _decide(figures: Figures, thresholds: Thresholds, judged: Usable | None, subject: _Subject) -> Verdict:
    if judged is None:
        return Verdict(None, "nobody judged: how alike two versions are does not say which is better")
    decided = verdict.decide(figures.limits(thresholds, timed=not subject.pilot), len(judged.queries))
    if not subject.pilot:
        return decided
    return replace(decided, reason=f"pilot on {percent(subject.coverage.share)} of the rows: {decided.reason}")


def _about(request: Request, subject: _Subject, found: rows.Rows, judged: Usable | None) -> dict[str, Any]:
    here = set(found.names.values())
    return {
        "judged": len(judged.queries) if judged else 0,
        "judgements": judged.judgement_count if judged else 0,
        "left_out": asdict(judged.left_out) if judged else None,
        "rows_without_vector": {"old": len(here - found.in_old), "new": len(here - found.in_new)},
        "coverage": {"embedded": subject.coverage.embedded, "total": subject.coverage.total},
        "search": {"old": subject.facts[0].search, "new": subject.facts[1].search},
        "sql": request.sql,
        "doc_column": request.doc_column,
        "rounds": request.rounds,
    }


def _keep(conn: psycopg.Connection[Any], request: Request, subject: _Subject, found_out: dict[str, Any]) -> Evaluation:
    with translated(), conn.transaction():
        judged_set = store.keep_set(conn, subject.new, request.judged, request.origin)
        given = {"old": subject.old.version_id, "new": subject.new.version_id, "began": subject.facts[0].at}
        kept = store.keep(conn, found_out | given | {"judged_set_id": judged_set.judged_set_id})
    return Evaluation(
        **asdict(kept),
        **found_out,
        target=subject.new.label,
        old=subject.old.version,
        new=subject.new.version,
        judged_set=judged_set,
    )


def percent(share: float) -> str:
    """Return a share in whole per cent; what is not quite everything is never called so."""
    return f"{int(share * 100)} %"


def _some(names: Sequence[str] | Any) -> str:
    some = list(names)[:_SHOWN]
    return ", ".join(map(repr, some)) + (", ..." if len(names) > _SHOWN else "")

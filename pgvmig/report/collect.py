"""Read the report's facts from the database. Changes nothing; the only texts of rows read are those that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pgvmig import sql as files
from pgvmig.catalog import status, versions
from pgvmig.catalog.connection import translate, translated
from pgvmig.catalog.versions import Version
from pgvmig.checks import gates
from pgvmig.errors import PgvmigError
from pgvmig.lifecycle import State
from pgvmig.report import stored
from pgvmig.report.facts import (
    Backfill,
    Event,
    Evidence,
    Facts,
    Gates,
    ProductionMetric,
    Span,
    Stop,
    Trigger,
    VersionFacts,
)
from pgvmig.report.progress import moments
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import MAX_STALE_AGE

# More versions than these have had their backfills looked at when they were new.
_BACKFILLS = 3
_COMING = (State.READY, State.BACKFILLING, State.ADDED)


def collect(conn: psycopg.Connection[Any], target: str, *, texts: bool = True, count: bool = True) -> Facts:
    """Return what the report of a target shows.

    Without `texts` no text of a query or of a row is read; without `count` neither rows are counted nor gates run,
    which read the table whole. Raises NotFoundError, UsageError, DatabaseError.
    """
    selected = versions.select(conn, target)
    where = {"relation": selected[0].relation, "slot": selected[0].slot}
    with translated():
        (site,) = _rows(conn, "site")
        events = [Event(**row) for row in _rows(conn, "events", **where)]
        following = _next_version(selected)
        return Facts(
            target=selected[0].label,
            redacted=not texts,
            counted=count,
            versions=_versions(conn, selected, where, count=count),
            events=events,
            spans=_spans(events, selected, site["at"]),
            backfills=_backfills(conn, where),
            gates=_gates(conn, *following) if following and count else None,
            evidence=_evidence(conn, following[0]) if following else [],
            evaluations=stored.evaluations(conn, selected, texts=texts),
            production=_production(conn, where),
            triggers=[Trigger(**row) for row in _rows(conn, "triggers", **where)],
            **site,
        )


def _versions(
    conn: psycopg.Connection[Any], selected: list[Version], where: dict[str, Any], *, count: bool
) -> list[VersionFacts]:
    percents = {row["version_id"]: row["percent"] for row in _rows(conn, "routes", **where)}
    states = status.collect(conn, selected, count=count, max_stale_age=MAX_STALE_AGE)["versions"]
    return [
        VersionFacts(
            version_id=v.version_id,
            version=v.version,
            state=v.state,
            since=v.state_changed_at,
            created_at=v.created_at,
            writer=v.writer,
            layout=v.layout,
            contract=v.contract.as_dict(),
            fingerprint=v.contract.fingerprint,
            rows=row["rows"],
            queued=row["stale_entries"],
            failed=row["failed"],
            last_error=row["last_error"],
            indexes=row["indexes"],
            percent=percents.get(v.version_id),
            next_step=status.next_step(row),
        )
        for v, row in zip(selected, states, strict=True)
    ]


def _next_version(selected: list[Version]) -> tuple[Version, bool] | None:
    """Return the version that a switch leads to next, and whether that is the way back; None when there is none."""
    coming = [v for v in selected if v.state in _COMING]
    if coming:
        return max(coming, key=lambda v: (v.state == State.READY, v.version_id)), False
    active = next((v for v in selected if v.state == State.ACTIVE), None)
    before = active and next((v for v in selected if v.version_id == active.activated_from), None)
    if before is not None and before.state == State.RETAINED:
        return before, True
    return None


def _evidence(conn: psycopg.Connection[Any], version: Version) -> list[Evidence]:
    return [Evidence(**row) for row in _rows(conn, "evidence", version_id=version.version_id)]


def _gates(conn: psycopg.Connection[Any], version: Version, way_back: bool) -> Gates:
    """Run the gates; a role that may not is told so on the page, which shows the rest."""
    try:
        results = gates.check(ConnectionRunner(conn), version.version_id, way_back=way_back)
    except (PgvmigError, psycopg.Error) as error:
        problem = error if isinstance(error, PgvmigError) else translate(error)
        return Gates(version=version.version, way_back=way_back, problem=problem.found, next_step=problem.next_step)
    return Gates(version=version.version, way_back=way_back, results=results)


def _spans(events: Sequence[Event], selected: Sequence[Version], now: datetime) -> list[Span]:
    spans = []
    for version in selected:
        steps = [(e.at, e.to_state) for e in events if e.version == version.version and e.to_state is not None]
        steps = steps or [(version.state_changed_at, version.state)]
        ends = [at for at, _ in steps[1:]] + [now]
        spans += [
            Span(version=version.version, state=str(state), began=began, ended=ended)
            for (began, state), ended in zip(steps, ends, strict=True)
            if state != State.RETIRED or ended != now
        ]
    return spans


def _backfills(conn: psycopg.Connection[Any], where: dict[str, Any]) -> list[Backfill]:
    found = []
    for row in _rows(conn, "backfills", **where)[-_BACKFILLS:]:
        span = {name: row.pop(name) if name == "version_id" else row[name] for name in ("version_id", "began", "ended")}
        found.append(
            Backfill(
                moments=moments(_rows(conn, "progress", **span), row["began"], row["ended"]),
                stops=[Stop(**stop) for stop in _rows(conn, "stops", **span)],
                **row,
            )
        )
    return found[::-1]


def _production(conn: psycopg.Connection[Any], where: dict[str, Any]) -> list[ProductionMetric]:
    return [
        ProductionMetric(points=list(zip(row.pop("times"), row.pop("means"), strict=True)), **row)
        for row in _rows(conn, "production", **where)
    ]


def _rows(conn: psycopg.Connection[Any], name: str, **values: Any) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(files.query("report", name), values or None).fetchall()

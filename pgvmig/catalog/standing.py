"""How a version stands before and after a switch: which keys it serves, what was proved of it, what production says.

For `pgvmig status`. What a switch really asks are the gates (sql/functions/); here is what can be shown at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pgvmig import sql as files
from pgvmig.catalog.control import Pause
from pgvmig.catalog.versions import Version
from pgvmig.terms import MAX_EVIDENCE_AGE

Row = dict[str, Any]

# Over which time figures from production are shown.
WINDOW = timedelta(hours=1)
# What the search helper, or a service that searches by itself, reports: searches that a version answered.
SERVED = "served"
_OF_ROUTE = ("active", "candidate", "percent", "keys", "changed_at", "triggers")


def standings(
    conn: psycopg.Connection[Any], versions: list[Version], pauses: Iterable[Pause], *, look: bool
) -> dict[int, Row]:
    """Return by version id what there is to say. `look` reads a sample: is the evidence about what is there now?"""
    ids = sql.Literal([v.version_id for v in versions])
    pauses = list(pauses)
    routes = _routes(conn)
    evidence = _grouped(_rows(conn, "evidence", version_ids=ids, look=sql.Literal(look)))
    evaluations = _grouped(_rows(conn, "evaluations", version_ids=ids, look=sql.Literal(look)))
    production = _grouped(_rows(conn, "production", version_ids=ids, window=sql.Literal(WINDOW)))
    return {
        v.version_id: {
            "route": _route(v, routes.get((v.relation, v.slot), {})),
            "searches": _searches(production.get(v.version_id, [])),
            "verify": _verified(evidence.get(v.version_id, [])),
            "evaluation": next(iter(evaluations.get(v.version_id, [])), None),
            "metrics": [_metric(row) for row in production.get(v.version_id, []) if row["metric"] != SERVED],
            "paused": any(_fits(pause, v) for pause in pauses),
        }
        for v in versions
    }


def routes(conn: psycopg.Connection[Any], versions: list[Version], found: list[Row]) -> list[Row]:
    """Return who serves each target, with the searches that each version answered lately; `found` are status's rows."""
    known = _routes(conn)
    targets = {(v.relation, v.slot): v.label for v in versions}
    rows = []
    for place, label in targets.items():
        if place not in known:
            continue
        served = {v["version"]: v["searches"] for v in found if v["target"] == label and v["searches"]}
        rows.append({"target": label, **{name: known[place][name] for name in _OF_ROUTE}, "served": served})
    return rows


def unproved(version: Row) -> bool:
    """Whether `pgvmig verify` has something to find before this version can be switched to."""
    verify, rows = version["verify"], version["rows"]
    if rows is not None and not rows["total"]:
        return False
    return verify is None or bool(
        verify["failed"] or verify["outdated"] or verify["missing"] or verify["age"] > MAX_EVIDENCE_AGE
    )


def _route(version: Version, route: Row) -> Row:
    """Return what the route means for one version."""
    active, candidate = route.get("active"), route.get("candidate")
    percent = {active: 100 - route.get("percent", 0.0), candidate: route.get("percent", 0.0)}
    return {
        "percent": percent.get(version.version, 0.0),
        "keys": len(route["keys"]) if candidate == version.version else 0,
        "active": active,
        "candidate": candidate,
        "way_back": route.get("previous") == version.version,
        "triggers": route.get("triggers", 0),
    }


def _verified(rows: list[Row]) -> Row | None:
    """Return what verifying has found gate by gate; None when nobody has verified anything."""
    found = [row for row in rows if row["measured_at"] is not None]
    if not found:
        return None
    good = [row for row in found if row["passed"]]
    return {
        "passed": [row["gate"] for row in good if not row["outdated"]],
        "failed": [{"gate": row["gate"], "found": row["found"]} for row in found if not row["passed"]],
        "outdated": [{"gate": row["gate"], "why": row["outdated"]} for row in good if row["outdated"]],
        "missing": [row["gate"] for row in rows if row["measured_at"] is None],
        "at": min(row["measured_at"] for row in found),
        "age": max(row["age"] for row in found),
    }


def _metric(row: Row) -> Row:
    return {name: row[name] for name in ("metric", "values", "mean", "p95")}


def _searches(rows: list[Row]) -> int:
    return sum(round(row["total"]) for row in rows if row["metric"] == SERVED)


def _fits(pause: Pause, version: Version) -> bool:
    if pause.relation is None:
        return True
    here = (pause.relation, pause.slot) == (version.relation, version.slot)
    return here and pause.version in {None, version.version}


def _routes(conn: psycopg.Connection[Any]) -> dict[tuple[int, str], Row]:
    return {(row["relation"], row["slot"]): row for row in _rows(conn, "routes")}


def _grouped(rows: list[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.pop("version_id"), []).append(row)
    return grouped


def _rows(conn: psycopg.Connection[Any], name: str, **parts: sql.Literal) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(files.query("status", name, **parts)).fetchall()

"""Facts for tests of the report, made up: a whole migration, one that has not begun, a hostile one. No database."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from pgvmig.checks.gates import GateResult
from pgvmig.contract import Contract
from pgvmig.report.evaluations import Answer, Evaluation, Figure, Group, JudgedSet, Query, Times
from pgvmig.report.facts import (
    Backfill,
    Event,
    Evidence,
    Facts,
    Gates,
    Moment,
    ProductionMetric,
    Span,
    Stop,
    Trigger,
    VersionFacts,
)
from pgvmig.report.safe import shown

NOW = datetime(2026, 11, 21, 3, 12, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOSTILE = "<script>alert('x')</script>\"'&amp; $\\frac{1}{2}$ \u202eevil\u202c \x07 שלום {{ 7*7 }} "


def version(name: str, state: str, **changes) -> VersionFacts:
    contract = Contract.of(
        {"model": f"model-{name}", "model_version": "1", "dimensions": 384, "input": "title || body"}
    )
    given = {
        "version_id": int(name[1:]),
        "version": name,
        "state": state,
        "since": NOW - HOUR,
        "created_at": NOW - 30 * HOUR,
        "writer": "worker",
        "layout": "column",
        "contract": contract.as_dict(),
        "fingerprint": contract.fingerprint,
        "rows": {"total": 120_000, "embedded": 119_990},
        "queued": 3,
        "failed": 1,
        "last_error": "the provider says: 400, input too long",
        "indexes": [{"name": f"documents_embedding_{name}_hnsw", "valid": True, "method": "hnsw"}],
        "percent": None,
        "next_step": None,
    }
    return VersionFacts(**(given | changes))


def evaluation(number: int = 1, lead: float = 0.069, **changes) -> Evaluation:
    given = {
        "evaluation_id": number,
        "at": NOW - timedelta(days=3 - number),
        "by": "search-team",
        "old": "v1",
        "new": "v2",
        "verdict": "GO",
        "reason": "nDCG@10 leads by +0.069, 95 % interval +0.043 to +0.096 (may fall by 0.010 at most)",
        "pilot": False,
        "judged_set": JudgedSet(
            name="support tickets, autumn",
            owner="Mira",
            judged_on=date(2026, 10, 2),
            hash="ab" * 32,
            queries=225,
            judged=225,
        ),
        "thresholds": {"max_drop": {"nDCG@10": 0.01}},
        "figures": [
            Figure(name="nDCG@10", old=0.308, new=0.308 + lead, difference=lead, low=lead - 0.026, high=lead + 0.027),
            Figure(name="recall@10", old=0.334, new=0.419, difference=0.085, low=0.051, high=0.118),
            Figure(name="MRR@10", old=0.476, new=0.539, difference=0.063, low=0.021, high=0.104),
        ],
        "groups": [
            Group(
                name=name,
                queries=queries,
                figures=[Figure(name="nDCG@10", old=0.3, new=0.3 + d, difference=d, low=d - w, high=d + w)],
            )
            for name, queries, d, w in [
                ("how-to", 84, 0.11, 0.04),
                ("error messages", 61, 0.07, 0.05),
                ("short, one word", 48, -0.03, 0.06),
                ("billing", 32, 0.04, 0.09),
            ]
        ],
        "times": [
            *_times("embedding", 21.0, 9.0),
            *_times("search", 2.2, 2.9),
        ],
        "rates": {"old": 42.0, "new": 79.5},
        "wins": 121,
        "losses": 58,
        "ties": 46,
        "queries": 225,
        "overlap": 0.41,
        "correlation": 0.33,
        "changed": [query("17", -0.63), query("204", -0.41, group="billing"), query("9", 0.52), query("31", 0.48)],
    }
    return Evaluation(**(given | changes))


def _times(stage: str, old: float, new: float) -> list[Times]:
    chance = random.Random(stage)
    found = []
    for side, middle in (("old", old), ("new", new)):
        samples = sorted(middle * math.exp(chance.gauss(0, 0.35)) for _ in range(200))
        found.append(
            Times(stage=stage, side=side, p50=samples[100], p95=samples[190], p99=samples[198], samples=samples)
        )
    return found


_WORDS = ("a gate refuses the switch while rows without a vector are left and names the command to run next",)


def passage(number: int) -> str:
    chance = random.Random(number)
    return " ".join(chance.choices(_WORDS[0].split(), k=34))


def query(number: str, change: float, **changes) -> Query:
    old = [Answer(key=str(n), grade=1 if n % 4 == 0 else None, text=shown(passage(n))) for n in range(10, 20)]
    new = [
        Answer(key=str(n), grade=2 if n % 4 == 0 else 0, text=shown(passage(n)))
        for n in (12, 15, 11, 90, 91, 92, 16, 10, 93, 18)
    ]
    given = {
        "id": number,
        "text": shown("how do I find out why the worker has stopped on a standby that is behind?"),
        "group": "how-to",
        "old": {"nDCG@10": 0.5 - change / 2, "recall@10": 0.4},
        "new": {"nDCG@10": 0.5 + change / 2, "recall@10": 0.5},
        "change": change,
        "old_answers": old,
        "new_answers": new,
    }
    return Query(**(given | changes))


def backfill(name: str = "v2", **changes) -> Backfill:
    began = NOW - 20 * HOUR
    stop = Stop(
        state="stopped",
        signal="lag",
        reason="standby1 is 1.4 s behind, 1.0 s are allowed",
        next_step="nothing: the worker goes on by itself",
        began=began + HOUR,
        ended=began + 1.2 * HOUR,
    )
    unknown = replace(stop, state="unknown", signal="wal", began=began + 2.5 * HOUR, ended=began + 2.52 * HOUR)
    moments = []
    for i in range(100):
        at = began + i * 0.04 * HOUR
        stopped = stop.began <= at <= stop.ended
        speed = 0 if stopped else 380 + 90 * math.sin(i / 5) + 30 * math.cos(i)
        moments.append(Moment(at=at, rows_per_second=speed, lag=1.4 if stopped else 0.2 + 0.1 * math.sin(i / 3)))
    given = {
        "version": name,
        "began": began,
        "ended": began + 4 * HOUR,
        "finished": True,
        "workers": 48,
        "rows_written": 120_400,
        "rows_empty": 4,
        "rows_failed": 1,
        "hot_share": 0.893,
        "waited": timedelta(minutes=13),
        "peak_lag": timedelta(seconds=1.43),
        "moments": moments,
        "stops": [stop, unknown],
        "kept_fresh": 812,
    }
    return Backfill(**(given | changes))


def gates(**changes) -> Gates:
    results = [
        GateResult(
            "coverage",
            passed=True,
            found="every one of 120,000 rows has a vector",
            wanted="all rows",
            next=None,
            measured={},
        ),
        GateResult(
            "freshness",
            passed=True,
            found="3 rows wait, the oldest for 2 s",
            wanted="at most 60 s",
            next=None,
            measured={},
        ),
        GateResult(
            "failed",
            passed=False,
            found="1 row failed and nobody accepted it",
            wanted="none, or each accepted",
            next="pgvmig failed list documents v2",
            measured={},
        ),
        GateResult(
            "index",
            passed=True,
            found="documents_embedding_v2_hnsw is valid and used",
            wanted="one valid index",
            next=None,
            measured={},
        ),
    ]
    return Gates(**({"version": "v2", "way_back": False, "results": results} | changes))


def whole(**changes) -> Facts:
    """Return a migration from v1 to v2 with everything on the page."""
    began = NOW - 30 * HOUR
    steps = [
        ("v1", "added", 0),
        ("v1", "backfilling", 0.4),
        ("v1", "ready", 2),
        ("v1", "active", 3),
        ("v2", "added", 9.5),
        ("v2", "backfilling", 10),
        ("v2", "ready", 14),
    ]
    ends = {"v1": [0.4, 2, 3, 30], "v2": [10, 14, 30]}
    spans = [
        Span(version=v, state=s, began=began + at * HOUR, ended=began + ends[v].pop(0) * HOUR) for v, s, at in steps
    ]
    events = [
        Event(
            at=began + at * HOUR,
            who="dba",
            source="alembic",
            verb="cut over" if s == "active" else "change state",
            version=v,
            from_state=None if s == "added" else "added",
            to_state=s,
            reason=None,
            revision="0008",
        )
        for v, s, at in steps
    ]
    given = {
        "target": "documents",
        "database": "shop",
        "at": NOW,
        "toolkit": "0.1.0",
        "redacted": False,
        "counted": True,
        "versions": [
            version("v1", "active", contract=_old_contract(), percent=100),
            version("v2", "ready", percent=10, next_step="pgvmig failed list documents v2"),
        ],
        "events": events,
        "spans": spans,
        "backfills": [backfill()],
        "gates": gates(),
        "evidence": _evidence(),
        "evaluations": [
            evaluation(1, -0.02, verdict="NO-GO"),
            evaluation(2, 0.03, verdict="INCONCLUSIVE", pilot=True),
            evaluation(3),
        ],
        "production": [
            metric("clicked", "v1", 0.31),
            metric("clicked", "v2", 0.37),
            metric("p95_ms", "v1", 80),
            metric("p95_ms", "v2", 64),
        ],
        "triggers": [
            Trigger(metric="clicked", comparison="below", bound=0.25, relative=False, over=timedelta(minutes=5))
        ],
    }
    return Facts(**(given | changes))


def _evidence() -> list[Evidence]:
    identity = Evidence(
        version="v2",
        gate="identity",
        passed=True,
        found="50 stored vectors embedded again: cosine 0.9999 at least",
        wanted="0.999 or more",
        next_step=None,
        measured_at=NOW - HOUR,
        measured_by="dba",
        same_contract=True,
    )
    found = {"gate": "recall", "passed": False, "found": "recall@10 is 0.91", "wanted": "0.95"}
    return [identity, replace(identity, **found, next_step="SET ef_search")]


def _old_contract() -> dict[str, object]:
    return Contract.of({"model": "model-v1", "model_version": "2024", "dimensions": 256, "input": "body"}).as_dict()


def metric(name: str, of: str, mean: float) -> ProductionMetric:
    first = NOW - 12 * HOUR
    points = [(first + i * 0.3 * HOUR, mean * (1 + 0.07 * math.sin(i + len(of)))) for i in range(40)]
    return ProductionMetric(
        version=of,
        metric=name,
        values=4_000,
        mean=mean,
        p50=mean,
        p95=mean * 1.1,
        first=first,
        last=points[-1][0],
        points=points,
    )


NOTHING = {
    "events": [],
    "spans": [],
    "backfills": [],
    "evidence": [],
    "evaluations": [],
    "production": [],
    "triggers": [],
}


def plain(**changes) -> Facts:
    """Return two versions with nothing to draw, which takes most of the time that a page takes."""
    return whole(**(NOTHING | changes))


def unbegun() -> Facts:
    """Return a target with one version, of which nothing is known."""
    one = version("v1", "added", rows={"total": 0, "embedded": 0}, queued=0, failed=0, last_error=None, indexes=[])
    return plain(versions=[one], gates=gates(version="v1", results=[]))


def hostile() -> Facts:
    """Return facts whose every text was written by somebody who means harm."""
    long = HOSTILE + "w" * 100_000
    bad = query("17", -0.6, id=long, text=shown(long), group=long)
    bad = replace(bad, new_answers=[Answer(key=long, grade=1, text=shown(long))], new={"nDCG@10": 0.1, HOSTILE: 0.2})
    judged = JudgedSet(name=long, owner=long, judged_on=date(2020, 1, 1), hash="<b>" * 9, queries=1, judged=1)
    figure = Figure(name=HOSTILE, old=0.1, new=0.2, difference=0.1, low=0.0, high=0.2)
    facts = whole()
    return whole(
        target=long,
        database=long,
        versions=[
            replace(v, last_error=long, contract=v.contract | {"model": long, "input": long}) for v in facts.versions
        ],
        events=[replace(e, who=long, verb=long, reason=long, revision=long) for e in facts.events],
        gates=gates(results=[replace(r, found=long, wanted=long, next=long) for r in gates().results]),
        evidence=[replace(e, found=long, wanted=long, measured_by=long) for e in facts.evidence],
        backfills=[backfill(stops=[replace(s, signal=long, reason=long, next_step=long) for s in backfill().stops])],
        evaluations=[
            evaluation(
                1,
                by=long,
                reason=long,
                judged_set=judged,
                figures=[figure],
                changed=[bad],
                groups=[Group(name=long, queries=3, figures=[figure])],
            ),
            evaluation(
                2,
                by=long,
                reason=long,
                judged_set=judged,
                figures=[figure],
                changed=[bad],
                groups=[Group(name=long, queries=3, figures=[figure])],
            ),
        ],
        production=[metric(long, "v1", 3), metric(HOSTILE, "v2", 0)],
    )

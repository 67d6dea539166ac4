"""Evaluations from the database: what pgvmig/evaluation/ kept, as the report shows it.

The one place that knows the stored form (docs/evaluation.md). An older or newer toolkit may have written it: what is
missing is None or empty, and the page says so; what is unknown is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pgvmig import sql as files
from pgvmig.catalog.keys import Key, Keys, identifier, objects_of, text_array
from pgvmig.catalog.versions import Version
from pgvmig.evaluation.verdict import METRICS
from pgvmig.report.evaluations import Answer, Evaluation, Figure, Group, JudgedSet, Limit, Query, Ratio, Times
from pgvmig.report.safe import PASSAGE, Shown, shown

# Of the queries that changed most so many, as far as there are, of those that got worse and of those that got better.
WORSE, BETTER = 7, 5
_ANSWERS = 10
# A curve through so many points looks like one through all of them.
_SAMPLES = 200
_SIDES = ("old", "new")


def evaluations(conn: psycopg.Connection[Any], versions: Sequence[Version], *, texts: bool) -> list[Evaluation]:
    """Return every evaluation of the target, the newest last and with the queries that changed most."""
    where = {"relation": versions[0].relation, "slot": versions[0].slot}
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(files.query("report", "evaluations"), where).fetchall()
        found = [evaluation(row) for row in rows]
        if not found:
            return []
        newest = {"evaluation_id": found[-1].evaluation_id}
        (judged_set,) = cursor.execute(files.query("report", "judged_set"), newest).fetchall()
    asked = {str(query["id"]): str(query.get("text") or "") for query in judged_set["queries"]} if texts else {}
    changed = most_changed(queries(rows[-1]["queries"] or [], judged_set["judgements"] or {}, asked))
    if texts:
        changed = _with_texts(conn, versions, found[-1], changed)
    return [*found[:-1], replace(found[-1], changed=changed)]


def evaluation(row: Mapping[str, Any]) -> Evaluation:
    """Return an evaluation without its queries, from a row of `evaluations` in sql/queries/report.sql."""
    figures = row["figures"]
    metrics, agreement = figures.get("metrics") or {}, figures.get("agreement") or {}
    main: Mapping[str, Any] = next((metrics[name] for name in METRICS if name in metrics), {})
    coverage, latency = figures.get("coverage") or {}, figures.get("latency") or {}
    return Evaluation(
        evaluation_id=row["evaluation_id"],
        at=row["at"],
        by=row["by"],
        old=row["old"],
        new=row["new"],
        verdict=row["verdict"],
        reason=row["reason"],
        pilot=row["pilot"],
        judged_set=_judged_set(row),
        thresholds=row["thresholds"],
        figures=_figures(metrics),
        groups=[
            Group(name=str(group["name"]), queries=group.get("queries"), figures=_figures(group.get("metrics")))
            for group in figures.get("groups") or []
        ],
        limits=[
            Limit(**{name: str(limit.get(name)) for name in ("limit", "verdict", "found")})
            for limit in figures.get("limits") or []
        ],
        times=_times(latency, row.get("queries") or []),
        rates={side: rate for side in _SIDES if (rate := (latency.get(side) or {}).get("queries_per_second"))},
        p95_ratio=_ratio(figures.get("p95_ratio")),
        wins=main.get("wins"),
        losses=main.get("losses"),
        ties=main.get("ties"),
        queries=figures.get("queries"),
        coverage=coverage["embedded"] / coverage["total"] if coverage.get("total") else None,
        left_out={name: number for name, number in (figures.get("left_out") or {}).items() if number},
        overlap=agreement.get("overlap@10"),
        correlation=agreement.get("kendall_tau"),
        doc_column=figures.get("doc_column"),
    )


def _judged_set(row: Mapping[str, Any]) -> JudgedSet:
    return JudgedSet(
        name=row["set_name"],
        owner=row["set_owner"],
        judged_on=row["judged_on"],
        hash=row["set_hash"],
        queries=row["set_queries"],
        judged=row["set_judged"],
    )


def _figures(metrics: Mapping[str, Any] | None) -> list[Figure]:
    """Return the measures, the one that stands for all first; jsonb keeps no order."""
    named = metrics or {}
    order = [*(name for name in METRICS if name in named), *sorted(set(named) - set(METRICS))]
    names = ("old", "new", "difference", "low", "high")
    return [Figure(name=name, **{key: named[name].get(key) for key in names}) for name in order]


def _ratio(stored: Mapping[str, Any] | None) -> Ratio | None:
    names = ("value", "low", "high")
    if not stored or any(not isinstance(stored.get(name), int | float) for name in names):
        return None
    return Ratio(**{name: stored[name] for name in names})


def _times(latency: Mapping[str, Any], queries: Sequence[Mapping[str, Any]]) -> list[Times]:
    """Return the percentiles of each stage, and of the newest evaluation what they are the percentiles of."""
    return [
        Times(
            stage=stage,
            side=side,
            samples=_samples(stage, side, queries),
            **{rank: 1000 * measured[rank] for rank in ("p50", "p95", "p99")},
        )
        for stage in ("embedding", "search")
        for side in _SIDES
        if (measured := (latency.get(side) or {}).get(stage))
    ]


def _samples(stage: str, side: str, queries: Sequence[Mapping[str, Any]]) -> list[float]:
    seconds: list[float] = []
    for query in queries:
        measured = (query.get(side) or {}).get(stage)
        seconds += measured if isinstance(measured, list) else [] if measured is None else [measured]
    step = max(1, -(-len(seconds) // _SAMPLES))
    ordered = sorted(1000 * one for one in seconds)
    # The slowest is what a user remembers: it is never the one that is left out.
    return ordered[-1::-step][::-1]


def queries(
    stored: Iterable[Mapping[str, Any]], judgements: Mapping[str, Any], asked: Mapping[str, str]
) -> list[Query]:
    """Return the queries as they were kept; `asked` are their texts, those that may be shown."""
    return [_query(one, judgements.get(str(one["id"])) or {}, asked.get(str(one["id"]))) for one in stored]


def _query(stored: Mapping[str, Any], grades: Mapping[str, Any], text: str | None) -> Query:
    old, new = (stored.get(side) or {} for side in _SIDES)
    figures = [{name: float(side[name]) for name in METRICS if side.get(name) is not None} for side in (old, new)]
    main = next((name for name in METRICS if name in figures[0] and name in figures[1]), None)
    answers = [
        [Answer(key=str(key), grade=grades.get(str(key))) for key in (side.get("found") or [])[:_ANSWERS]]
        for side in (old, new)
    ]
    return Query(
        id=str(stored["id"]),
        text=None if text is None else shown(text),
        group=stored.get("group"),
        old=figures[0],
        new=figures[1],
        change=None if main is None else figures[1][main] - figures[0][main],
        old_answers=answers[0],
        new_answers=answers[1],
    )


def most_changed(found: Sequence[Query]) -> list[Query]:
    """Return the queries to look at by hand: the worst, then the best; without judgements those that share least."""
    if all(query.change is None for query in found):
        return sorted((q for q in found if _shared(q) < 1), key=lambda q: (_shared(q), q.id))[: WORSE + BETTER]
    ordered = sorted(found, key=lambda query: (query.change or 0.0, query.id))
    worse = [query for query in ordered if (query.change or 0.0) < 0]
    better = [query for query in reversed(ordered) if (query.change or 0.0) > 0]
    # where one kind has few, the other takes its places
    of_worse = min(len(worse), max(WORSE, WORSE + BETTER - len(better)))
    return worse[:of_worse] + better[: WORSE + BETTER - of_worse]


def _shared(query: Query) -> float:
    old, new = ({answer.key for answer in answers} for answers in (query.old_answers, query.new_answers))
    return len(old & new) / max(len(old), len(new), 1)


def _with_texts(
    conn: psycopg.Connection[Any], versions: Sequence[Version], of: Evaluation, changed: Sequence[Query]
) -> list[Query]:
    """Add the beginning of every row that is shown, as it is now and as this role may see it."""
    version = _readable(versions, of)
    keys = {answer.key for query in changed for answer in (*query.old_answers, *query.new_answers)}
    if version is None or not keys:
        return list(changed)
    try:
        texts = _texts(conn, version, sorted(keys), of.doc_column)
    except psycopg.Error:
        # The role may not read the table, or the column by which rows were judged is gone: the keys say enough.
        return list(changed)
    return [
        replace(
            query,
            old_answers=[replace(answer, text=texts.get(answer.key)) for answer in query.old_answers],
            new_answers=[replace(answer, text=texts.get(answer.key)) for answer in query.new_answers],
        )
        for query in changed
    ]


def _readable(versions: Sequence[Version], of: Evaluation) -> Version | None:
    """Return the version whose input shows what was embedded: the new one, else the old one, unless it is retired."""
    named = {v.version: v for v in versions if v.captured}
    return named.get(of.new) or named.get(of.old or "")


def _texts(
    conn: psycopg.Connection[Any], version: Version, names: Sequence[str], column: str | None
) -> dict[str, Shown]:
    """Return the beginning of the rows' inputs by what results call them: the key, or another column."""
    keys, most = Keys.of(version), sql.Literal(PASSAGE + 1)
    if column is not None:
        statement = files.query(
            "report", "texts_by_column", most=most, column=identifier(column), **objects_of(version)
        )
        rows = conn.execute(statement, {"documents": text_array(names)}).fetchall()
        return {name: shown(text or "", characters=length or 0) for name, text, length in rows}
    width = len(keys.columns)
    named = {parts: name for name in names if len(parts := parts_of(name, width)) == width}
    statement = files.query("report", "texts", most=most, **keys.parts(), **objects_of(version))
    rows = conn.execute(statement, keys.values(named)).fetchall()
    return {
        named[keys.key(row)]: shown(row[width] or "", characters=row[width + 1] or 0)
        for row in rows
        if keys.key(row) in named
    }


def parts_of(name: str, width: int) -> Key:
    """Return a row's key from what a result calls it: several columns stand with commas between them."""
    return tuple(name.split(",")) if width > 1 else (name,)

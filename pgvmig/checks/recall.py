"""Gate recall: what the version's index finds, against what comparing every vector finds.

Both through the version's own view and in one snapshot; stored vectors of random rows are the queries.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pgvmig import sql as files
from pgvmig.catalog import own_scans
from pgvmig.checks.evidence import Finding, Task, keys_as_text
from pgvmig.errors import NotFoundError
from pgvmig.space import MOST_OVERSAMPLE, Space, find_space

NEIGHBOURS = 10
# What widens an index's search: the option of `pgvmig tune`, pgvector's setting, its default, the most that it takes.
_WIDTHS = {"hnsw": ("ef-search", "hnsw.ef_search", 40, 1000), "ivfflat": ("probes", "ivfflat.probes", 1, 32768)}


@dataclass(frozen=True, slots=True)
class Search:
    """One search done twice: the share of the nearest that the index found, and how many seconds both took."""

    recall: float
    approximate: float
    exact: float


def look(task: Task) -> Finding:
    """Compare the searches."""
    indexes = _valid_indexes(task)
    if not indexes:
        return _without_index(task)
    space = find_space(task.conn, task.version.relation, task.version.slot, task.version.version)
    if space is None or space.view_name is None:
        raise NotFoundError(f"{task.version.name} has no view", next_step="pgvmig status")
    queries = task.sample("sample_vectors", task.options.queries)
    if not queries:
        return _passed(task, "there are no vectors to search for")
    used = _used_index(task, space, queries[0][0], indexes)
    if used is None:
        return _passed(task, "searches are exact: on a table of this size the planner compares every vector")
    searches = []
    for number, (vector, *key) in enumerate(queries):
        task.report("comparing with exact search", number, len(queries))
        searches.append(_search_twice(task, space, vector, key))
    task.report("comparing with exact search", len(queries), len(queries))
    return _judged(task, space, indexes[used], searches)


def _judged(task: Task, space: Space, method: str, searches: Sequence[Search]) -> Finding:
    recall, limit = fmean(search.recall for search in searches), task.options.min_recall
    settings = _in_effect(task, space, method)
    said = ", ".join(f"{name} = {value}" for name, value in settings.items())
    # never rounded up to a limit that it misses
    shown = min(round(recall, 3), limit - 0.001) if recall < limit else round(recall, 3)
    return Finding(
        passed=recall >= limit,
        found=f"recall@{NEIGHBOURS} is {shown:.3f} over {len(searches):,} searches with {said}",
        wanted=_wanted(task),
        next=None if recall >= limit else _advice(task, space, method, settings),
        measured={
            "recall": recall,
            "worst": min(search.recall for search in searches),
            "queries": len(searches),
            "limit": limit,
            "method": method,
            "settings": settings,
            "approximate_seconds": median(search.approximate for search in searches),
            "exact_seconds": median(search.exact for search in searches),
        },
    )


def _search_twice(task: Task, space: Space, vector: str, key: Sequence[Any]) -> Search:
    """Search with the index and without, in one snapshot; the row itself, which both should find, does not count."""
    given = {"pgvmig_query": vector, "pgvmig_limit": NEIGHBOURS + 1}
    version_ids = [task.version.version_id]
    with own_scans.noted(task.conn, version_ids, one_snapshot=True), _prepared(task, space) as cursor:
        approximate, took = _timed(cursor, _statement(space), given, key)
        cursor.execute(files.query("verify", "exact"))
        exact, took_exact = _timed(cursor, _statement(space.exact()), given, key)
    if not exact:
        return Search(1.0, took, took_exact)
    # As near as the last of the nearest is as good as it: which of equals comes first is nobody's fault.
    hits = sum(distance <= exact[-1] for distance in approximate)
    return Search(min(hits, len(exact)) / len(exact), took, took_exact)


def _timed(
    cursor: psycopg.Cursor[Any], statement: sql.Composed, given: dict[str, Any], key: Sequence[Any]
) -> tuple[list[float], float]:
    began = time.monotonic()
    # never prepared: a plan that is kept knows nothing of the settings for an exact search
    rows = cursor.execute(statement, given, prepare=False).fetchall()
    took = time.monotonic() - began
    return [row[-1] for row in rows if list(row[:-1]) != list(key)][:NEIGHBOURS], took


def _statement(space: Space) -> sql.Composed:
    return space.statement(space.key_columns, sql.SQL("true"))


def _prepared(task: Task, space: Space) -> psycopg.Cursor[Any]:
    """Return a cursor in whose transaction searches go as a service's do, with the version's own settings."""
    cursor = task.conn.cursor(row_factory=tuple_row)
    keys_as_text(cursor)
    settings = space.settings(NEIGHBOURS + 1)
    cursor.execute(files.query("verify", "settings"))
    cursor.execute(files.query("reading", "set_local"), {"names": [*settings], "values": [*settings.values()]})
    return cursor


def _used_index(task: Task, space: Space, vector: str, indexes: dict[str, str]) -> str | None:
    """Return the index that the planner uses as things are, None when it compares every vector."""
    explain = sql.SQL("EXPLAIN (FORMAT JSON) ") + _statement(space)
    with task.conn.transaction(), _prepared(task, space) as cursor:
        cursor.execute(explain, {"pgvmig_query": vector, "pgvmig_limit": NEIGHBOURS + 1})
        (plan,) = cursor.fetchone() or (None,)
    return next((name for name in _index_names(plan) if name in indexes), None)


def _index_names(plan: Any) -> Iterator[str]:
    if isinstance(plan, list):
        for part in plan:
            yield from _index_names(part)
    elif isinstance(plan, dict):
        if "Index Name" in plan:
            yield plan["Index Name"]
        for part in plan.values():
            yield from _index_names(part)


def _in_effect(task: Task, space: Space, method: str) -> dict[str, str]:
    """Return the settings that a search has: the version's own, else what the database says, else pgvector's."""
    _, width, default, _ = _WIDTHS[method]
    own = {name: value for name, value in space.settings(NEIGHBOURS + 1).items() if name.startswith(method)}
    if width in own:
        return dict(sorted(own.items()))
    with task.looking(row_factory=tuple_row) as cursor:
        (value,) = cursor.execute(files.query("verify", "in_effect"), {"name": width}).fetchone() or (None,)
    return dict(sorted({width: value or str(default), **own}.items()))


def _valid_indexes(task: Task) -> dict[str, str]:
    with task.looking(row_factory=tuple_row) as cursor:
        cursor.execute(files.query("verify", "valid_indexes"), {"version_id": task.version.version_id})
        return dict(cursor.fetchall())


def _without_index(task: Task) -> Finding:
    if task.version.adopted:
        return _passed(task, "the application searched its vectors without an index, so searches are exact")
    return Finding(
        passed=False,
        found="there is no valid index whose recall could be measured",
        wanted=_wanted(task),
        next=f"pgvmig index {task.version.name}, then pgvmig verify {task.version.name}",
        measured={"queries": 0},
        conclusive=False,
    )


def _passed(task: Task, found: str) -> Finding:
    return Finding(passed=True, found=found, wanted=_wanted(task), next=None, measured={"queries": 0})


def _wanted(task: Task) -> str:
    return f"recall@{NEIGHBOURS} of at least {task.options.min_recall:g}"


def _advice(task: Task, space: Space, method: str, settings: dict[str, str]) -> str:
    option, width, _, most = _WIDTHS[method]
    wider = min(2 * int(settings[width]), most)
    if space.search.get("quantize") == "binary":
        option, wider = "oversample", min(2 * int(space.search["oversample"]), MOST_OVERSAMPLE)
    build = "m and ef_construction" if method == "hnsw" else "lists that fit the table"
    return (
        f"pgvmig tune {task.version.name} --{option} {wider}, or build the index with other {build}; "
        f"then pgvmig verify {task.version.name} --only recall"
    )

"""Running queries on two versions, turn about, through their own views and indexes, and timing both.

Knows nothing of judgements. Nothing is written but how often an index was scanned, so that a proof that nobody reads a
version can leave our own searches out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog import own_scans
from pgvmig.catalog.connection import translate
from pgvmig.catalog.session import restore_path
from pgvmig.errors import DatabaseError, NotFoundError, UsageError
from pgvmig.evaluation.judged import Query
from pgvmig.evaluation.metrics import DEPTH
from pgvmig.evaluation.rows import name_of, texts
from pgvmig.reading import Opener, QueryVectors
from pgvmig.space import Space

# What a user's own statement is given; its own parameters have other names.
GIVEN = ("query", "text", "limit", "version")
_CANDIDATE_KEY = re.compile(r"key_\d+")
VIEW = "{view}"
# With a parameter, were it the only one, the server takes one statement only. Whoever wrote the queries could otherwise
# end our read-only transaction ("...; COMMIT; DELETE ...") and have us write.
_ONE_STATEMENT = "\n/* %(limit)s */"

# Searches are made in transactions of about this length: short enough for a swap of the view that waits behind one.
_TRANSACTION = 0.5
# Queries that are embedded before they are searched: vectors of that many are in memory.
_BATCH = 50
# Rows that are fetched where a document may have several: ten documents are among them, it is hoped.
_MANY_ROWS = 100

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one version found, best first, and how many seconds it took: to embed, and to search in each round."""

    found: tuple[str, ...]
    embedding: float
    searches: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What both versions found for a query."""

    query: Query
    old: Answer
    new: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two versions and how it is searched: by `template`, a user's SQL, where a query has none of its own.

    `condition` and its `values` restrict a pilot to its candidates.
    """

    version_id: int
    space: Space
    key_columns: Sequence[str]
    template: str | None = None
    condition: sql.Composable | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    def statement(self, query: Query) -> str:
        """Return the query's own statement, the one for all, or a search by distance alone."""
        own = query.sql or self.template
        if own is None:
            space = self.space if self.condition is None else self.space.exact()
            return files.text(space.statement(self.key_columns, self.condition or sql.SQL("true")))
        return own.strip().rstrip(";").replace(VIEW, files.text(self._view())) + _ONE_STATEMENT

    def parameters(self, query: Query, vector: str, limit: int) -> dict[str, Any]:
        """Return what the statement is given."""
        if query.sql or self.template:
            given = {"query": vector, "text": query.text, "limit": limit, "version": self.space.version}
        else:
            given = {"pgvmig_query": vector, "pgvmig_limit": limit}
        return {**query.parameters, **given, **self.values}

    def settings(self, timeout: float, limit: int) -> dict[str, str]:
        """Return the settings of a search: the version's own, no hidden rows, not for ever; a pilot's without index."""
        # An index would find the candidates only among the nearest rows of all.
        exact = {} if self.condition is None else {"enable_indexscan": "off"}
        common = {"row_security": "off", "statement_timeout": f"{max(int(timeout * 1000), 1)}"}
        return self.space.settings(limit) | common | exact

    def _view(self) -> sql.Composable:
        view = files.escaped(self.space.qualified)
        if self.condition is None:
            return view
        return sql.SQL("(SELECT w.* FROM {} AS w WHERE {})").format(view, self.condition)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the queries are run. `limit`: rows that are fetched; `rounds`: how often each is searched, to time it."""

    old: Side
    new: Side
    rounds: int
    timeout: float
    limit: int

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, the old one first."""
        return self.old, self.new


def limit_for(*, single: bool) -> int:
    """Return how many rows to fetch for ten documents; `single`: each has one row."""
    return DEPTH if single else _MANY_ROWS


def check(queries: Sequence[Query], statement: str | None) -> None:
    """Raise UsageError for a statement that cannot be compared, before anything is embedded."""
    for query in queries:
        own = query.sql or statement
        where = "the SQL" if query.sql is None else f"the SQL of query {query.id!r}"
        if own is not None and VIEW not in own:
            raise UsageError(
                f"{where} does not name {VIEW}",
                hazard="It would search the same table for both versions",
                next_step=f"write FROM {VIEW} AS d where the version's view belongs",
            )
        taken = [name for name in query.parameters if name in GIVEN or _CANDIDATE_KEY.fullmatch(name)]
        if taken:
            raise UsageError(
                f"query {query.id!r} has a parameter {taken[0]!r}, which every statement is given",
                next_step="call it something else",
            )


def run(
    conn: psycopg.Connection[Any],
    plan: Plan,
    queries: Sequence[Query],
    open_embedder: Opener | None = None,
    report: Report | None = None,
) -> Iterator[Answers]:
    """Yield what both versions answer to each query. Raises ProviderError, UsageError, DatabaseError, NotFoundError."""
    vectors = QueryVectors(open_embedder, remember=0)
    done = 0
    try:
        for side in plan.sides:  # connections and caches are made now, and not in a measurement
            vectors.literal(side.space.contract, queries[0].text)
        while batch := queries[done : done + _BATCH]:
            embedded = [_embed(vectors, plan, query, done + i) for i, query in enumerate(batch)]
            for answers in _search(conn, plan, batch, embedded):
                yield answers
                done += 1
                if report is not None:
                    report(done, len(queries))
    finally:
        vectors.close()


@dataclass(frozen=True, slots=True)
class _Embedded:
    literal: str
    seconds: float


def _turns(plan: Plan, number: int) -> list[tuple[int, Side]]:
    """Return both sides, the old one first at every other turn."""
    sides = list(enumerate(plan.sides))
    return sides if number % 2 == 0 else sides[::-1]


def _embed(vectors: QueryVectors, plan: Plan, query: Query, number: int) -> dict[int, _Embedded]:
    embedded = {}
    for i, side in _turns(plan, number):
        began = time.perf_counter()
        literal = vectors.literal(side.space.contract, query.text)
        embedded[i] = _Embedded(literal, time.perf_counter() - began)
    return embedded


def _search(
    conn: psycopg.Connection[Any], plan: Plan, batch: Sequence[Query], embedded: Sequence[dict[int, _Embedded]]
) -> Iterator[Answers]:
    """Search all of a batch, a few queries in each transaction."""
    waiting = list(enumerate(zip(batch, embedded, strict=True)))[::-1]
    versions = [side.version_id for side in plan.sides]
    while waiting:
        found: list[Answers] = []
        with own_scans.noted(conn, versions), conn.transaction(force_rollback=True):
            # Undone with the savepoint, settings and all: what is searched with may be anybody's SQL.
            conn.execute("SET TRANSACTION READ ONLY")
            until = time.monotonic() + _TRANSACTION
            while waiting and (not found or time.monotonic() < until):
                number, (query, vectors) = waiting.pop()
                found.append(_answers(conn, plan, query, vectors, number))
            for side in plan.sides:
                _require_view(conn, side)
        yield from found


def _answers(
    conn: psycopg.Connection[Any], plan: Plan, query: Query, vectors: dict[int, _Embedded], number: int
) -> Answers:
    found: dict[int, tuple[str, ...]] = {}
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for turn in range(plan.rounds):
        for i, side in _turns(plan, number + turn):
            names, took = _timed(conn, plan, side, query, vectors[i].literal)
            found.setdefault(i, names)
            seconds[i].append(took)
    old, new = (
        Answer(found=found[i], embedding=vectors[i].seconds, searches=tuple(seconds[i])) for i in range(len(plan.sides))
    )
    return Answers(query=query, old=old, new=new)


def _timed(
    conn: psycopg.Connection[Any], plan: Plan, side: Side, query: Query, vector: str
) -> tuple[tuple[str, ...], float]:
    settings = side.settings(plan.timeout, plan.limit)
    statement = side.statement(query)
    parameters = side.parameters(query, vector, plan.limit)
    try:
        # Undone afterwards: a setting that the other version does not have must not stay for it.
        with conn.transaction(force_rollback=True), conn.cursor() as cursor:
            cursor.execute(
                files.query("reading", "set_local"), {"names": list(settings), "values": list(settings.values())}
            )
            if query.sql or side.template:
                restore_path(conn)  # its names are the user's, and so are the rights that it runs with
            began = time.perf_counter()
            cursor.execute(statement, parameters)
            took = time.perf_counter() - began
            return _names(cursor, side, query), took
    except psycopg.Error as error:
        _require_view(conn, side)
        raise _failed(error, side, query, plan.timeout) from error


def _names(cursor: psycopg.Cursor[Any], side: Side, query: Query) -> tuple[str, ...]:
    """Return the documents of the rows, each where its best row is."""
    columns = len(side.key_columns)
    if cursor.description is None or len(cursor.description) < columns:
        raise UsageError(
            f"the SQL of query {query.id!r} does not return {', '.join(side.key_columns)}",
            next_step="select that first, whatever comes after it",
        )
    names = (name_of(row[:columns]) for row in texts(cursor))
    return tuple(dict.fromkeys(name for name in names if name is not None))[:DEPTH]


def _failed(error: psycopg.Error, side: Side, query: Query, timeout: float) -> Exception:
    where = f"query {query.id!r} in {side.space.version}"
    if isinstance(error, pg.QueryCanceled):
        return DatabaseError(
            f"{where} took longer than {timeout:g} s",
            next_step="look at its plan: has the view's index been built? Or allow more with --timeout",
            sqlstate=error.sqlstate,
        )
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return UsageError(f"{where} writes: {error.diag.message_primary}", next_step="compare searches only")
    if (query.sql or side.template) and isinstance(error, psycopg.ProgrammingError | psycopg.DataError):
        said = error.diag.message_primary or str(error)
        return UsageError(f"{where}: {said}", next_step="see docs/evaluation.md for what a statement is given")
    return translate(error)


def _require_view(conn: psycopg.Connection[Any], side: Side) -> None:
    """Raise NotFoundError when the view is not the version's any more: that nothing is found there says nothing."""
    if conn.closed or conn.execute(side.space.is_there()).fetchone() == (True,):
        return
    raise NotFoundError(
        f"the view of {side.space.label} {side.space.version} is gone",
        hazard="Its version was retired or dropped while it was being evaluated",
        next_step=f"pgvmig status {side.space.label}",
    )

"""Smoke queries: searches that must work whatever is active, run through the current view after a switch.

The query is embedded with the model that is active now and ranked in the view that services read, so that a rollback at
night is known to answer. Knows nothing of switching.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from pgvmig import config
from pgvmig import sql as files
from pgvmig.catalog import own_scans, versions
from pgvmig.catalog.connection import translated
from pgvmig.catalog.versions import Version
from pgvmig.contract import Contract
from pgvmig.errors import NotFoundError, PgvmigError, ProviderError, UsageError
from pgvmig.names import view_columns
from pgvmig.reading import Opener, QueryEmbedder, QueryVectors
from pgvmig.space import Space, find_space

# An expected row must be among so many.
LIMIT = 10
# Who waits for the answer has just switched; the provider's own patience is a worker's.
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeQuery:
    """A text to search for, and the key of a row that must be found, as text; without one any answer will do."""

    text: str
    expect_key: str | None
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a smoke query found in a version: keys, best first, or why it could not be asked.

    `milliseconds` are the search's, without the embedding.
    """

    text: str
    expect_key: str | None
    found: list[str]
    as_expected: bool
    milliseconds: float | None
    version: str | None
    error: str | None = None


def queries(conn: psycopg.Connection[Any], target: str) -> list[SmokeQuery]:
    """Return the target's smoke queries, in the order in which they were added. Raises UsageError, NotFoundError."""
    return _queries(conn, _slot(conn, target))


def add(conn: psycopg.Connection[Any], target: str, text: str, expect_key: str | None = None) -> bool:
    """Add a query, or change what it must find; return whether anything changed. Raises UsageError for no text."""
    if not text.strip():
        raise UsageError("a smoke query without a text", next_step='pgvmig smoke add documents "how do I ..."')
    return _change(conn, target, "add", text=text, expect_key=expect_key)


def remove(conn: psycopg.Connection[Any], target: str, text: str) -> None:
    """Take a query away. Raises NotFoundError."""
    if not _change(conn, target, "remove", text=text):
        raise NotFoundError(f"{target} has no smoke query {text!r}", next_step=f"pgvmig smoke list {target}")


def run(conn: psycopg.Connection[Any], target: str, *, open_embedder: Opener | None = None) -> list[Outcome]:
    """Run the target's smoke queries through its current view; the provider is asked in between, in no transaction.

    Raises NotFoundError without an active version. What a query or the provider does wrong is in its outcome.
    """
    slot = _slot(conn, target)
    asked = _queries(conn, slot)
    if not asked:
        return []
    version_id, space = _current(conn, slot)
    with _vectors(open_embedder or _impatient) as vectors:
        return list(_outcomes(conn, space, version_id, asked, vectors))


def _outcomes(
    conn: psycopg.Connection[Any], space: Space, version_id: int, asked: list[SmokeQuery], vectors: QueryVectors
) -> Iterator[Outcome]:
    down: ProviderError | None = None
    for query in asked:
        try:
            if down is not None:  # it is not asked again for every query
                raise down
            vector = vectors.literal(space.contract, query.text)
            began = time.monotonic()
            found = _search(conn, space, version_id, vector)
        except PgvmigError as error:
            down = error if isinstance(error, ProviderError) else None
            yield _outcome(query, space, error=error.found)
        else:
            yield _outcome(query, space, found, (time.monotonic() - began) * 1000)


def _outcome(
    query: SmokeQuery,
    space: Space,
    found: Sequence[str] = (),
    milliseconds: float | None = None,
    error: str | None = None,
) -> Outcome:
    return Outcome(
        text=query.text,
        expect_key=query.expect_key,
        found=[*found],
        as_expected=bool(found) if query.expect_key is None else query.expect_key in found,
        milliseconds=milliseconds,
        version=space.version,
        error=error,
    )


def _search(conn: psycopg.Connection[Any], space: Space, version_id: int, vector: str) -> list[str]:
    guard = sql.SQL("w.{} = {}").format(sql.Identifier(view_columns(space.slot)[1]), sql.Literal(space.version))
    keys = [sql.SQL("s.{}::text").format(sql.Identifier(name)) for name in space.key_columns]
    statement = files.query(
        "smoke",
        "search",
        keys=files.escaped(sql.SQL(", ").join(keys)),
        search=space.statement(space.key_columns, files.escaped(guard)),
    )
    settings = space.settings(LIMIT)
    with translated(), own_scans.noted(conn, [version_id]), conn.cursor() as cursor:
        given = {"names": list(settings), "values": list(settings.values())}
        cursor.execute(files.query("reading", "set_local"), given)
        cursor.execute(statement, {"pgvmig_query": vector, "pgvmig_limit": LIMIT})
        return [key for (key,) in cursor]


def _slot(conn: psycopg.Connection[Any], target: str) -> Version:
    with translated():
        return versions.select(conn, target)[0]


def _queries(conn: psycopg.Connection[Any], slot: Version) -> list[SmokeQuery]:
    with translated(), conn.cursor(row_factory=class_row(SmokeQuery)) as cursor:
        return cursor.execute(files.query("smoke", "queries"), _of(slot)).fetchall()


def _current(conn: psycopg.Connection[Any], slot: Version) -> tuple[int, Space]:
    """Return the active version, and its space as the current view shows it."""
    with translated(), conn.transaction(), conn.cursor(row_factory=dict_row) as cursor:
        space = find_space(conn, slot.relation, slot.slot, None)
        view = cursor.execute(files.query("smoke", "current"), _of(slot)).fetchone()
    if space is None or view is None:
        raise NotFoundError(f"{slot.label} has no active version to search", next_step=f"pgvmig status {slot.label}")
    return view.pop("version_id"), replace(space, **view)


def _change(conn: psycopg.Connection[Any], target: str, action: str, **values: Any) -> bool:
    slot = _slot(conn, target)
    with translated(), conn.transaction():
        changed = bool(conn.execute(files.query("smoke", action), _of(slot) | values).rowcount)
        if changed:
            detail = Jsonb({"action": action, **values})
            conn.execute(files.query("smoke", "record"), _of(slot) | {"detail": detail})
    return changed


def _of(slot: Version) -> dict[str, Any]:
    return {"relation": slot.relation, "slot": slot.slot}


@contextmanager
def _vectors(opener: Callable[[Contract], QueryEmbedder]) -> Iterator[QueryVectors]:
    vectors = QueryVectors(opener, remember=0)
    try:
        yield vectors
    finally:
        vectors.close()


def _impatient(contract: Contract) -> QueryEmbedder:
    from pgvmig.embedders import open_embedder

    settings = config.provider(contract.provider)
    return open_embedder(contract, replace(settings, max_retry_time=min(settings.max_retry_time, _PATIENCE)))

"""Which rows the judged documents are here, and which of them have a vector in both versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog.keys import Key, Keys, identifier, text_array
from pgvmig.catalog.versions import Version
from pgvmig.errors import UsageError
from pgvmig.space import Space

# What a key of several columns is written with between its parts, here and at `pgvmig failed --key`.
_BETWEEN = ","


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The judged documents that are here.

    `names`: what search results call a document, by what the judge called it (`07` is row 7). `in_old`, `in_new`: the
    names of those with a vector. `candidates`: the keys of the rows with both. `single`: no document has several rows.
    """

    names: dict[str, str]
    in_old: frozenset[str]
    in_new: frozenset[str]
    candidates: tuple[Key, ...]
    single: bool

    @property
    def in_both(self) -> dict[str, str]:
        """Those of `names` whose vectors both versions have."""
        both = self.in_old & self.in_new
        return {document: name for document, name in self.names.items() if name in both}


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    in_old: bool
    in_new: bool
    key: Key


def find(
    conn: psycopg.Connection[Any],
    version: Version,
    views: tuple[Space, Space],
    documents: Sequence[str],
    column: str | None = None,
) -> Rows:
    """Return which rows the documents are, by key, or by `column`. Raises UsageError when no such column is there."""
    rows = _by_column(conn, version, views, documents, column) if column else _by_key(conn, version, views, documents)
    return Rows(
        names={document: row.name for document, row in rows},
        in_old=frozenset(row.name for _, row in rows if row.in_old),
        in_new=frozenset(row.name for _, row in rows if row.in_new),
        candidates=tuple(row.key for _, row in rows if row.in_old and row.in_new),
        single=column is None or _is_unique(conn, version, column),
    )


def name_of(parts: Sequence[str | None]) -> str | None:
    """Return the name of the document that a row's key, or its document column, stands for; None for no document."""
    return None if None in parts else _BETWEEN.join(str(part) for part in parts)


def texts(cursor: psycopg.Cursor[Any]) -> list[list[str | None]]:
    """Return the values of a query's rows as PostgreSQL writes them, the same for keys and for search results."""
    result = cursor.pgresult
    if result is None:
        return []
    encoding = cursor.connection.info.encoding
    return [
        [None if (value := result.get_value(row, i)) is None else value.decode(encoding) for i in range(result.nfields)]
        for row in range(result.ntuples)
    ]


def _by_key(
    conn: psycopg.Connection[Any], version: Version, views: tuple[Space, Space], documents: Sequence[str]
) -> list[tuple[str, _Row]]:
    keys = Keys.of(version)
    given = [(document, _parts(document, len(keys.columns))) for document in documents]
    whole = [(document, key) for document, key in given if len(key) == len(keys.columns)]
    statement = files.query("evaluation", "readable_keys", **keys.parts(), readable=keys.readable())
    with conn.cursor() as cursor:
        cursor.execute(statement, keys.values(key for _, key in whole))
        readable = [whole[int(str(number)) - 1] for (number,) in texts(cursor)]
        cursor.execute(
            files.query("evaluation", "judged_rows", **_parts_of(version, keys, views)),
            keys.values(key for _, key in readable),
        )
        found = texts(cursor)
    return [(readable[int(str(number)) - 1][0], row) for number, row in _rows(found, None)]


def _by_column(
    conn: psycopg.Connection[Any],
    version: Version,
    views: tuple[Space, Space],
    documents: Sequence[str],
    column: str,
) -> list[tuple[str, _Row]]:
    parts = _parts_of(version, Keys.of(version), views)
    statement = files.query("evaluation", "judged_rows_by_column", **parts, column=identifier(column))
    with conn.cursor() as cursor:
        try:
            cursor.execute(statement, {"documents": text_array(documents)})
        except psycopg.errors.UndefinedColumn as error:
            raise UsageError(
                f"{version.label} has no column {column!r}",
                next_step="name a column of the table with --doc-column, or judge rows by their key",
            ) from error
        found = texts(cursor)
    return [(documents[int(str(number)) - 1], row) for number, row in _rows(found, documents)]


def _is_unique(conn: psycopg.Connection[Any], version: Version, column: str) -> bool:
    given = {"relation": version.relation, "column": column}
    return conn.execute(files.query("evaluation", "is_unique"), given).fetchone() == (True,)


def _rows(found: Iterable[list[str | None]], documents: Sequence[str] | None) -> Iterable[tuple[str, _Row]]:
    for number, in_old, in_new, *key in found:
        name = documents[int(str(number)) - 1] if documents else name_of(key)
        yield str(number), _Row(str(name), in_old == "t", in_new == "t", tuple(str(part) for part in key))


def _parts_of(version: Version, keys: Keys, views: tuple[Space, Space]) -> dict[str, sql.Composable]:
    old, new = views
    return keys.parts() | {
        "table": identifier(version.table_schema, version.table_name),
        "old_view": files.escaped(old.qualified),
        "new_view": files.escaped(new.qualified),
        "in_old": keys.is_row("w", old.key_columns),
        "in_new": keys.is_row("w", new.key_columns),
        "key": sql.SQL(", ").join(identifier("d", name) for name in keys.columns),
    }


def candidate_condition(version: Version, space: Space) -> sql.Composable:
    """Return the condition that a row w of the version's view is one of the candidates (see candidate_values)."""
    keys = replace(Keys.of(version), columns=space.key_columns)
    return files.query("evaluation", "candidates", **keys.parts(), is_given=keys.is_given("w", space.key_columns))


def candidate_values(version: Version, candidates: Iterable[Key]) -> dict[str, str]:
    """Return the parameters of `candidate_condition`."""
    return Keys.of(version).values(candidates)


def _parts(document: str, columns: int) -> Key:
    return tuple(part.strip() for part in document.split(_BETWEEN)) if columns > 1 else (document,)

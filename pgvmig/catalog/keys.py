"""Keys of the user's rows in SQL. They travel as text and are cast back to the row's own types, however many columns.

Knows a version's key columns and nothing of what is done with the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog.versions import Version

Key: TypeAlias = tuple[str, ...]


def identifier(*names: str) -> sql.SQL:
    """Return the quoted name for a statement with parameters."""
    return files.escaped(sql.Identifier(*names))


def objects_of(version: Version) -> dict[str, sql.Composable]:
    """Return the version's table, that of its vectors and its own objects, for statements with parameters."""
    own = {suffix: identifier("pgvmig", version.object(suffix)) for suffix in ("stale", "outcome", "input")}
    return {
        "table": identifier(version.table_schema, version.table_name),
        "vectors": identifier(version.vector_table_schema, version.vector_table_name),
        "text": _text(version),
        **own,
    }


def _text(version: Version) -> sql.Composable:
    """Return the input of the row d, from what of it we may read."""
    if version.text_columns is None:
        return sql.SQL("{}(d.*)").format(identifier("pgvmig", version.object("input")))
    columns = sql.SQL(", ").join(identifier("d", name) for name in version.text_columns)
    return sql.SQL("{}({})").format(identifier("pgvmig", version.object("text")), columns)


@dataclass(frozen=True, slots=True)
class Keys:
    """The key columns of a version's table, and what its stale and outcome tables call them."""

    columns: Sequence[str]
    types: Sequence[str]
    operators: Sequence[str]
    queue_columns: Sequence[str]

    @classmethod
    def of(cls, version: Version) -> Keys:
        """Return the keys of a version's table."""
        return cls(version.key_columns, version.key_types, version.key_operators, version.queue_columns)

    def parts(self) -> dict[str, sql.Composable]:
        """Return what the queries of rows fill in: d is the row, u given, q stale, o outcome, e a table of vectors.

        `row_key`, `queue_key`: as text. `queue_columns`: as they are. `given_columns`: the names in u.
        `row_is_given`, `queue_is_given`, `outcome_is_given`: joins with u. `queued`, `recorded`, `vector_is_row`: of q,
        of o, of e with d. `row_columns`, `given_as_queue`: of d and u as the queue calls them.
        """
        given = [sql.Identifier("u", name) for name in self._names()]
        return {
            "row_key": _listed(sql.SQL("{}::text").format(column) for column in self._of("d")),
            "queue_key": _listed(sql.SQL("{}::text").format(column) for column in self._of("q")),
            "outcome_key": _listed(sql.SQL("{}::text").format(column) for column in self._of("o")),
            "queue_columns": _listed(map(identifier, self.queue_columns)),
            "given": _listed(sql.SQL("{}::text[]").format(sql.Placeholder(name)) for name in self._names()),
            "given_columns": _listed(map(sql.Identifier, self._names())),
            "given_key": _listed(self._cast(given)),
            "row_is_given": self._equal(self._of("d"), self._cast(given)),
            "queue_is_given": self._equal(self._of("q"), self._cast(given)),
            "outcome_is_given": self._equal(self._of("o"), self._cast(given)),
            "queued": self._equal(self._of("q"), self._of("d")),
            "recorded": self._equal(self._of("o"), self._of("d")),
            "vector_is_row": self._equal(self._of("e"), self._of("d")),
            "row_columns": self._as_queue(self._of("d")),
            "given_as_queue": self._as_queue(self._cast(given)),
        }

    def same(self, left: str, right: str) -> sql.Composable:
        """Return the condition that two aliases, both with the queue's column names, are of one key."""
        return self._equal(self._of(left, self.queue_columns), self._of(right, self.queue_columns))

    def is_given(self, alias: str, columns: Sequence[str]) -> sql.Composable:
        """Return the condition that an alias's row, its key columns called so, is one that is given in u."""
        return self._equal(self._of(alias, columns), self._cast([sql.Identifier("u", name) for name in self._names()]))

    def is_row(self, alias: str, columns: Sequence[str]) -> sql.Composable:
        """Return the condition that an alias's row, its key columns called so, is d."""
        return self._equal(self._of(alias, columns), self._of("d"))

    def readable(self) -> sql.Composable:
        """Return the condition that what is given in u can be a key at all: PostgreSQL reads it as the key's types."""
        parts = (
            sql.SQL("pg_catalog.pg_input_is_valid({}, {})").format(
                sql.Identifier("u", name), files.escaped(sql.Literal(kind))
            )
            for name, kind in zip(self._names(), self.types, strict=True)
        )
        return sql.SQL(" AND ").join(parts)

    def columns_of(self, alias: str) -> sql.Composable:
        """Return the queue's key columns of an alias."""
        return _listed(self._of(alias, self.queue_columns))

    def values(self, keys: Iterable[Key]) -> dict[str, str]:
        """Return the parameters for `given`: one array for each key column."""
        rows = list(keys)
        return {name: text_array([row[i] for row in rows]) for i, name in enumerate(self._names())}

    def key(self, row: Sequence[Any]) -> Key:
        """Return the key that a query's row begins with."""
        return tuple(row[: len(self.columns)])

    def _names(self) -> list[str]:
        return [f"key_{i}" for i in range(1, len(self.columns) + 1)]

    def _of(self, alias: str, columns: Sequence[str] | None = None) -> list[sql.Composable]:
        names = columns or (self.columns if alias == "d" else self.queue_columns)
        return [identifier(alias, name) for name in names]

    def _as_queue(self, columns: Sequence[sql.Composable]) -> sql.Composed:
        named = zip(columns, map(identifier, self.queue_columns), strict=True)
        return _listed(sql.SQL("{} AS {}").format(column, name) for column, name in named)

    def _cast(self, given: Sequence[sql.Composable]) -> list[sql.Composable]:
        # PostgreSQL's own spelling of a type, quoted where it must be: not an identifier to us
        types = [files.escaped(sql.SQL(kind)) for kind in self.types]
        return [sql.SQL("{}::{}").format(column, kind) for column, kind in zip(given, types, strict=True)]

    def _equal(self, left: Sequence[sql.Composable], right: Sequence[sql.Composable]) -> sql.Composed:
        # named with their schemas, see pgvmig.equality(): a bare = would be looked for on our search_path
        operators = [files.escaped(sql.SQL(operator)) for operator in self.operators]
        compared = zip(left, operators, right, strict=True)
        return sql.SQL(" AND ").join(sql.SQL("{} {} {}").format(*parts) for parts in compared)


def text_array(texts: Sequence[str]) -> str:
    """Return texts as PostgreSQL writes an array of them; for thousands many times faster than psycopg's own way."""
    whole = "".join(texts)
    if '"' in whole or "\\" in whole:
        texts = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return '{"' + '","'.join(texts) + '"}' if texts else "{}"


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)

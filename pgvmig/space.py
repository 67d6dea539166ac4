"""A version as a search needs it: where its vectors are ranked, in which form, with which settings of pgvector's.

Knows nothing of embedding the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from pgvmig import sql as files
from pgvmig.contract import Contract

# What `pgvmig.version.search` may set, and the setting of pgvector that it becomes.
_SETTINGS = {
    "ef_search": "hnsw.ef_search",
    "probes": "ivfflat.probes",
    "iterative_scan": "hnsw.iterative_scan",
    "max_scan_tuples": "hnsw.max_scan_tuples",
    "max_probes": "ivfflat.max_probes",
}
# What pgvector takes where nothing is said, and the most that it takes.
_EF_SEARCH, _MOST_EF_SEARCH = 40, 1000
# Candidates for each result, at most: as pgvmig.require_search() has it.
MOST_OVERSAMPLE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A version as a search needs it: its contract, its own view, how pgvector is called here."""

    label: str
    version: str
    state: str
    slot: str
    definition: dict[str, Any]
    search: dict[str, Any]
    view: int | None
    view_schema: str | None
    view_name: str | None
    key_columns: list[str]
    vector_schema: str
    operator: str
    can_iterate: bool

    @property
    def contract(self) -> Contract:
        """The frozen contract."""
        return Contract.of(self.definition)

    def settings(self, limit: int = 10) -> dict[str, str]:
        """Return pgvector's settings for a search of so many rows.

        An index scan stops after ef_search rows, those included that a condition, a row-level security policy or a
        vacuum still to come takes out again; an iterative scan goes on until the limit is reached. IVFFlat knows it in
        a relaxed order only.
        """
        wanted = {"iterative_scan": "strict_order"} | self.search if self.can_iterate else dict(self.search)
        if self.search.get("quantize") == "binary":
            wanted["ef_search"] = max(wanted.get("ef_search", _EF_SEARCH), self._candidates(limit))
        names = _SETTINGS
        if self.search.get("method") == "ivfflat" and "iterative_scan" in wanted:
            names = _SETTINGS | {"iterative_scan": "ivfflat.iterative_scan"}
            wanted["iterative_scan"] = "off" if wanted["iterative_scan"] == "off" else "relaxed_order"
        return {names[name]: str(value) for name, value in wanted.items() if name in names}

    def exact(self) -> Space:
        """Return the space as it is searched without its index: the vectors themselves decide, and nothing else."""
        left_out = ("quantize", "oversample", "method")
        return replace(self, search={name: value for name, value in self.search.items() if name not in left_out})

    def statement(self, columns: Sequence[str], condition: sql.Composable) -> sql.Composed:
        """Return the search; `pgvmig_query` and `pgvmig_limit` are its parameters."""
        listed = sql.SQL(", ").join(sql.Identifier("w", name) for name in columns)
        parts = {"columns": listed, "view": self.qualified, **self._view_literals(), **self._vector_parts()}
        escaped = {name: files.escaped(part) for name, part in parts.items()}
        quantize = self.search.get("quantize")
        if quantize is None and self.search.get("method") != "ivfflat":
            return files.query("reading", "search", condition=condition, **escaped)
        order = files.query("reading", f"order_{quantize}" if quantize else "order", **escaped)
        oversample = sql.Literal(self._candidates(1))
        return files.query(
            "reading", "search_again", condition=condition, order=order, oversample=oversample, **escaped
        )

    def _candidates(self, limit: int) -> int:
        """Return how many rows the index is asked for, to be ranked again by their vectors."""
        oversample = self.search.get("oversample", 1) if self.search.get("quantize") == "binary" else 1
        return min(limit * int(oversample), max(limit, _MOST_EF_SEARCH))

    def _vector_parts(self) -> dict[str, sql.Composable]:
        return {
            "slot": sql.Identifier(self.slot),
            "vector_schema": sql.Identifier(self.vector_schema),
            "operator": sql.SQL(self.operator),
            "vector_type": sql.Identifier(self.vector_schema, self.contract.vector_type),
            "halfvec": sql.Identifier(self.vector_schema, "halfvec"),
            "binary_quantize": sql.Identifier(self.vector_schema, "binary_quantize"),
            "dimensions": sql.Literal(self.contract.dimensions),
        }

    def is_there(self) -> sql.Composed:
        """Return the question whether the view is still this version's."""
        return files.query("reading", "is_there", **self._view_literals())

    @property
    def qualified(self) -> sql.Identifier:
        """The view's name."""
        return sql.Identifier(self.view_schema or "", self.view_name or "")

    def _view_literals(self) -> dict[str, sql.Literal]:
        return {"view_text": sql.Literal(files.text(self.qualified)), "view_oid": sql.Literal(self.view)}


def find_space(
    connection: psycopg.Connection[Any], relation: int, slot: str, version: str | None, key: str | None = None
) -> Space | None:
    """Return the version's space, else that of the version that `key` is routed to, else the active version's."""
    with connection.cursor(row_factory=class_row(Space)) as cursor:
        given = {"relation": relation, "slot": slot, "version": version, "key": key}
        return cursor.execute(files.query("reading", "space"), given).fetchone()

"""Judged queries as data: what is asked, and which rows answer it how well. Knows neither files nor the database."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query; `sql` is its own statement, and `parameters` are that statement's, beside those that every one has."""

    id: str
    text: str
    group: str | None = None
    sql: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is given, by name."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """Queries, and grades by query id and document id: 0 is not relevant. Nothing in `judgements`: nobody judged."""

    queries: tuple[Query, ...]
    judgements: Mapping[str, Mapping[str, int]]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what it says, whatever the order and the format of its files."""
        queries = sorted((query.as_json() for query in self.queries), key=lambda query: str(query["id"]))
        content = json.dumps([queries, self.judgements], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def is_judged(self) -> bool:
        """Whether there is a judgement at all."""
        return bool(self.judgements)

    @property
    def documents(self) -> list[str]:
        """Every document that somebody judged, in order."""
        return sorted({document for grades in self.judgements.values() for document in grades})


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What of a judged set could not be used, and was not."""

    queries_not_judged: int = 0
    queries_without_relevant_rows: int = 0
    judgements_of_unknown_queries: int = 0
    judgements_of_missing_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """The part of a judged set that can be measured here: its queries, with the rows' keys in place of documents."""

    queries: tuple[Query, ...]
    judgements: Mapping[str, Mapping[str, int]]
    left_out: LeftOut

    @property
    def judgement_count(self) -> int:
        """How many judgements there are."""
        return sum(map(len, self.judgements.values()))


def usable(judged: JudgedSet, rows: Mapping[str, str]) -> Usable:
    """Return what can be measured when `rows` are the documents that exist here, with what their rows are called.

    A query needs a relevant row: without one every ranking is as good as any other.
    """
    known = {query.id for query in judged.queries}
    unknown = [grades for query, grades in judged.judgements.items() if query not in known]
    here = {
        query: {rows[document]: grade for document, grade in grades.items() if document in rows}
        for query, grades in judged.judgements.items()
        if query in known
    }
    relevant = {query: grades for query, grades in here.items() if any(grade > 0 for grade in grades.values())}
    given = sum(map(len, judged.judgements.values()))
    of_unknown = sum(map(len, unknown))
    return Usable(
        queries=tuple(query for query in judged.queries if query.id in relevant),
        judgements=relevant,
        left_out=LeftOut(
            queries_not_judged=len(known - judged.judgements.keys()),
            queries_without_relevant_rows=len(here) - len(relevant),
            judgements_of_unknown_queries=of_unknown,
            judgements_of_missing_rows=given - of_unknown - sum(map(len, here.values())),
        ),
    )

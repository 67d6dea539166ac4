"""Evaluations as the report shows them, as frozen data; stored.py reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pgvmig.report.safe import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measure of both versions, and the new one's lead with its interval."""

    name: str
    old: float | None
    new: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The same of the queries of one group."""

    name: str
    queries: int | None
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit of the verdict, and what was found."""

    limit: str
    verdict: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as long the new version's search takes at the 95th percentile, and the interval around that."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long a stage took with one version, in milliseconds."""

    stage: str
    side: str
    p50: float
    p95: float
    p99: float
    samples: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A row of a result list. `text` is None where nobody read it, `grade` where nobody judged it."""

    key: str
    grade: float | None = None
    text: Shown | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query, its figures and what both versions answered."""

    id: str
    text: Shown | None
    group: str | None
    old: Mapping[str, float]
    new: Mapping[str, float]
    change: float | None
    old_answers: Sequence[Answer]
    new_answers: Sequence[Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSet:
    """What was asked, and who judged it when."""

    name: str
    owner: str
    judged_on: date
    hash: str
    queries: int
    judged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Two versions compared."""

    evaluation_id: int
    at: datetime
    by: str
    old: str | None
    new: str
    verdict: str | None
    reason: str
    pilot: bool
    judged_set: JudgedSet
    thresholds: Mapping[str, Any]
    figures: Sequence[Figure]
    groups: Sequence[Group] = ()
    limits: Sequence[Limit] = ()
    times: Sequence[Times] = ()
    rates: Mapping[str, float] | None = None
    p95_ratio: Ratio | None = None
    wins: int | None = None
    losses: int | None = None
    ties: int | None = None
    queries: int | None = None
    coverage: float | None = None
    left_out: Mapping[str, int] | None = None
    overlap: float | None = None
    correlation: float | None = None
    doc_column: str | None = None
    changed: Sequence[Query] = ()

    @property
    def main(self) -> Figure | None:
        """The measure that stands for all."""
        return self.figures[0] if self.figures else None

"""GO, NO-GO or INCONCLUSIVE, from limits and intervals. Pure.

A limit is tested as in non-inferiority trials (Piaggio et al., CONSORT statement on non-inferiority trials, JAMA 2012):
when the whole 95 % interval keeps the limit, it is shown to hold; when the whole interval breaks it, it is shown to be
broken; an interval with the limit inside shows neither, however good its middle looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgvmig.errors import UsageError

GO, NO_GO, INCONCLUSIVE = "GO", "NO-GO", "INCONCLUSIVE"
EXIT_CODES = {GO: 0, None: 0, NO_GO: 4, INCONCLUSIVE: 5}

NDCG, RECALL, MRR = METRICS = ("nDCG@10", "recall@10", "MRR@10")
MAX_DROP = 0.01
# An interval from fewer queries is drawn too narrow to be believed: too few of the rare bad ones are among them.
MIN_QUERIES = 20
# Beyond that nobody judges any.
_MANY_QUERIES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What an evaluation must show: by how much a metric's mean may fall, and how high it must be, by its name.

    `max_p95_ratio`: how many times as long as the old version's the new one's search may take at the 95th percentile.
    """

    max_drop: Mapping[str, float] = field(default_factory=dict)
    min: Mapping[str, float] = field(default_factory=dict)
    max_p95_ratio: float | None = None

    def __bool__(self) -> bool:
        return bool(self.max_drop or self.min or self.max_p95_ratio is not None)

    def as_json(self) -> dict[str, Any]:
        """Return what is given, by name, as the catalog keeps it."""
        given = {"max_drop": dict(self.max_drop), "min": dict(self.min), "max_p95_ratio": self.max_p95_ratio}
        return {name: value for name, value in given.items() if value not in ({}, None)}

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Thresholds:
        """Return what the catalog keeps."""
        return cls(**stored)


DEFAULT = Thresholds(max_drop={NDCG: MAX_DROP})


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure measured on a sample, and the 95 % interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit and what was found. `queries_needed`: about how many judged queries would decide one that is open."""

    limit: str
    verdict: str
    found: str
    queries_needed: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict (None: without judgements there is none), the reason in words, and each limit."""

    verdict: str | None
    reason: str
    limits: tuple[Limit, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a command ends with."""
        return EXIT_CODES[self.verdict]


def metric(name: str) -> str:
    """Return the metric that is meant: `ndcg`, `nDCG@10`. Raises UsageError."""
    for known in METRICS:
        if name.strip().lower() in (known.lower(), known.lower().removesuffix("@10")):
            return known
    raise UsageError(f"there is no metric {name!r}", next_step=f"use one of {', '.join(METRICS)}")


def at_least(limit: str, bound: float, found: Estimate, said: str, needed: int | None) -> Limit:
    """Test a figure that must not be lower than the bound."""
    if found.low >= bound:
        return Limit(limit=limit, verdict=GO, found=said)
    if found.high < bound:
        return Limit(limit=limit, verdict=NO_GO, found=said)
    return Limit(limit=limit, verdict=INCONCLUSIVE, found=said, queries_needed=needed)


def at_most(limit: str, bound: float, found: Estimate, said: str) -> Limit:
    """Test a figure that must not be higher than the bound."""
    if found.high <= bound:
        return Limit(limit=limit, verdict=GO, found=said)
    return Limit(limit=limit, verdict=NO_GO if found.low > bound else INCONCLUSIVE, found=said)


def decide(limits: Iterable[Limit], judged: int) -> Verdict:
    """Return the verdict: one limit that is broken breaks all, one that is open leaves all open."""
    tested = tuple(limits)
    if judged < MIN_QUERIES:
        few = "1 judged query is" if judged == 1 else f"{judged} judged queries are"
        return Verdict(INCONCLUSIVE, f"{few} too few, whatever they show: give {MIN_QUERIES} or more", tested)
    if not tested:
        return Verdict(INCONCLUSIVE, "none of the thresholds can be tested on part of the rows")
    for verdict in (NO_GO, INCONCLUSIVE):
        if those := [one for one in tested if one.verdict == verdict]:
            return Verdict(verdict, "; ".join(_reason(one, judged) for one in those), tested)
    return Verdict(GO, "; ".join(_reason(one, judged) for one in tested), tested)


def _reason(tested: Limit, judged: int) -> str:
    said = f"{tested.found}; {tested.limit}"
    if tested.verdict != INCONCLUSIVE:
        return said
    return f"{said}, which is neither kept nor broken for certain: {_more(tested.queries_needed, judged)}"


def _more(needed: int | None, judged: int) -> str:
    if needed is None:
        return "measure more searches with --rounds"
    if needed > _MANY_QUERIES:
        return "it lies so near the limit that no number of queries will tell"
    return f"about {needed:,} judged queries would decide it, {needed - judged:,} more than these"

"""What the report shows, as frozen data. Knows neither the database nor the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pgvmig.checks.gates import GateResult
from pgvmig.report.evaluations import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """A version as `pgvmig status` has it. `rows` is None where nobody counted."""

    version_id: int
    version: str
    state: str
    since: datetime
    created_at: datetime
    writer: str
    layout: str
    contract: dict[str, Any]
    fingerprint: str
    rows: dict[str, Any] | None
    queued: int
    failed: int
    last_error: str | None
    indexes: Sequence[dict[str, Any]]
    percent: int | None
    next_step: str | None

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.contract["model"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Who did what, when and why."""

    at: datetime
    who: str
    source: str
    verb: str
    version: str | None
    from_state: str | None
    to_state: str | None
    reason: str | None
    revision: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A version in one state, from when to when."""

    version: str
    state: str
    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A worker that did not write for a while, and why."""

    state: str
    signal: str | None
    reason: str | None
    next_step: str | None
    began: datetime
    ended: datetime

    @property
    def lasted(self) -> timedelta:
        """How long."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A stretch of a backfill: rows a second of all workers, and the worst lag in it. None where it was not read."""

    at: datetime
    rows_per_second: float
    lag: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """A version's backfill, until the version was ready the first time: what its workers did and what stopped them."""

    version: str
    began: datetime
    ended: datetime
    finished: bool
    workers: int
    rows_written: int
    rows_empty: int
    rows_failed: int
    hot_share: float | None
    waited: timedelta
    peak_lag: timedelta | None
    moments: Sequence[Moment]
    stops: Sequence[Stop]
    kept_fresh: int

    @property
    def rows_per_second(self) -> float | None:
        """The mean speed, waiting and the pauses between workers included."""
        seconds = (self.ended - self.began).total_seconds()
        return self.rows_written / seconds if seconds > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """The gates of the switch that is next. `problem` says why they could not be run, `next_step` what to do then."""

    version: str
    way_back: bool
    results: Sequence[GateResult] = ()
    problem: str | None = None
    next_step: str | None = None

    @property
    def failures(self) -> list[GateResult]:
        """Those that did not pass."""
        return [result for result in self.results if not result.passed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What `pgvmig verify` found last by one gate."""

    version: str
    gate: str
    passed: bool
    found: str
    wanted: str
    next_step: str | None
    measured_at: datetime
    measured_by: str
    same_contract: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductionMetric:
    """What services reported of a version. `points`: when, and the mean of what was reported around then."""

    version: str
    metric: str
    values: int
    mean: float
    p50: float
    p95: float
    first: datetime
    last: datetime
    points: Sequence[tuple[datetime, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """When to go back, as it was declared."""

    metric: str
    comparison: str
    bound: float
    relative: bool
    over: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything on the page about one target."""

    target: str
    database: str
    at: datetime
    toolkit: str
    redacted: bool
    counted: bool
    versions: Sequence[VersionFacts]
    events: Sequence[Event]
    spans: Sequence[Span]
    backfills: Sequence[Backfill]
    gates: Gates | None
    evidence: Sequence[Evidence]
    evaluations: Sequence[Evaluation]
    production: Sequence[ProductionMetric]
    triggers: Sequence[Trigger]

    @property
    def active(self) -> VersionFacts | None:
        """The version that is searched."""
        return next((v for v in self.versions if v.state == "active"), None)

    @property
    def newest(self) -> Evaluation | None:
        """The evaluation whose verdict stands at the top."""
        return self.evaluations[-1] if self.evaluations else None

    def share(self, version: VersionFacts) -> int:
        """Return which share of the keys a version serves, in per cent; the active one has what others leave."""
        others = sum(v.percent or 0 for v in self.versions if v.state != "active")
        return 100 - others if version.state == "active" else version.percent or 0

    def pair(self) -> tuple[VersionFacts | None, VersionFacts | None]:
        """Return the old and the new version, which are compared: those of the switch that is next, or was last."""
        if len(self.versions) < 2:  # noqa: PLR2004
            return None, self.versions[0] if self.versions else None
        by_name = {v.version: v for v in self.versions}
        active = self.active
        if self.gates is None or active is None:
            return self.versions[-2], self.versions[-1]
        other = by_name[self.gates.version]
        return (other, active) if self.gates.way_back else (active, other)

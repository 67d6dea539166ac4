"""What a trigger says of a version's figures. Pure: the same figures give the same finding."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

DEFAULT_OVER = timedelta(minutes=5)
# Below that a mean is an anecdote.
DEFAULT_MIN_VALUES = 50


class Finding(StrEnum):
    """What a look at one trigger finds."""

    OK = "ok"
    TRIPPED = "tripped"
    TOO_FEW = "too few values"
    NO_BASELINE = "no baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """When to go back. Relative: the bound is a multiple of what the version before had."""

    metric: str
    comparison: str
    bound: float
    relative: bool = False
    statistic: str = "mean"
    over: timedelta = DEFAULT_OVER
    min_values: int = DEFAULT_MIN_VALUES

    @property
    def name(self) -> str:
        """How messages call it: `errors above 0.05`, `p95 of latency_ms above 1.5 times before`."""
        of = "" if self.statistic == "mean" else f"{self.statistic} of "
        times = " times before" if self.relative else ""
        return f"{of}{self.metric} {self.comparison} {self.bound:g}{times}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A metric of one version over some time; without values it has no mean."""

    values: int
    mean: float | None
    p95: float | None

    def figure(self, statistic: str) -> float | None:
        """Return the figure that a trigger compares."""
        return self.p95 if statistic == "p95" else self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A trigger, the figure that it met, and the limit, both None where they are not known."""

    trigger: Trigger
    version: str
    against: str | None
    finding: Finding
    values: int
    figure: float | None
    limit: float | None
    baseline: float | None
    baseline_values: int | None

    @property
    def tripped(self) -> bool:
        """Whether it says to go back."""
        return self.finding == Finding.TRIPPED

    @property
    def text(self) -> str:
        """What was found, for people: `errors 0.081 over 5 min (212 values), above 0.05`."""
        trigger = self.trigger
        of = "" if trigger.statistic == "mean" else f"{trigger.statistic} of "
        match self.finding:
            case Finding.TOO_FEW:
                return f"{of}{trigger.metric}: too few values, {self._lacking()}"
            case Finding.NO_BASELINE:
                was = "has none" if self.baseline is None else f"had {self.baseline:.4g}"
                return f"{of}{trigger.metric}: nothing to compare with, {self.against or 'a version before'} {was}"
        relation = trigger.comparison if self.tripped else f"not {trigger.comparison}"
        times = f" ({trigger.bound:g} times {self.against}'s {self.baseline:.4g})" if trigger.relative else ""
        return (
            f"{of}{trigger.metric} {self.figure:.4g} over {span(trigger.over)} ({self.values:,} values), "
            f"{relation} {self.limit:.4g}{times}"
        )

    def _lacking(self) -> str:
        few = self.values < self.trigger.min_values
        version, values = (self.version, self.values) if few else (self.against, self.baseline_values or 0)
        return f"{version} has {values:,} of {self.trigger.min_values:,}"


def judge(trigger: Trigger, version: str, now: Summary, against: str | None, before: Summary | None) -> Judgement:
    """Return what the trigger says of a version's figures now, and of `before`, those of the version against it.

    What too few values say is nothing: they never trip a trigger, and never excuse a version either.
    """
    figure = now.figure(trigger.statistic)
    baseline = before.figure(trigger.statistic) if before is not None and trigger.relative else None
    limit: float | None = trigger.bound
    if trigger.relative:
        limit = trigger.bound * baseline if baseline is not None and baseline > 0 else None
    return Judgement(
        trigger=trigger,
        version=version,
        against=against,
        finding=_finding(trigger, now, before, figure, limit),
        values=now.values,
        figure=figure,
        limit=limit,
        baseline=baseline,
        baseline_values=before.values if before is not None and trigger.relative else None,
    )


def _finding(
    trigger: Trigger, now: Summary, before: Summary | None, figure: float | None, limit: float | None
) -> Finding:
    if now.values < trigger.min_values or figure is None:
        return Finding.TOO_FEW
    if trigger.relative:
        if before is None:
            return Finding.NO_BASELINE
        if before.values < trigger.min_values:
            return Finding.TOO_FEW
    if limit is None:  # a multiple of nothing is nothing, and of a negative figure turns the comparison round
        return Finding.NO_BASELINE
    beyond = figure > limit if trigger.comparison == "above" else figure < limit
    return Finding.TRIPPED if beyond else Finding.OK


def span(time: timedelta) -> str:
    """Return a time span as people say it."""
    seconds = time.total_seconds()
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"

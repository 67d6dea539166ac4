"""The page: facts and plots put into the template. One file that asks for nothing else, no script in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import zip_longest
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pgvmig.contract import Contract
from pgvmig.report import draw_quality, draw_work, words
from pgvmig.report.evaluations import Answer, Query
from pgvmig.report.facts import Backfill, Evidence, Facts, ProductionMetric, Stop
from pgvmig.report.palette import COLOURS
from pgvmig.report.plots import Plot
from pgvmig.report.safe import line, visible

# Judgements describe what people asked for then; see docs/evaluation.md.
OLD_JUDGEMENTS = timedelta(days=90)
# More metrics than that are in the table only.
_METRICS = 8


@dataclass(frozen=True, slots=True)
class StopReason:
    """Stops for the same reason, added up."""

    state: str
    signal: str | None
    times: int
    lasted: timedelta
    reason: str | None
    next_step: str | None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the contract, in the old and in the new version."""

    name: str
    old: Any
    new: Any
    differs: bool


@dataclass(frozen=True, slots=True)
class Place:
    """One place of both result lists. `moved`: by how many places the row went up; None when the old list lacks it."""

    rank: int
    old: Answer | None
    new: Answer | None
    gone: bool
    came: bool
    moved: int | None


def render(facts: Facts) -> str:
    """Return the page as HTML."""
    return (
        _environment()
        .get_template("template.html.jinja")
        .render(
            facts=facts,
            colours=COLOURS,
            plots=_plots(facts),
            pair=facts.pair(),
            contract=contract_rows(facts),
            stops={b.version: stop_reasons(b.stops) for b in facts.backfills},
            speeds=_plots_of_backfills(facts.backfills),
            metrics=_metrics(facts),
            places=places,
            models={v.version: v.model for v in facts.versions},
            evidence=_apart_from_gates(facts),
            old_judgements=_old_judgements(facts),
            target=line(facts.target, 120),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pgvmig.report", "."),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "line": line,
        "duration": words.duration,
        "number": words.number,
        "score": words.score,
        "signed": words.signed,
        "percent": words.percent,
        "figure": words.figure,
        "moment": words.moment,
        "day": words.day,
    }
    return environment


def _finalize(value: Any) -> Any:
    """Let no text onto the page whose characters are not all seen, whatever the template forgets."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _plots(facts: Facts) -> Mapping[str, Plot | None]:
    newest = facts.newest
    return {
        "timeline": draw_work.timeline(facts.spans, facts.events),
        "quality": draw_quality.quality(newest) if newest else None,
        "groups": draw_quality.groups(newest) if newest else None,
        "history": draw_quality.over_time(facts.evaluations),
        "latency": draw_quality.latency(newest) if newest else None,
    }


def _plots_of_backfills(backfills: Sequence[Backfill]) -> dict[str, Plot | None]:
    return {b.version: draw_work.backfill(b) for b in backfills}


def contract_rows(facts: Facts) -> list[Field]:
    """Return the contracts of the two versions that are compared, what differs first."""
    old, new = facts.pair()
    if new is None:
        return []
    before, after = old and Contract.of(old.contract), Contract.of(new.contract)
    different = {name for name, _, _ in before.diff(after)} if before else set()
    rows = [Field(name, old and old.contract[name], value, name in different) for name, value in new.contract.items()]
    return sorted(rows, key=lambda row: not row.differs)


def stop_reasons(stops: Sequence[Stop]) -> list[StopReason]:
    """Return the stops added up by what stopped them, the longest first; said is what was said last."""
    by_signal: dict[tuple[str, str | None], list[Stop]] = defaultdict(list)
    for stop in stops:
        by_signal[stop.state, stop.signal].append(stop)
    found = [
        StopReason(
            state,
            signal,
            len(same),
            sum((stop.lasted for stop in same), timedelta()),
            same[-1].reason,
            same[-1].next_step,
        )
        for (state, signal), same in by_signal.items()
    ]
    return sorted(found, key=lambda reason: reason.lasted, reverse=True)


def _metrics(facts: Facts) -> list[tuple[str, list[ProductionMetric], Plot | None]]:
    series: dict[str, list[ProductionMetric]] = defaultdict(list)
    for one in facts.production:
        series[one.metric].append(one)
    colours = _colours(facts)
    found = []
    for i, (metric, same) in enumerate(series.items()):
        triggers = [trigger for trigger in facts.triggers if trigger.metric == metric]
        drawing = draw_quality.production(f"production-{i}", metric, same, triggers, colours) if i < _METRICS else None
        found.append((metric, same, drawing))
    return found


def _colours(facts: Facts) -> dict[str, str]:
    """Return each version's colour: the two that are compared have those that they have everywhere on the page."""
    old, new = facts.pair()
    named = {v.version: colour for v, colour in ((old, "old"), (new, "new")) if v is not None}
    others = [v.version for v in reversed(facts.versions) if v.version not in named]
    return named | {version: ("third", "fourth")[i % 2] for i, version in enumerate(others)}


def places(query: Query) -> list[Place]:
    """Return both result lists side by side, and how each row moved."""
    old = {answer.key: rank for rank, answer in enumerate(query.old_answers, 1)}
    new = {answer.key for answer in query.new_answers}
    return [
        Place(
            rank,
            before,
            after,
            gone=before is not None and before.key not in new,
            came=after is not None and after.key not in old,
            moved=None if after is None or after.key not in old else old[after.key] - rank,
        )
        for rank, (before, after) in enumerate(zip_longest(query.old_answers, query.new_answers), 1)
    ]


def _apart_from_gates(facts: Facts) -> list[Evidence]:
    """Return the evidence, what failed first."""
    return sorted(facts.evidence, key=lambda evidence: (evidence.passed, evidence.gate))


def _old_judgements(facts: Facts) -> int | None:
    """Return how many days old the judgements are, where that is too many."""
    if facts.newest is None:
        return None
    age = facts.at.date() - facts.newest.judged_set.judged_on
    return age.days if age > OLD_JUDGEMENTS else None

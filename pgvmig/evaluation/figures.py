"""From answers and judgements to figures: means with intervals, wins and losses, groups, agreement, latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from pgvmig.evaluation import metrics, statistics
from pgvmig.evaluation.judged import Usable
from pgvmig.evaluation.searching import Answer, Answers
from pgvmig.evaluation.verdict import METRICS, Estimate, Limit, Thresholds, at_least, at_most

# A difference of two metrics that is smaller is that of two ways to add up.
_TIE = 1e-9

ByQuery = Mapping[str, Mapping[str, float]]


class Figures:
    """What was measured. Without judgements there are no metrics."""

    def __init__(self, answers: Sequence[Answers], judged: Usable | None) -> None:
        self._answers = answers
        judgements = judged.judgements if judged else {}
        self._old, self._new = (
            metrics.of_each(judgements, {a.query.id: getattr(a, side).found for a in answers})
            for side in ("old", "new")
        )
        self._groups = {a.query.id: a.query.group for a in answers}

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name, as they are kept (docs/evaluation.md)."""
        return {
            "metrics": self._metrics(list(self._old)) if self._old else {},
            "groups": [
                {"name": name, "queries": len(members), "metrics": self._metrics(members)}
                for name, members in self._members().items()
            ],
            "agreement": {
                "overlap@10": _average([_overlap(a) for a in self._answers]),
                "kendall_tau": _average([_correlation(a) for a in self._answers]),
            },
            "latency": {side: _latency([getattr(a, side) for a in self._answers]) for side in ("old", "new")},
            "p95_ratio": asdict(self.p95_ratio),
        }

    def queries(self) -> list[dict[str, Any]]:
        """Return what both versions answered to each query, and how good that was."""
        return [
            {
                "id": a.query.id,
                "group": a.query.group,
                "overlap@10": _overlap(a),
                "kendall_tau": _correlation(a),
                "old": _answer(a.old, self._old.get(a.query.id, {})),
                "new": _answer(a.new, self._new.get(a.query.id, {})),
            }
            for a in self._answers
        ]

    def limits(self, thresholds: Thresholds, *, timed: bool) -> Iterator[Limit]:
        """Yield each limit with what was found; that of latency where the searches were such as services make."""
        for name, drop in thresholds.max_drop.items():
            differences = _column(self._new, name, minus=self._old)
            found = statistics.mean(differences)
            needed = statistics.queries_needed(differences, -drop)
            yield at_least(f"it may fall by {drop:g}", -drop, found, _said_change(name, found), needed)
        for name, bound in thresholds.min.items():
            values = _column(self._new, name)
            found = statistics.mean(values)
            needed = statistics.queries_needed(values, bound)
            yield at_least(f"it must be {bound:g} or more", bound, found, _said_value(name, found), needed)
        if timed and thresholds.max_p95_ratio is not None:
            limit = f"it may take {thresholds.max_p95_ratio:g} times as long"
            ratio = self.p95_ratio
            yield at_most(limit, thresholds.max_p95_ratio, ratio, _said_ratio(ratio))

    @cached_property
    def p95_ratio(self) -> Estimate:
        """Return how many times as long the new version's search takes at the 95th percentile."""
        old, new = ([t for a in self._answers for t in getattr(a, side).searches] for side in ("old", "new"))
        return statistics.p95_ratio(old, new)

    def _members(self) -> dict[str, list[str]]:
        members: dict[str, list[str]] = {}
        for query in self._old:
            group = self._groups.get(query)
            if group is not None:
                members.setdefault(group, []).append(query)
        return dict(sorted(members.items()))

    def _metrics(self, queries: Sequence[str]) -> dict[str, dict[str, float]]:
        return {name: self._metric(name, queries) for name in METRICS}

    def _metric(self, name: str, queries: Sequence[str]) -> dict[str, float]:
        old = [self._old[query][name] for query in queries]
        new = [self._new[query][name] for query in queries]
        changes = [after - before for before, after in zip(old, new, strict=True)]
        difference, mean = statistics.mean(changes), statistics.mean(new)
        return {
            "old": _average(old),
            "new": mean.value,
            "new_low": mean.low,
            "new_high": mean.high,
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "wins": sum(change > _TIE for change in changes),
            "losses": sum(change < -_TIE for change in changes),
            "ties": sum(abs(change) <= _TIE for change in changes),
        }


def _column(values: ByQuery, name: str, minus: ByQuery | None = None) -> list[float]:
    return [of_query[name] - (minus[query][name] if minus else 0.0) for query, of_query in values.items()]


def _said_change(name: str, found: Estimate) -> str:
    return f"{name} changed by {found.value:+.3f} (95 % interval {found.low:+.3f} to {found.high:+.3f})"


def _said_value(name: str, found: Estimate) -> str:
    return f"{name} is {found.value:.3f} (95 % interval {found.low:.3f} to {found.high:.3f})"


def _said_ratio(found: Estimate) -> str:
    return (
        f"the search takes {found.value:.2f} times as long at the 95th percentile "
        f"(95 % interval {found.low:.2f} to {found.high:.2f})"
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _overlap(answers: Answers) -> float:
    return statistics.overlap(answers.old.found, answers.new.found, metrics.DEPTH)


def _correlation(answers: Answers) -> float:
    return statistics.rank_correlation(answers.old.found, answers.new.found)


def _latency(answers: Sequence[Answer]) -> dict[str, Any]:
    searches = [seconds for answer in answers for seconds in answer.searches]
    return {
        "embedding": statistics.percentiles([answer.embedding for answer in answers]),
        "search": statistics.percentiles(searches),
        "queries_per_second": len(searches) / sum(searches),
    }


def _answer(answer: Answer, values: Mapping[str, float]) -> dict[str, Any]:
    return {"found": answer.found, **values, "embedding": answer.embedding, "search": answer.searches}

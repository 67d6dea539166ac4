"""Verdicts, and evaluating again and again until there is one about the whole backfill."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from pgvmig.errors import TooEarlyError, UsageError
from pgvmig.evaluation import repeating, verdict
from pgvmig.evaluation.comparing import Evaluation, percent
from pgvmig.evaluation.verdict import GO, INCONCLUSIVE, NO_GO, Estimate, Limit, Thresholds


@pytest.mark.parametrize(
    ("low", "high", "drop", "expected"),
    [
        (-0.01, 0.05, 0.01, GO),
        (-0.011, 0.05, 0.01, INCONCLUSIVE),
        (-0.05, -0.01, 0.01, INCONCLUSIVE),
        (-0.05, -0.011, 0.01, NO_GO),
        (0.0, 0.0, 0.0, GO),
        (0.1, 0.2, 0.0, GO),
    ],
)
def test_a_loss_is_ruled_out_shown_or_neither(low, high, drop, expected):
    assert verdict.at_least("", -drop, Estimate((low + high) / 2, low, high), "", 500).verdict == expected


@pytest.mark.parametrize(("low", "high", "expected"), [(0.5, 2, GO), (1.9, 2.1, INCONCLUSIVE), (2.1, 3, NO_GO)])
def test_a_ratio_has_an_upper_limit(low, high, expected):
    assert verdict.at_most("", 2, Estimate((low + high) / 2, low, high), "").verdict == expected


OPEN = "found INCONCLUSIVE; limit of INCONCLUSIVE, which is neither kept nor broken for certain: "


def limit(outcome, needed=None):
    return Limit(limit=f"limit of {outcome}", verdict=outcome, found=f"found {outcome}", queries_needed=needed)


@pytest.mark.parametrize(
    ("limits", "expected", "reason", "code"),
    [
        ([limit(GO), limit(GO)], GO, "found GO; limit of GO; found GO; limit of GO", 0),
        ([limit(GO), limit(INCONCLUSIVE, 640), limit(NO_GO)], NO_GO, "found NO-GO; limit of NO-GO", 4),
        (
            [limit(GO), limit(INCONCLUSIVE, 640)],
            INCONCLUSIVE,
            OPEN + "about 640 judged queries would decide it, 415 more than these",
            5,
        ),
        (
            [limit(INCONCLUSIVE)],
            INCONCLUSIVE,
            OPEN + "measure more searches with --rounds",
            5,
        ),
        (
            [limit(INCONCLUSIVE, 10**6)],
            INCONCLUSIVE,
            OPEN + "it lies so near the limit that no number of queries will tell",
            5,
        ),
        ([], INCONCLUSIVE, "none of the thresholds can be tested on part of the rows", 5),
    ],
)
def test_one_broken_limit_breaks_all(limits, expected, reason, code):
    found = verdict.decide(limits, 225)
    assert (found.verdict, found.reason, found.exit_code) == (expected, reason, code)


def test_few_queries_prove_nothing():
    assert verdict.decide([limit(NO_GO)], 19).verdict == INCONCLUSIVE
    assert verdict.decide([limit(NO_GO)], 20).verdict == NO_GO
    assert verdict.decide([limit(GO)], 1).reason.startswith("1 judged query is too few")


def test_thresholds_are_kept_as_they_were_given():
    given = Thresholds(max_drop={"nDCG@10": 0.01}, max_p95_ratio=2)
    assert given.as_json() == {"max_drop": {"nDCG@10": 0.01}, "max_p95_ratio": 2}
    assert Thresholds.of_json(given.as_json()) == given
    assert not Thresholds()
    assert verdict.DEFAULT.as_json() == {"max_drop": {"nDCG@10": 0.01}}


def test_metrics_have_names():
    assert [verdict.metric(name) for name in ("ndcg", "nDCG@10", " Recall@10", "mrr")] == [
        "nDCG@10", "nDCG@10", "recall@10", "MRR@10"
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"there is no metric 'map'. Next: use one of nDCG@10, recall@10, MRR@10"):
        verdict.metric("map")


@dataclass
class Clock:
    """Time that passes by sleeping, and by evaluating."""

    now: float = 0.0
    began: list[float] = field(default_factory=list)
    outcomes: list[Any] = field(default_factory=list)

    def sleep(self, seconds):
        self.now += seconds

    def evaluate(self):
        self.began.append(self.now)
        self.now += 5
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def repeat(self, every, max_time=None):
        return list(repeating.repeat(self.evaluate, every, max_time, self.sleep, lambda: self.now))


def evaluation(said, embedded):
    empty = dict.fromkeys(Evaluation.__slots__)
    figures = {"coverage": {"embedded": embedded, "total": 1000}}
    return Evaluation(**empty | {"verdict": said, "pilot": embedded < 1000, "figures": figures})


def test_it_is_repeated_until_the_backfill_is_complete():
    early = TooEarlyError("not yet")
    clock = Clock(outcomes=[early, evaluation(NO_GO, 300), evaluation(GO, 629), evaluation(GO, 1000), None])
    outcomes = clock.repeat(60)
    assert clock.began == [0, 60, 120, 180]
    assert outcomes[0] is early
    assert [repeating.advice(outcome) for outcome in outcomes[1:]] == [
        "the thresholds do not hold at 30 % of the backfill: push the cutover back, and look at the losses",
        "the thresholds hold at 62 % of the backfill: the cutover could be pulled forward to its end",
        None,
    ]


def test_it_ends_after_its_time():
    clock = Clock(outcomes=[evaluation(GO, 100)] * 9)
    assert len(clock.repeat(60, 130)) == 3
    clock = Clock(outcomes=[evaluation(INCONCLUSIVE, 100)] * 9)
    (only,) = clock.repeat(3, 4)  # longer than the interval: the next would begin at once
    assert repeating.advice(only) == "it cannot be told whether the thresholds hold, at 10 % of the backfill"


def test_nearly_everything_is_not_everything():
    assert [percent(share) for share in (0, 0.999, 1)] == ["0 %", "99 %", "100 %"]

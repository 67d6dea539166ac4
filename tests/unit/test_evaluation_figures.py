"""Metrics, intervals and correlations that can be worked out by hand."""

import math

import numpy as np
import pytest

from pgvmig.evaluation import metrics, statistics
from pgvmig.evaluation.verdict import MRR, NDCG, RECALL

ONE = {"q1": {"7": 1}}


def of_one(found, judged=ONE):
    values = metrics.of_each(judged, {"q1": [str(row) for row in found]})["q1"]
    return values[NDCG], values[RECALL], values[MRR]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([7], (1, 1, 1)),
        ([1, 7], (1 / math.log2(3), 1, 1 / 2)),
        ([9, 8, 7], (1 / math.log2(4), 1, 1 / 3)),
        ([*range(11, 20), 7], (1 / math.log2(11), 1, 1 / 10)),
        ([*range(11, 21), 7], (0, 0, 0)),
        ([1, 2], (0, 0, 0)),
        ([], (0, 0, 0)),
    ],
)
def test_one_relevant_row(found, expected):
    assert of_one(found) == pytest.approx(expected)


def test_ranks_beyond_ten_count_for_nothing_in_recall_either():
    many = {"q1": {str(row): 1 for row in range(20)}}
    assert of_one(range(20), many) == pytest.approx((1, 0.5, 1))


def test_grades_weigh():
    graded = {"q1": {"1": 2, "2": 1, "3": 0}}
    best, worst = 2 + 1 / math.log2(3), 1 + 2 / math.log2(3)
    assert of_one([1, 2], graded) == pytest.approx((1, 1, 1))
    assert of_one([2, 1], graded) == pytest.approx((worst / best, 1, 1))
    assert of_one([3], graded) == (0, 0, 0)


def test_every_judged_query_counts_and_no_other():
    values = metrics.of_each({**ONE, "q2": {"8": 1}}, {"q1": ["7"], "q9": ["7"]})
    assert {query: of_query[NDCG] for query, of_query in values.items()} == {"q1": 1, "q2": 0}


def test_an_interval_is_the_same_every_time_and_about_that_of_the_normal_distribution():
    sample = np.random.default_rng(1).normal(0.1, 0.2, 400).tolist()
    found = statistics.mean(sample)
    half = 1.96 * np.std(sample) / math.sqrt(len(sample))
    assert found.value == pytest.approx(np.mean(sample))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.002)
    assert statistics.mean(sample) == found
    assert statistics.mean([0.25] * 30).low == statistics.mean([0.25]).high == 0.25


def test_a_ratio_of_percentiles_is_that_of_the_pairs():
    old = np.random.default_rng(2).exponential(1.0, 300).tolist()
    same = statistics.p95_ratio(old, old)
    assert (same.value, same.low, same.high) == (1, 1, 1)
    twice = statistics.p95_ratio(old, [2 * seconds for seconds in old])
    assert (twice.low, twice.high) == pytest.approx((2, 2))


def test_queries_needed_grow_with_the_square_of_the_distance():
    wide = [0.2, -0.2] * 50
    near, far = statistics.queries_needed(wide, -0.01), statistics.queries_needed(wide, -0.02)
    assert near == pytest.approx((2.8016 * 0.201 / 0.01) ** 2, rel=0.01)
    assert near == pytest.approx(4 * far, rel=0.01)
    assert statistics.queries_needed(wide, 0) > 1_000_000
    assert statistics.queries_needed(wide, -1) == 101


def test_how_alike_two_rankings_are():
    ten = [str(row) for row in range(10)]
    assert (statistics.overlap(ten, ten, 10), statistics.rank_correlation(ten, ten)) == (1, 1)
    assert statistics.rank_correlation(ten, ten[::-1]) == pytest.approx(-1)
    others = [str(row) for row in range(10, 20)]
    assert statistics.overlap(ten, others, 10) == 0
    assert statistics.rank_correlation(ten, others) < 0
    assert statistics.overlap(ten, ten[5:] + others[:5], 10) == 0.5
    assert (statistics.overlap([], [], 10), statistics.rank_correlation([], [])) == (1, 1)
    assert (statistics.overlap(["1"], [], 10), statistics.rank_correlation(["1"], [])) == (0, 0)

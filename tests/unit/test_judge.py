"""Figures that can be worked out by hand."""

import math

import numpy as np
import pytest

from pgvmig.demo.corpus import Query
from pgvmig.demo.judge import Quality, exact_search, judge
from pgvmig.errors import UsageError

ONE = [Query("q1", "first", {7: 1})]


def approximately(ndcg, recall, mrr):
    return Quality(pytest.approx(ndcg), pytest.approx(recall), pytest.approx(mrr))


@pytest.mark.parametrize(
    ("found", "ndcg", "recall", "mrr"),
    [
        ([7], 1, 1, 1),
        ([1, 7], 1 / math.log2(3), 1, 1 / 2),
        ([9, 8, 7], 1 / math.log2(4), 1, 1 / 3),
        ([*range(11, 20), 7], 1 / math.log2(11), 1, 1 / 10),
        ([*range(11, 21), 7], 0, 0, 0),
        ([1, 2], 0, 0, 0),
        ([], 0, 0, 0),
    ],
)
def test_one_relevant_passage(found, ndcg, recall, mrr):
    assert judge({"q1": found}, ONE) == approximately(ndcg, recall, mrr)


def test_ranks_beyond_ten_count_for_nothing_in_recall_either():
    query = Query("q1", "many", dict.fromkeys(range(20), 1))
    assert judge({"q1": list(range(20))}, [query]) == approximately(1, 0.5, 1)


def test_grades_weigh():
    query = Query("q1", "graded", {1: 2, 2: 1})
    best, worst = 2 + 1 / math.log2(3), 1 + 2 / math.log2(3)
    assert judge({"q1": [1, 2]}, [query]) == approximately(1, 1, 1)
    assert judge({"q1": [2, 1]}, [query]) == approximately(worst / best, 1, 1)


def test_a_query_without_results_counts_as_nothing_found():
    queries = [*ONE, Query("q2", "second", {8: 1})]
    assert judge({"q1": [7]}, queries) == approximately(0.5, 0.5, 0.5)
    assert judge({}, queries) == Quality(0, 0, 0)


def test_a_run_for_another_set_of_queries_is_refused():
    with pytest.raises(UsageError) as error:
        judge({"q1": [7], "q9": [7]}, ONE)
    assert str(error.value) == "nobody judged the query 'q9'. Next: judge the run by its own queries"


def test_exact_search_is_by_cosine_best_first():
    passages = np.array([[0, 1], [1, 0], [0.6, 0.8], [-1, 0]], dtype=np.float32)
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert exact_search(queries, passages, k=3) == [[1, 2, 0], [0, 2, 1]]
    assert exact_search(queries, passages) == [[1, 2, 0, 3], [0, 2, 1, 3]]


def test_of_equals_the_earlier_comes_first():
    passages = np.array([[1, 0]] * 30, dtype=np.float32)
    assert exact_search(passages[:1], passages) == [list(range(10))]

"""What an index can be, and the way from any state to the one that is wanted."""

from __future__ import annotations

import itertools

import pytest

from pgvmig.contract import Contract
from pgvmig.errors import UsageError
from pgvmig.index_plan import IndexPlan
from pgvmig.indexing import with_lists
from pgvmig.one_index import Found, Names, Step, steps

BY_ANGLE = (
    "A bit says on which side of zero a component is: bits rank by angle and know neither lengths nor distances, so "
    "the nearest rows would not be among the candidates."
)
TOO_LATE = "PostgreSQL would say so after the backfill, when the index is begun."


def plan(method="hnsw", options=None, quantize=None, **contract):
    return IndexPlan.of(
        Contract.of({"model": "m", "model_version": "1", "dimensions": 8, "input": "body", **contract}),
        method,
        options,
        quantize,
    )


REFUSALS = [
    ({"method": "gin"}, "method is 'gin'. Next: use one of hnsw, ivfflat"),
    (
        {"method": "ivfflat", "metric": "l1"},
        (
            "IVFFlat has no operator class for l1. pgvector's k-means knows no centres for that distance, only HNSW "
            "ranks by it. Next: method='hnsw'"
        ),
    ),
    ({"options": {"lists": 10}}, f"hnsw has no option 'lists'. {TOO_LATE} Next: use m or ef_construction"),
    ({"method": "ivfflat", "options": {"m": 10}}, f"ivfflat has no option 'm'. {TOO_LATE} Next: use lists"),
    ({"options": {"m": 101}}, "m is 101. Next: give a number from 2 to 100"),
    ({"options": {"m": "16"}}, "m is '16'. Next: give a number from 2 to 100"),
    ({"options": {"m": True}}, "m is True. Next: give a number from 2 to 100"),
    ({"method": "ivfflat", "options": {"lists": 0}}, "lists is 0. Next: give a number from 1 to 32,768"),
    (
        {"options": {"m": 40}},
        (
            "ef_construction is 64 and m is 40. A row's neighbours are chosen from ef_construction candidates; "
            "pgvector wants two for each. Next: ef_construction from 80 up"
        ),
    ),
    ({"quantize": "int8"}, "quantize is 'int8'. Next: use one of halfvec, binary, or none"),
    (
        {"quantize": "halfvec", "vector_type": "halfvec"},
        "quantize is 'halfvec' and the vectors are halfvec already. Next: leave quantize= out, or quantize='binary'",
    ),
    (
        {"quantize": "binary", "metric": "l1"},
        f"quantize is 'binary' and the metric is l1. {BY_ANGLE} Next: quantize='halfvec', or none",
    ),
    (
        {"quantize": "binary", "metric": "l2", "normalized": False, "vector_type": "halfvec"},
        (
            "quantize is 'binary' and the metric is l2 of vectors that need not have unit length. "
            f"{BY_ANGLE} Next: leave quantize= out, the index holds halfvec"
        ),
    ),
    (
        {"dimensions": 3072, "vector_type": "vector"},
        (
            f"3,072 dimensions as vector, of which an index takes 2,000. {TOO_LATE} "
            "Next: quantize='halfvec' or quantize='binary'"
        ),
    ),
    (
        {"dimensions": 3072, "vector_type": "vector", "metric": "l1"},
        f"3,072 dimensions as vector, of which an index takes 2,000. {TOO_LATE} Next: quantize='halfvec'",
    ),
    (
        {"dimensions": 5000},
        f"5,000 dimensions as halfvec, of which an index takes 4,000. {TOO_LATE} Next: quantize='binary'",
    ),
    (
        {"dimensions": 5000, "vector_type": "vector", "quantize": "halfvec"},
        f"5,000 dimensions as halfvec, of which an index takes 4,000. {TOO_LATE} Next: quantize='binary'",
    ),
]


@pytest.mark.parametrize(("given", "message"), REFUSALS, ids=[repr(given) for given, _ in REFUSALS])
def test_what_cannot_be_is_refused_before_any_work(given, message):
    with pytest.raises(UsageError) as raised:
        plan(**given)
    assert str(raised.value) == message


OPCLASSES = [
    ({}, "vector_cosine_ops"),
    ({"metric": "l1", "vector_type": "halfvec"}, "halfvec_l1_ops"),
    ({"metric": "inner_product", "quantize": "halfvec"}, "halfvec_ip_ops"),
    ({"metric": "l2", "quantize": "binary"}, "bit_hamming_ops"),
    ({"dimensions": 16_000, "quantize": "binary"}, "bit_hamming_ops"),
    ({"dimensions": 3072, "vector_type": "vector", "quantize": "halfvec"}, "halfvec_cosine_ops"),
]


@pytest.mark.parametrize(("given", "opclass"), OPCLASSES, ids=[repr(given) for given, _ in OPCLASSES])
def test_the_operator_class(given, opclass):
    contract = {"model": "m", "model_version": "1", "dimensions": 8, "input": "body"} | given
    quantize = contract.pop("quantize", None)
    agreed = Contract.of(contract)
    assert IndexPlan.of(agreed, "hnsw", None, quantize).opclass(agreed) == opclass


def test_options_are_met_by_what_the_catalog_has():
    assert plan().is_met_by({})
    assert plan().is_met_by({"m": "16", "ef_construction": "64"})
    assert not plan().is_met_by({"m": "8"})
    assert plan(options={"m": 8}).is_met_by({"m": "8"})
    assert not plan(options={"m": 8}).is_met_by({})
    assert plan("ivfflat").is_met_by({"lists": "7"})
    assert not plan("ivfflat", {"lists": 9}).is_met_by({"lists": "7"})
    assert not plan("ivfflat", {"lists": 9}).is_met_by({})


@pytest.mark.parametrize(
    ("rows", "lists"), [(1, 1), (999, 1), (5_000, 5), (1_000_000, 1000), (1_000_001, 1000), (9_000_000, 3000)]
)
def test_lists_follow_the_rows_unless_given(rows, lists):
    assert with_lists(plan("ivfflat"), rows).options == {"lists": lists}
    assert with_lists(plan("ivfflat", {"lists": 7}), rows).options == {"lists": 7}
    assert with_lists(plan(), rows).options == {}


NAMES = Names("hnsw", ("ivfflat",))
STATES = (None, *Found)


def everything_that_may_be_found():
    for states in itertools.product(
        STATES, STATES, (None, Found.OTHER, Found.INVALID), (None, Found.OTHER, Found.INVALID)
    ):
        yield {name: state for name, state in zip(NAMES.ours, states, strict=True) if state}


def after(found: dict[str, Found], step: Step) -> dict[str, Found]:
    left = {name: state for name, state in found.items() if name != step.name}
    if step.verb == "create":
        # of a partitioned table it goes on with one that lacks some partitions
        assert found.get(step.name) in {None, Found.UNFINISHED}
        return {**left, step.name: Found.RIGHT}
    if step.verb == "rename":
        assert NAMES.name not in found
        return {**left, NAMES.name: found[step.name]}
    assert step.name in found
    return left


def interrupted(found: dict[str, Found], step: Step) -> dict[str, Found]:
    return found if step.verb == "rename" else {**found, step.name: Found.INVALID}


def serves(found: dict[str, Found]) -> bool:
    return any(state in {Found.RIGHT, Found.OTHER} for state in found.values())


def test_from_whatever_is_found_the_index_is_brought_about_and_there_is_one_all_the_while():
    """Also when every single step is interrupted, and another definition is wanted the next time."""
    seen = 0
    for begin in everything_that_may_be_found():
        found = dict(begin)
        for step in steps(NAMES, found):
            half = interrupted(found, step)
            assert serves(half) or not serves(begin) or step.verb == "drop", (begin, step)
            assert_reached(half)
            # somebody wants another one by now
            assert_reached({name: Found.OTHER if state is Found.RIGHT else state for name, state in half.items()})
            found = after(found, step)
            assert serves(found) or not serves(begin), (begin, step)
            seen += 1
        assert found == {NAMES.name: Found.RIGHT}, begin
        assert steps(NAMES, found) == []
    assert seen > 200


def assert_reached(begin: dict[str, Found]) -> None:
    found = dict(begin)
    for step in steps(NAMES, found):
        found = after(found, step)
        assert serves(found) or not serves(begin), (begin, step)
    assert found == {NAMES.name: Found.RIGHT}, begin


def test_where_another_index_is_as_wanted_ours_go():
    there = {NAMES.name: Found.OTHER, NAMES.beside: Found.INVALID}
    assert steps(NAMES, there, another_serves=True) == [Step("drop", "hnsw"), Step("drop", "hnsw_new")]
    assert steps(NAMES, {NAMES.name: Found.RIGHT}, another_serves=True) == []


def test_what_is_unfinished_is_gone_on_with_where_it_is_what_is_created_next():
    half = {NAMES.name: Found.UNFINISHED}
    assert steps(NAMES, half) == [Step("create", "hnsw")]
    beside = {NAMES.name: Found.OTHER, NAMES.beside: Found.UNFINISHED}
    assert steps(NAMES, beside)[0] == Step("create", "hnsw_new")
    assert steps(NAMES, {NAMES.name: Found.RIGHT, NAMES.beside: Found.UNFINISHED}) == [Step("drop", "hnsw_new")]
    assert steps(NAMES, half, another_serves=True) == [Step("drop", "hnsw")]

"""Stripes, and what becomes of rows that were read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgvmig.backfill.batches import Answer, Batch, in_order, sort_out, stripes
from pgvmig.backfill.claims import Entries, Range
from pgvmig.layouts.rows import Place, SourceRow

RANGE = Range(1, 0, 64)


def places(*blocks):
    return [Place((str(number),), block) for number, block in enumerate(blocks)]


def keys(stripe):
    return [int(key) for (key,) in stripe]


def row(key, text="text", **facts):
    return SourceRow((key,), text, b"hash", **facts)


def test_a_stripe_takes_one_row_of_each_page():
    assert list(map(keys, stripes(places(0, 0, 0, 1, 1, 2, 2, 2), 3))) == [[0, 3, 5], [1, 4, 6], [2, 7]]


def test_a_long_stripe_is_cut():
    assert list(map(keys, stripes(places(0, 1, 2, 3, 4, 4), 2))) == [[0, 1], [2, 3], [4, 5]]


def test_short_stripes_are_put_together():
    assert list(map(keys, stripes(places(0, 0, 0, 1, 1), 64))) == [[0, 3, 1, 4, 2]]


def test_the_biggest_row_of_a_page_leaves_it_first():
    found = [Place((str(i),), i // 3, room) for i, room in enumerate([100, 300, 200, 50, 70, 60])]
    assert list(map(keys, stripes(found, 2))) == [[1, 4], [2, 5], [0, 3]]


def test_without_stripes_rows_go_as_they_lie_there():
    assert list(map(keys, in_order(places(0, 0, 0, 1, 1, 2, 2), 3))) == [[0, 1, 2], [3, 4, 5], [6]]


@given(st.lists(st.integers(0, 20)), st.integers(1, 10))
def test_every_row_is_in_exactly_one_stripe(blocks, size):
    found = stripes(places(*sorted(blocks)), size)
    assert sorted(key for stripe in found for key in keys(stripe)) == list(range(len(blocks)))
    assert all(0 < len(stripe) <= size for stripe in found)


def test_rows_of_the_walk_are_sorted_out():
    rows = [row("1"), row("2", fresh=True), row("3", recorded=True), row("4", " \t")]
    batch = sort_out(RANGE, [(str(n),) for n in range(1, 6)], rows)
    assert batch == Batch(RANGE, to_embed=[rows[0]], answers=[Answer(rows[3], "empty")])


def test_rows_of_the_log_are_sorted_out():
    claim = Entries(1, {("1",): [10], ("2",): [11, 15], ("3",): [12], ("4",): [13], ("5",): [14]})
    rows = [row("1"), row("2", fresh=True), row("3", recorded=True), row("4", "\u2003")]
    batch = sort_out(claim, list(claim.keys), rows)
    assert batch == Batch(
        claim,
        to_embed=[rows[0]],
        answers=[Answer(rows[3], "empty")],
        gone=[("5",)],
        done={("2",): [11, 15], ("3",): [12]},
    )


@pytest.mark.parametrize("keys_read", [[], [("1",)]])
def test_a_batch_of_the_walk_in_which_nothing_is_to_do_is_settled(keys_read):
    batch = sort_out(RANGE, keys_read, [row("1", fresh=True)] if keys_read else [])
    assert batch.settled


def test_an_empty_range_is_the_closing_look():
    assert Range(1, 7, 7).closing
    assert not RANGE.closing

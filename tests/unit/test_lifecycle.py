"""The lifecycle as Python has it; the database's copy is compared in the integration tests."""

from itertools import pairwise, product

import pytest

from pgvmig.lifecycle import CAPTURED, INITIAL, TRANSITIONS, State, is_legal

WAY = [State.ADDED, State.BACKFILLING, State.READY, State.ACTIVE, State.RETAINED, State.RETIRED]


def test_the_whole_way_is_legal():
    assert is_legal(None, WAY[0])
    assert all(is_legal(before, after) for before, after in pairwise(WAY))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("active", "ready"),
        ("active", "retained"),
        ("retained", "active"),
        ("retired", "added"),
        ("ready", "backfilling"),
    ],
)
def test_the_ways_back_are_legal(before, after):
    assert is_legal(State(before), State(after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "ready"),
        (None, "retired"),
        ("added", "active"),
        ("backfilling", "active"),
        ("active", "retired"),
        ("retired", "active"),
        ("retained", "ready"),
    ],
)
def test_shortcuts_are_not(before, after):
    assert not is_legal(before and State(before), State(after))


def test_only_named_steps_and_standing_still_are_legal():
    legal = {pair for pair in product(State, State) if is_legal(*pair)}
    assert legal == TRANSITIONS | {(state, state) for state in State}
    assert {state for state in State if is_legal(None, state)} == INITIAL


def test_every_state_can_be_reached_and_left():
    for state in State:
        assert state in INITIAL | {after for _, after in TRANSITIONS}
        assert any(before == state for before, _ in TRANSITIONS)


def test_only_retired_vectors_do_not_follow_their_text():
    assert set(State) - CAPTURED == {State.RETIRED}

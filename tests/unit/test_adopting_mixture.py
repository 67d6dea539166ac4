"""What a sample says about a whole column: shares, how sure they are, what tells the rows apart."""

import random

import pytest

from pgvmig.adopting.mixture import Group, Sampled, groups, interval, largest_missed, tells, weighted_share


@pytest.mark.parametrize("sampled", [1, 50, 200, 1_000])
def test_what_a_sample_misses_it_misses_in_one_case_of_twenty(sampled):
    share = largest_missed(sampled)
    assert (1 - share) ** sampled == pytest.approx(0.05)
    assert largest_missed(0) == 1


@pytest.mark.parametrize(("share", "sampled"), [(0.02, 200), (0.25, 200), (0.5, 40), (0.97, 1_000)])
def test_nineteen_of_twenty_intervals_hold_the_columns_share(share, sampled):
    chance = random.Random(7)
    held = 0
    for _ in range(1_000):
        least, most = interval(sum(chance.random() < share for _ in range(sampled)), sampled)
        held += least <= share <= most
    assert 925 <= held <= 985


def test_an_interval_stays_within_what_a_share_can_be():
    assert interval(0, 0) == (0, 1)
    assert interval(0, 10)[0] == 0
    assert interval(10, 10)[1] == pytest.approx(1)


def rows(fit, other, **telling):
    """So many rows that fit and that do not; a telling column is a function of both numbers."""
    return [
        Sampled(key=str(n), fits=n < fit, telling={name: value(n, n < fit) for name, value in telling.items()})
        for n in range(fit + other)
    ]


def test_a_date_tells_which_rows_are_older():
    at = rows(5, 4, made=lambda n, fits: f"2024-01-0{n + 1}")
    assert tells(at, ["made"], frozenset({"made"})) == (
        "made tells them apart: rows until 2024-01-05 fit, from 2024-01-06 on they do not"
    )
    newer = rows(4, 4, made=lambda n, fits: f"2024-01-0{9 - n}")
    assert tells(newer, ["made"], frozenset({"made"})) == (
        "made tells them apart: rows until 2024-01-05 do not fit, from 2024-01-06 on they do"
    )
    assert tells(rows(4, 4, made=lambda n, fits: f"2024-01-0{n % 4}"), ["made"], frozenset({"made"})) is None
    assert tells(rows(4, 4, made=lambda n, fits: None), ["made"], frozenset({"made"})) is None


def test_a_value_tells_and_a_key_does_not():
    told = rows(20, 10, id=lambda n, fits: str(n), source=lambda n, fits: ("a", "b")[n % 2] if fits else None)
    assert tells(told, ["id", "source"], frozenset()) == "source tells them apart: a, b fit, NULL do not"
    assert tells(rows(20, 2, source=lambda n, fits: str(fits)), ["source"], frozenset()) is None  # may be chance


def test_groups_are_weighted_by_their_size():
    sampled = [Sampled(key=str(n), fits=n < 10, group="big" if n < 10 else None) for n in range(12)]
    found = groups(sampled)
    assert found == [Group(None, 0, 2), Group("big", 10, 10)]
    assert weighted_share(found, {"big": 98, None: 2}) == 0.98
    assert weighted_share(found, {}) == 1

"""What a sample says about a whole column: how many rows fit, how sure that is, and what tells the others. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

# Two-sided 95 %.
_Z = 1.959964
_MISSED = 0.05
# So many rows of each kind must there be before a column is said to tell them apart; fewer may be chance.
_FEW = 3
_GROUPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A row that was embedded again: whether its vector is the model's, and what may tell it from others.

    `cosine` is None where the dimensions differ. `group`: its value of the column that was asked for (--by).
    """

    key: str
    fits: bool
    cosine: float | None = None
    group: str | None = None
    telling: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """How many of a group's sampled rows fit."""

    value: str | None
    fit: int
    sampled: int


def largest_missed(sampled: int) -> float:
    """Return the share that a random sample without a single misfit would still miss in one case of twenty."""
    return 1.0 if not sampled else 1 - _MISSED ** (1 / sampled)


def interval(hits: int, sampled: int) -> tuple[float, float]:
    """Return between which shares the column's is, with 95 % confidence (Wilson's interval)."""
    if not sampled:
        return 0.0, 1.0
    share, square = hits / sampled, _Z * _Z
    middle = (share + square / (2 * sampled)) / (1 + square / sampled)
    half = _Z / (1 + square / sampled) * sqrt(share * (1 - share) / sampled + square / (4 * sampled * sampled))
    return max(0.0, middle - half), min(1.0, middle + half)


def groups(rows: Sequence[Sampled]) -> list[Group]:
    """Return the groups, those that fit least first."""
    counted: dict[str | None, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        counted[row.group][0] += row.fits
        counted[row.group][1] += 1
    found = [Group(value, fit, sampled) for value, (fit, sampled) in counted.items()]
    return sorted(found, key=lambda group: (group.fit / group.sampled, group.value or ""))


def weighted_share(found: Sequence[Group], sizes: Mapping[str | None, int]) -> float:
    """Return the share that fits when every group was sampled by itself: each counts as many rows as it has."""
    whole = sum(sizes.get(group.value, 0) for group in found)
    return sum(sizes.get(group.value, 0) * group.fit / group.sampled for group in found) / whole if whole else 1.0


def tells(rows: Sequence[Sampled], columns: Sequence[str], dates: frozenset[str]) -> str | None:
    """Say which column tells the rows that fit from the others, None when none does."""
    fit = [row for row in rows if row.fits]
    other = [row for row in rows if not row.fits]
    if min(len(fit), len(other)) < _FEW:
        return None
    for column in columns:
        good = {row.telling.get(column) for row in fit}
        bad = {row.telling.get(column) for row in other}
        if column in dates and (said := _by_date(column, good, bad)):
            return said
        if column not in dates and not good & bad and len(good | bad) <= min(_GROUPS, len(rows) // _FEW):
            return f"{column} tells them apart: {_listed(good)} fit, {_listed(bad)} do not"
    return None


def _by_date(column: str, good: set[str | None], bad: set[str | None]) -> str | None:
    if None in good | bad:
        return None
    fit, other = sorted(map(str, good)), sorted(map(str, bad))
    if fit[-1] < other[0]:
        return f"{column} tells them apart: rows until {fit[-1]} fit, from {other[0]} on they do not"
    if other[-1] < fit[0]:
        return f"{column} tells them apart: rows until {other[-1]} do not fit, from {fit[0]} on they do"
    return None


def _listed(values: set[str | None]) -> str:
    return ", ".join(sorted("NULL" if value is None else value for value in values))

"""Rows of a column, drawn at random from random pages, or from every group of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from pgvmig.adopting.subject import Subject

# Pages that are read for each row that is wanted: few rows are of one page then, and they are nearly independent.
_PAGES_A_ROW = 4
# A group as small as this is looked at as a whole; so many groups at most.
_LEAST, MOST_GROUPS = 10, 1_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as adopt.sql returns them; `sizes`: how many vectors each group has, empty without groups.

    `whole`: these are all the vectors that there are.
    """

    rows: list[dict[str, Any]]
    sizes: Mapping[str | None, int]
    whole: bool


def draw(subject: Subject, count: int) -> Sample:
    """Return up to so many rows that have a vector; with groups about so many in all, and some of each."""
    if subject.by is None:
        rows = _random(subject, count)
        return Sample(rows, {}, whole=len(rows) < count)
    with subject.looking() as cursor:
        found = cursor.execute(subject.query("groups"), {"most": MOST_GROUPS}).fetchall()
        sizes = {row["value"]: row["vectors"] for row in found}
        each = max(ceil(count / max(len(sizes), 1)), _LEAST)
        given = {"each": each, "limit": each * max(len(sizes), 1)}
        rows = cursor.execute(subject.query("sample_groups"), given).fetchall()
        return Sample(rows, sizes, whole=len(rows) == sum(sizes.values()) and len(sizes) < MOST_GROUPS)


def _random(subject: Subject, count: int) -> list[dict[str, Any]]:
    percent = 100.0 * _PAGES_A_ROW * count / max(subject.pages, 1)
    while True:
        with subject.looking() as cursor:
            given = {"percent": min(percent, 100.0), "limit": count}
            rows = cursor.execute(subject.query("sample"), given).fetchall()
        if len(rows) >= count or percent >= 100:  # noqa: PLR2004
            return rows
        percent *= 10

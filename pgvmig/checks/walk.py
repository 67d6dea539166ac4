"""One walk over a version's vectors, page by page, for the checks that must see every one of them.

A transaction takes about half a second, so that no snapshot holds up vacuum for the minutes that a big table takes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pgvmig import lengths
from pgvmig.checks.evidence import Task

_FIRST_PAGES, _MOST_PAGES = 256, 65_536
_SECONDS = 0.5
_KEYS = 6


@dataclass(slots=True)
class Tally:
    """What the walk counted; keys are the first few."""

    tolerance: float
    vectors: int = 0
    unhashed: int = 0
    other_text: int = 0
    other_text_keys: list[str] = field(default_factory=list)
    wrong_dimensions: int = 0
    not_finite: int = 0
    zero: int = 0
    wrong_length: int = 0
    unsound_keys: list[str] = field(default_factory=list)
    shortest: float | None = None
    longest: float | None = None

    def add(self, counted: dict[str, Any]) -> None:
        """Add what one range of pages has."""
        for name in ("vectors", "unhashed", "other_text", "wrong_dimensions", "not_finite", "zero", "wrong_length"):
            setattr(self, name, getattr(self, name) + counted[name])
        self.other_text_keys = (self.other_text_keys + (counted["other_text_keys"] or []))[:_KEYS]
        self.unsound_keys = (self.unsound_keys + (counted["unsound_keys"] or []))[:_KEYS]
        self.shortest = min((n for n in (self.shortest, counted["shortest"]) if n is not None), default=None)
        self.longest = max((n for n in (self.longest, counted["longest"]) if n is not None), default=None)


def walk(task: Task) -> Tally:
    """Look at every vector."""
    contract, tally = task.version.contract, Tally(lengths.tolerance(task.version.contract))
    query = task.query("walk")
    given = {
        "dimensions": contract.dimensions,
        "normalized": contract.normalized,
        "tolerance": tally.tolerance,
        "adopted": task.version.adopted,
    }
    first, end, size = 0, task.pages(), _FIRST_PAGES
    while first < end:
        task.report("reading all vectors", first, end)
        began = time.monotonic()
        last = min(first + size, end)
        with task.looking() as cursor:
            # not prepared: a plan for any range of pages is none for a short one
            cursor.execute(query, given | {"first": f"({first},0)", "last": f"({last},0)"}, prepare=False)
            tally.add(cursor.fetchone() or {})
        first = last
        faster = time.monotonic() - began < _SECONDS / 2
        size = min(size * 2, _MOST_PAGES) if faster else max(size // 2, 1)
    task.report("reading all vectors", end, end)
    return tally

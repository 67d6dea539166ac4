"""Was a search ranked in the wrong space? Answered by the vectors themselves, never by a label.

Each answer's vectors are compared with the demo's own copy of what each model makes of the answer's text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import TypeAlias

import numpy as np

from pgvmig.demo.models import Vectors

# What an answer showed of one row: its text and its vector, as pgvector's text form.
Shown: TypeAlias = tuple[str, str]
Embed: TypeAlias = Callable[[list[str]], Vectors]

# Vectors of one text by one model agree to the last bits of float32; those of two models are nowhere near.
SAME = 0.999


class Witness:
    """Remembers which vectors each search was answered with. Several threads may tell it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers: dict[tuple[str, Shown], int] = {}
        self._searches: dict[tuple[int, ...], int] = {}

    def saw(self, model: str, rows: Iterable[Shown]) -> None:
        """Remember a search: its query was embedded with `model`, and these rows answered it."""
        with self._lock:
            numbers = tuple(self._numbers.setdefault((model, row), len(self._numbers)) for row in rows)
            self._searches[numbers] = self._searches.get(numbers, 0) + 1

    @property
    def searches(self) -> int:
        """How many searches were remembered."""
        with self._lock:
            return sum(self._searches.values())

    def wrong(self, copies: Mapping[str, Embed]) -> int:
        """Return how many searches showed a vector that their query's model did not make of the row's text.

        `copies` gives, by model, the demo's own vectors of texts.
        """
        with self._lock:
            shown, searches = list(self._numbers), dict(self._searches)
        foreign = {self._numbers[key] for model, embed in copies.items() for key in _foreign(shown, model, embed)}
        return sum(times for numbers, times in searches.items() if foreign.intersection(numbers))


def _foreign(shown: list[tuple[str, Shown]], model: str, embed: Embed) -> list[tuple[str, Shown]]:
    mine = [key for key in shown if key[0] == model]
    texts = sorted({text for _, (text, _) in mine})
    own = dict(zip(texts, embed(texts), strict=True)) if texts else {}
    return [key for key in mine if not _is_same(key[1][1], own[key[1][0]])]


def _is_same(vector: str, own: Vectors) -> bool:
    found = np.fromstring(vector.strip("[]"), dtype=np.float32, sep=",")
    if found.shape != own.shape:
        return False
    return bool(found @ own >= SAME * np.linalg.norm(found) * np.linalg.norm(own))

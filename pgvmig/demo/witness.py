"""Was a search ranked in the wrong space? Answered by the vectors themselves, never by a label.

Each vector that a search showed is looked for among the demo's own vectors: what the model that embedded the query
makes of every text there is. A vector of an older text of its row is stale, but in its space; another model's is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock

import numpy as np

from pgvmig.demo.models import Vectors

# One text's vectors by one model agree to the last bits of float32; those of two models are nowhere near.
SAME = 0.999


class Witness:
    """Remembers which vectors each search was answered with. Several threads may tell it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers: dict[tuple[str, str], int] = {}
        self._searches: dict[tuple[int, ...], int] = {}

    def saw(self, model: str, vectors: Iterable[str]) -> None:
        """Remember a search: its query was embedded with `model`, it showed these vectors (pgvector's text form)."""
        with self._lock:
            numbers = tuple(self._numbers.setdefault((model, vector), len(self._numbers)) for vector in vectors)
            self._searches[numbers] = self._searches.get(numbers, 0) + 1

    @property
    def searches(self) -> int:
        """How many searches were remembered."""
        with self._lock:
            return sum(self._searches.values())

    def wrong(self, own: Mapping[str, Vectors]) -> int:
        """Return how many searches showed a vector that their query's model did not make.

        `own` gives, by model, the demo's own vectors of every text, one a row, of unit length.
        """
        with self._lock:
            numbers, searches = dict(self._numbers), dict(self._searches)
        foreign = {number for (model, vector), number in numbers.items() if not _is_among(own[model], vector)}
        return sum(times for shown, times in searches.items() if foreign.intersection(shown))


def _is_among(own: Vectors, vector: str) -> bool:
    found = np.fromstring(vector.strip("[]"), dtype=np.float32, sep=",")
    if found.size != own.shape[1]:
        return False
    return bool((own @ found).max() >= SAME * np.linalg.norm(found))

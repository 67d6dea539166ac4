"""The tables that are measured on, made with a fixed seed: the same rows on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

_VOCABULARY = 4_000
_DIRECTIONS = 64
# Of realistic lengths: two in three texts are within a third of the middle, as chunks of documents are.
_SPREAD = 0.3
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


@dataclass(frozen=True, slots=True)
class Documents:
    """A table `documents (id, title, body, embedding)`.

    `texts`: uniform bodies have exactly `characters`; realistic ones a log-normal length around them (two in three
    within a third); hashed ones are two checksums, made by the server for tables too big to send. `dimensions` of the
    old model's vectors, with an HNSW index on them; 0 for a table without vectors.
    """

    rows: int
    texts: Literal["uniform", "realistic", "hashed"] = "uniform"
    characters: int = 800
    dimensions: int = 384
    fillfactor: int = 100

    def __str__(self) -> str:
        vectors = f", HNSW on {self.dimensions}-d vectors" if self.dimensions else ""
        characters = 64 if self.texts == "hashed" else self.characters
        return f"{self.rows:,} rows, {self.texts} texts of {characters} characters{vectors}"

    def create(self, conn: psycopg.Connection[Any]) -> None:
        """Create and fill the table, its index and its statistics."""
        conn.execute("CREATE EXTENSION vector")
        vector = f", embedding vector({self.dimensions})" if self.dimensions else ""
        conn.execute(
            sql.SQL(
                "CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text NOT NULL"
                f"{vector}) WITH (fillfactor = {self.fillfactor})"
            )
        )
        self._fill(conn)
        if self.dimensions:
            conn.execute("CREATE INDEX documents_embedding ON documents USING hnsw (embedding vector_cosine_ops)")
        conn.execute("VACUUM (FREEZE, ANALYZE) documents")

    def _fill(self, conn: psycopg.Connection[Any]) -> None:
        if self.texts == "hashed":
            conn.execute(
                "INSERT INTO documents (id, title, body) SELECT i, 'Document ' || i, md5(i::text) || md5((-i)::text) "
                "FROM generate_series(1, %s) AS i",
                (self.rows,),
            )
            return
        types = ["int8", "text", "text"] + ["vector"] * bool(self.dimensions)
        vectors = embeddings(self.rows, self.dimensions) if self.dimensions else repeat(None)
        register_vector(conn)
        columns = "id, title, body" + ", embedding" * bool(self.dimensions)
        with conn.cursor().copy(f"COPY documents ({columns}) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(types)
            for number, (body, vector) in enumerate(zip(self.bodies(), vectors, strict=False)):
                row = (number + 1, f"Document {number}", body)
                copy.write_row(row if vector is None else (*row, vector))

    def bodies(self) -> Iterator[str]:
        """Yield the texts: words of an invented vocabulary, as frequent as words are (Zipf); no two are the same."""
        rng = np.random.default_rng(3)
        words = _vocabulary(rng)
        frequencies = 1 / np.arange(1, _VOCABULARY + 1)
        frequencies /= frequencies.sum()
        for number in range(self.rows):
            length = self._length(rng)
            drawn = rng.choice(_VOCABULARY, size=length // 4 + 8, p=frequencies)
            text = f"{number} " + " ".join(words[i] for i in drawn)
            yield text[:length].ljust(length, ".")

    def _length(self, rng: np.random.Generator) -> int:
        if self.texts == "uniform":
            return self.characters
        drawn = rng.lognormal(np.log(self.characters), _SPREAD)
        return int(np.clip(drawn, self.characters / 5, self.characters * 5))


def _vocabulary(rng: np.random.Generator) -> list[str]:
    letters = np.array(list(_LETTERS))
    weights = 1 / np.arange(2, len(_LETTERS) + 2)
    weights /= weights.sum()
    return ["".join(rng.choice(letters, size=rng.integers(2, 10), p=weights)) for _ in range(_VOCABULARY)]


def embeddings(rows: int, dimensions: int) -> Iterator[Any]:
    """Yield vectors of unit length that cost a graph about what vectors of texts do, which is what old ones are for.

    Measured beside wordllama's vectors of 5,000 passages: with independent coordinates an insert costs about twice as
    much, with near-duplicates a fraction. These vary along 64 directions, along each one less than along the last.
    """
    rng = np.random.default_rng(11)
    weights = np.arange(1, _DIRECTIONS + 1, dtype=np.float32) ** -0.5
    directions = weights[:, np.newaxis] * rng.standard_normal((_DIRECTIONS, dimensions), dtype=np.float32)
    for first in range(0, rows, 1_000):
        drawn = rng.standard_normal((min(1_000, rows - first), _DIRECTIONS), dtype=np.float32) @ directions
        drawn += 0.1 * rng.standard_normal(drawn.shape, dtype=np.float32)
        yield from drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

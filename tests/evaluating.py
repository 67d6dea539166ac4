"""What tests of evaluations share: thirty rows, queries whose rankings a test chooses, and both versions' vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, TypeAlias

import numpy as np
from lifecycle import add_version, install
from vectors import cut_over, write

from pgvmig.evaluation.comparing import Evaluation, Request, evaluate
from pgvmig.evaluation.judged import JudgedSet, Query
from pgvmig.evaluation.store import Origin

ROWS = range(1, 31)
# A row's vector is its own axis, so that a query's components are the order in which rows are found.
DIMENSIONS = len(ROWS)
AXES = dict(zip(ROWS, np.eye(DIMENSIONS, dtype=np.float32), strict=True))
ORIGIN = Origin(name="faq", owner="ann", judged_on=date(2026, 11, 1), file_date=date(2026, 11, 2))

Others: TypeAlias = Mapping[str, Sequence[int] | int]


def ranking(relevant: int, place: int) -> list[int]:
    """Return ten rows, the relevant one of them at that place (from 1; beyond 10 it is not among them)."""
    found = [row for row in reversed(ROWS) if row != relevant][:10]
    found.insert(place - 1, relevant)
    return found[:10]


def judged(number: int = 24, **query: Any) -> JudgedSet:
    """Return queries q1, q2, ... that the rows of the same number answer."""
    return JudgedSet(
        queries=tuple(Query(id=f"q{n}", text=f"q{n}", **query) for n in range(1, number + 1)),
        judgements={f"q{n}": {str(n): 1} for n in range(1, number + 1)},
    )


class Rankings:
    """Opens embedders of two models, each with its own place for the row that answers q<n>.

    `one_but`, `two_but`: queries with another place, or with the rows in their order.
    """

    def __init__(
        self, one: int = 2, two: int = 1, *, one_but: Others | None = None, two_but: Others | None = None
    ) -> None:
        self.places = {"one": one, "two": two}
        self.otherwise = {"one": one_but or {}, "two": two_but or {}}
        self.asked: list[tuple[str, str]] = []

    def __call__(self, contract: Any) -> _Embedder:
        return _Embedder(self, contract.model)

    def rows(self, model: str, text: str) -> Sequence[int]:
        """Return the rows that a model finds, in their order."""
        given = self.otherwise[model].get(text, self.places[model])
        return ranking(int(text.strip("q")), given) if isinstance(given, int) else given


class _Embedder:
    def __init__(self, owner: Rankings, model: str) -> None:
        self.owner, self.model = owner, model

    def embed_query(self, text: str) -> Any:
        self.owner.asked.append((self.model, text))
        vector = np.zeros(DIMENSIONS, dtype=np.float32)
        for place, row in enumerate(self.owner.rows(self.model, text)):
            vector += AXES[row] * (1 - place / 20)
        return vector

    def close(self) -> None:
        pass


def two_versions(connection: Any, rows: Sequence[int] = ROWS) -> tuple[Any, Any]:
    """Make a table with v1, whole and active, and v2 with the vectors of those rows."""
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text, code text UNIQUE)")
    connection.execute(
        "INSERT INTO documents SELECT i, 'row ' || i, 'c' || i FROM generate_series(1, %s) AS i", [len(ROWS)]
    )
    v1, v2 = (
        add_version(connection, "documents", name, {"model": model, "dimensions": DIMENSIONS})
        for name, model in (("v1", "one"), ("v2", "two"))
    )
    write(connection, v1, AXES)
    write(connection, v2, {row: AXES[row] for row in rows})
    settle(connection)
    cut_over(connection, v1)
    return v1, v2


def settle(connection: Any) -> None:
    """Let the rows without a vector have waited for longer than a moment."""
    connection.execute("UPDATE pgvmig.stale_row SET queued_at = queued_at - interval '1 h'")


def run(
    connection: Any, embedders: Rankings | None = None, judged_set: JudgedSet | None = None, **given: Any
) -> Evaluation:
    """Evaluate v2 against v1."""
    request = {"target": "documents", "old": "v1", "new": "v2", "judged": judged_set or judged(), "origin": ORIGIN}
    return evaluate(connection, Request(**(request | given)), open_embedder=embedders or Rankings())

"""The application: threads that write the table with plain SQL, and threads that search through the views.

They know what a service knows: the table, the views, `pgvmig.active_space()`. Statements are prepared on the server.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pgvmig.demo.corpus import Passage, Query
from pgvmig.demo.witness import Witness

_INSERT = "INSERT INTO documents (title, body) VALUES (%s, %s) RETURNING id"
_CHANGE = "UPDATE documents SET body = %s, updated_at = now() WHERE id = %s"
_TOUCH = "UPDATE documents SET updated_at = now() WHERE id = %s"
_DELETE = "DELETE FROM documents WHERE id = %s"
_SPACE = "SELECT version, model FROM pgvmig.active_space('documents')"
# The guard: after a cutover this finds nothing until the query is embedded with the new model. What the view is ranked
# by is shown as text, so that the answer holds the very vectors.
_SEARCH = """
SELECT id, embedding::text FROM documents_current
WHERE embedding_space = %s
ORDER BY embedding <=> %s::vector LIMIT 10
"""


# What a user does between two searches, and the writer between two writes; the models need the processors as well.
_THINKS, _WRITES = 0.01, 0.1


@dataclass(slots=True)
class Search:
    """One search as its caller saw it, in seconds of the monotonic clock."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass
class Tally:
    """What the threads counted."""

    witness: Witness = field(default_factory=Witness)
    searches: list[Search] = field(default_factory=list)
    writes: int = 0
    switches_noticed: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Searches that returned rows."""
        return len(self.searches)

    def between(self, began: float, ended: float) -> list[Search]:
        """Return the searches that ran at some moment between the two."""
        return [search for search in self.searches if search.began < ended and search.ended > began]


class Application:
    """The service with its threads. Use `running()`; `search()` begins once there is something to search."""

    def __init__(
        self, dsn: str, spare: Sequence[Passage], queries: Sequence[Query], vectors: Mapping[str, Sequence[str]]
    ) -> None:
        """`spare` are passages that the writer inserts; `vectors` has each query's vector, by model."""
        self.tally = Tally()
        self._dsn = dsn
        self._spare = list(spare)
        self._queries = list(queries)
        self._vectors = vectors
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def running(self) -> Iterator[Application]:
        """Run the writer until the block ends; all threads are joined then."""
        self._start(self._write)
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def search(self, threads: int = 2) -> None:
        """Begin to search."""
        for number in range(threads):
            self._start(lambda number=number: self._search(random.Random(number)))  # type: ignore[misc]  # noqa: S311

    def _start(self, work: Callable[[], None]) -> None:
        def reported() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  # a thread's end must be seen in the result
                self.tally.errors.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=reported, name=f"application-{len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._dsn, autocommit=True, application_name="demo application", prepare_threshold=0)

    def _write(self) -> None:
        choose = random.Random(0)  # noqa: S311
        own: list[int] = []
        with self._connect() as conn:
            while not self._stop.wait(_WRITES):
                self._write_once(conn, choose, own)
                self.tally.writes += 1

    def _write_once(self, conn: psycopg.Connection[Any], choose: random.Random, own: list[int]) -> None:
        """Insert, change and delete rows of its own: those that judge the models stay as they are."""
        passage = choose.choice(self._spare)
        (what,) = choose.choices(("insert", "change", "touch", "delete"), (4, 3, 1, 2)) if own else ("insert",)
        if what == "insert":
            row = conn.execute(_INSERT, [passage.title, passage.body]).fetchone()
            assert row is not None  # noqa: S101  # INSERT … RETURNING
            own.append(row[0])
        elif what == "change":
            conn.execute(_CHANGE, [passage.body, choose.choice(own)])
        elif what == "touch":
            conn.execute(_TOUCH, [choose.choice(own)])
        else:
            conn.execute(_DELETE, [own.pop(choose.randrange(len(own)))])

    def _search(self, choose: random.Random) -> None:
        with self._connect() as conn:
            version, model = self._space(conn)
            while not self._stop.is_set():
                query = choose.randrange(len(self._queries))
                began = time.monotonic()
                rows = self._rows(conn, version, model, query)
                if not rows:
                    # the guard shut: another version is active now
                    version, model = self._space(conn)
                    self.tally.switches_noticed += 1
                    rows = self._rows(conn, version, model, query)
                if not rows:
                    self.tally.errors.append(f"a search through {version} found nothing")
                    continue
                self.tally.searches.append(Search(began, time.monotonic()))
                self.tally.witness.saw(model, [vector for _, vector in rows])
                self._stop.wait(_THINKS)

    def _rows(self, conn: psycopg.Connection[Any], version: str, model: str, query: int) -> list[tuple[Any, ...]]:
        return conn.execute(_SEARCH, [version, self._vectors[model][query]]).fetchall()

    def _space(self, conn: psycopg.Connection[Any]) -> tuple[str, str]:
        row = conn.execute(_SPACE).fetchone()
        if row is None:
            raise RuntimeError("no version is active")
        return row[0], row[1]

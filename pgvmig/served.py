"""How many searches each version answered, counted in the process and reported now and then.

Must not know how a search is made. A report is worth less than any search: it waits, fails quietly, and is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import scalar_row

from pgvmig import sql as files
from pgvmig.catalog.connection import connect

_log = logging.getLogger("pgvmig")


class Served:
    """Counts by version. `every`: seconds between two reports; None counts nothing."""

    def __init__(self, every: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._last = clock()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def count(self, version: str) -> None:
        """Count a search that the version answered."""
        if self._every is not None:
            with self._lock:
                self._counts[version] += 1

    def due(self) -> bool:
        """Whether it is time to report; of several threads one is told so."""
        with self._lock:
            if self._every is None or self._clock() - self._last < self._every:
                return False
            self._last = self._clock()
            return bool(self._counts)

    def report_to(self, dsn: str, slot: tuple[int, str]) -> bool:
        """Report over a connection of its own. Returns whether nothing is left; raises nothing."""
        try:
            with connect(dsn, application_name="pgvmig search") as connection:
                return self.report(connection, slot)
        except Exception as error:  # noqa: BLE001  # see the module's second sentence
            return self.failed(error)

    def report(self, connection: psycopg.Connection[object], slot: tuple[int, str]) -> bool:
        """Report, unless a transaction is open there. Returns whether nothing is left. Raises what PostgreSQL does."""
        if connection.info.transaction_status != TransactionStatus.IDLE:
            return False
        counts = self._taken()
        try:
            if self._written(connection, slot, counts):
                return True
        except BaseException:
            self._put_back(counts)
            raise
        self._put_back(counts)
        return False

    def failed(self, error: Exception) -> bool:
        """Say that a report did not work out, to whoever listens; the counts are kept."""
        _log.warning("how many searches each version answered could not be reported: %s", error)
        return False

    def _written(self, connection: psycopg.Connection[object], slot: tuple[int, str], counts: Counter[str]) -> bool:
        with connection.transaction(), connection.cursor(row_factory=scalar_row) as cursor:
            if not cursor.execute(files.query("reading", "may_report")).fetchone():
                return False
            relation, name = slot
            figures = {"versions": list(counts), "searches": [float(number) for number in counts.values()]}
            cursor.execute(files.query("reading", "report"), {"relation": relation, "slot": name, **figures})
            return True

    def _taken(self) -> Counter[str]:
        with self._lock:
            counts, self._counts = self._counts, Counter()
            self._last = self._clock()
            return counts

    def _put_back(self, counts: Counter[str]) -> None:
        with self._lock:
            self._counts.update(counts)

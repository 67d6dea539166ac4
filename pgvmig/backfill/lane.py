"""One version's part in a run: hands out batches, from the log and from the walk by turns, and keeps their leases.

Must not know about providers or pacing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg

from pgvmig import sql as files
from pgvmig.backfill.batches import Batch, sort_out
from pgvmig.backfill.claims import Claim, Claims, Entries, Position, Range, TableChangedError, VersionGoneError
from pgvmig.backfill.runs import Counters, RunLog
from pgvmig.backfill.transactions import patiently, transaction
from pgvmig.backfill.walk import Walk
from pgvmig.backfill.writer import Writer
from pgvmig.catalog.keys import Key, objects_of
from pgvmig.catalog.versions import Version
from pgvmig.layouts.layout import open_layout

# A row that another transaction holds is tried again for so many seconds, with the vector that was paid for.
_PATIENCE = 10.0
_RETRY_FIRST, _RETRY_LAST = 0.1, 1.0
# With so many batches waiting for locks nothing new is claimed.
_MAX_LOCKED = 16

# What statements meet when the version is gone from its table, or the table has changed under them.
_OF_THE_TABLE = (
    VersionGoneError,
    TableChangedError,
    psycopg.ProgrammingError,
    psycopg.DataError,
    psycopg.NotSupportedError,
)


@dataclass(slots=True)
class _Held:
    """A lease, and how many of its batches are not settled yet."""

    claim: Claim
    open: int
    found: int
    complete: bool = True


class Lane:
    """The work on one version.

    `batch_size` is asked for every batch: so many rows are one transaction. Where a request to the provider holds more,
    `request_size`, so many are claimed and embedded together, and written in pieces.
    `caught_up`: the walk is at its end, and so is what was in the log by then. `gone`: the version was retired or
    dropped. `changed`: its table was, and the version is to be opened anew. `locked`: only rows are left that another
    transaction holds.
    """

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        version: Version,
        log: RunLog,
        *,
        lease: timedelta,
        batch_size: Callable[[], int],
        stop: Callable[[], bool],
        request_size: int = 1,
    ) -> None:
        self.version = version
        self.counters = Counters()
        self.caught_up = self.gone = self.changed = self.locked = False
        self._conn = conn
        self._stop = stop
        self._batch_size = batch_size
        self._request_size = request_size
        self._layout = open_layout(conn, version)
        self._claims = Claims(conn, version, log.run_id, lease)
        self._walk = Walk(conn, self._claims, self._layout, self._claim_size, stop)
        self._writer = Writer(conn, version, self._layout, self._claims, log)
        self._stale_before = files.query("backfill", "stale_before", stale=objects_of(version)["stale"])
        self._held: dict[int, _Held] = {}
        self._stripes: deque[tuple[Range, list[Key]]] = deque()
        self._waiting: list[Batch] = []
        self._log_was_last = False
        self._horizon: datetime | None = None
        self._progress_at = time.monotonic()

    @property
    def position(self) -> Position:
        """Where the walk is."""
        return self._claims.position

    @property
    def waiting(self) -> bool:
        """Whether batches wait for somebody else's locks."""
        return bool(self._waiting)

    def begin(self, *, asked: bool) -> None:
        """Begin: `added` becomes `backfilling`. `asked` looks over a table again whose walk is at its end."""
        with transaction(self._conn):
            self._execute("require_followable")
            self._execute("begin_backfill")
            self._execute("walk_again", asked=asked)

    def next_batch(self) -> Batch | None:
        """Claim and read what comes next; None when nothing can be claimed now. It may turn out to hold no rows."""
        if self.gone or self.changed or self.locked or len(self._waiting) >= _MAX_LOCKED:
            return None
        with self._unless_gone():
            return self._claim()
        return None

    def _claim(self) -> Batch | None:
        sources = (self._from_log, self._from_walk)
        for source in reversed(sources) if self._log_was_last else sources:
            batch = source()
            if batch is not None:
                self._log_was_last = isinstance(batch.claim, Entries)
                return batch
        return None

    def pieces(self, batch: Batch) -> list[Batch]:
        """Return a batch that has its answers cut into as many as there shall be transactions."""
        size, answers = self._batch_size(), batch.answers
        held = self._held.get(batch.claim.lease_id)
        if len(answers) <= size or held is None:
            return [batch]
        rest = [
            replace(batch, answers=answers[i : i + size], gone=[], done={}) for i in range(size, len(answers), size)
        ]
        held.open += len(rest)
        return [replace(batch, answers=answers[:size]), *rest]

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction, and settle it or put off what is locked."""
        if self.changed:
            return  # what it was embedded from is claimed again
        with self._unless_gone():
            self._write(batch)

    def _write(self, batch: Batch) -> None:
        written = patiently(lambda: self._writer.write(batch), self._stop)
        self.counters.add(written)
        if written.settled or batch.done or batch.gone:
            self._progress_at = time.monotonic()
        if not written.still_ours:
            self._lose(batch.claim)
        elif written.locked:
            self._put_off(replace(batch, to_embed=[], answers=written.locked, gone=[], done={}))
        else:
            self.settle(batch)

    def settle(self, batch: Batch, *, complete: bool = True) -> None:
        """Say that a batch is over. A lease ends with its last batch; incomplete, it is free for the next worker."""
        held = self._held.get(batch.claim.lease_id)
        if held is None:
            return
        held.open -= 1
        held.complete &= complete
        if held.open:
            return
        del self._held[batch.claim.lease_id]
        if held.complete:
            self._claims.release(held.claim, held.found)
        else:
            self._claims.give_back(held.claim)

    def due(self) -> list[Batch]:
        """Return the batches whose locked rows should be tried again."""
        now = time.monotonic()
        due = [batch for batch in self._waiting if batch.retry_at <= now]
        self._waiting = [batch for batch in self._waiting if batch.retry_at > now]
        return due

    def look(self) -> None:
        """See whether this version has caught up; if so, it is ready."""
        if not (self.caught_up or self.gone or self.changed) and self._walk.walked:
            with self._unless_gone():
                self._look()

    def _look(self) -> None:
        if self._horizon is None:
            (self._horizon,) = self._conn.execute("SELECT clock_timestamp()").fetchone() or (None,)
        (stale,) = self._conn.execute(self._stale_before, {"before": self._horizon}).fetchone() or (False,)
        if not stale:
            with transaction(self._conn):
                self._execute("become_ready")
                self._claims.tidy()
            self.caught_up = True

    def _from_log(self) -> Batch | None:
        claim = patiently(lambda: self._claims.stale(self._claim_size()), self._stop)
        if claim is None:
            return None
        self._held[claim.lease_id] = _Held(claim, 1, 0)
        return self._read(claim, list(claim.keys))

    def _from_walk(self) -> Batch | None:
        if not self._stripes:
            next_range = self._walk.next_range()
            if next_range is None:
                return None
            claim, stripes = next_range
            if not stripes:
                return Batch(claim)
            self._held[claim.lease_id] = _Held(claim, len(stripes), sum(map(len, stripes)))
            self._stripes.extend((claim, stripe) for stripe in stripes)
        return self._read(*self._next_stripe())

    def _claim_size(self) -> int:
        return max(self._batch_size(), self._request_size)

    def _next_stripe(self) -> tuple[Range, list[Key]]:
        """Return the next stripe, or as much of it as a batch may hold by now: they shrink while the run is on."""
        claim, stripe = self._stripes.popleft()
        size = self._claim_size()
        if len(stripe) > size:
            self._stripes.appendleft((claim, stripe[size:]))
            self._held[claim.lease_id].open += 1
        return claim, stripe[:size]

    def _read(self, claim: Claim, keys: list[Key]) -> Batch:
        def read() -> Batch:
            with transaction(self._conn):
                return sort_out(claim, keys, self._layout.read(self._conn, keys))

        return patiently(read, self._stop)

    def _put_off(self, batch: Batch) -> None:
        now = time.monotonic()
        batch.locked_since = batch.locked_since or now
        waited = now - batch.locked_since
        if waited < _PATIENCE:
            batch.retry_at = now + min(max(waited / 2, _RETRY_FIRST), _RETRY_LAST)
            self._waiting.append(batch)
        else:
            self._give_up(batch)

    def _give_up(self, batch: Batch) -> None:
        """Leave locked rows to the log, from which somebody will claim them again."""
        if isinstance(batch.claim, Range):
            self._writer.hand_over([row.key for row in batch.rows])
        self._writer.count_outrun(len(batch.answers))
        self.counters.outrun += len(batch.answers)
        self.settle(batch)
        only_these = not self._held and self._progress_at < (batch.locked_since or 0)
        self.locked = self.locked or only_these

    def _lose(self, claim: Claim) -> None:
        """Somebody took the lease over: the rest of it is theirs."""
        self._held.pop(claim.lease_id, None)
        self._stripes = deque(pair for pair in self._stripes if pair[0] != claim)
        self._waiting = [batch for batch in self._waiting if batch.claim != claim]

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """Run the block; when the version was taken off its table meanwhile, that is the end of its work.

        When the table was changed, it is the end of this lane's.
        """
        try:
            yield
        except _OF_THE_TABLE:
            if not self._claims.there():
                self.gone = True
            elif self._claims.changed():
                self._give_all_back()
                self.changed = True
            else:
                raise
            self._held.clear()
            self._stripes.clear()
            self._waiting.clear()

    def _give_all_back(self) -> None:
        for held in self._held.values():
            self._claims.give_back(held.claim)

    def _execute(self, name: str, **given: Any) -> None:
        self._conn.execute(files.query("backfill", name), {"version_id": self.version.version_id, **given})

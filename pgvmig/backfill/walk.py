"""The walk over a table's pages: takes what was there before the trigger, and what moved past an earlier pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from pgvmig.backfill.batches import in_order, stripes
from pgvmig.backfill.claims import Claims, Range
from pgvmig.backfill.transactions import patiently, transaction
from pgvmig.catalog.keys import Key
from pgvmig.layouts.layout import Layout

# Ranges in which little is found grow up to this, or the sweep of a big table would be all claims; no more, because the
# keys of a range are in memory.
_MAX_BLOCKS = 1024
# A page's next row is not due for so many batches: its dead row cannot be pruned while any transaction that was open
# when it died still is, be it the application's or another worker's.
_BETWEEN = 4
# No range is more of a table than this, if a stripe of it fills a batch.
_SHARES = 16
# Pages that one statement of the closing look reads.
_LOOK_BLOCKS = 4096
# How often a walk that is at its end is looked after: a cutover or a day gone by lets it begin again.
_ASK_AGAIN = 5.0


class Walk:
    """Hands out ranges of pages, each with its rows in stripes. `walked`: a whole look found nothing missing."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        claims: Claims,
        layout: Layout,
        batch_size: Callable[[], int],
        stop: Callable[[], bool],
    ) -> None:
        self.walked = False
        self._conn = conn
        self._claims = claims
        self._layout = layout
        self._batch_size = batch_size
        self._stop = stop
        # A range is of the same pages of every partition.
        self._leaves = 1
        self._blocks = 0
        self._ask_again = 0.0

    def next_range(self) -> tuple[Range, list[list[Key]]] | None:
        """Claim pages; without stripes there was nothing to do on them. None when there is nothing to claim now.

        Raises VersionGoneError.
        """
        if self.walked and time.monotonic() < self._ask_again:
            return None
        if not self._blocks:
            self._begin()
        claim = patiently(lambda: self._claims.pages(self._blocks, lambda: self._layout.blocks(self._conn)), self._stop)
        if claim is None:
            self.walked = self._claims.position.walked
            self._ask_again = time.monotonic() + _ASK_AGAIN
            return None
        self.walked = False
        if claim.closing:
            self._close(claim)
            return claim, []
        return claim, patiently(lambda: self._read(claim), self._stop)

    def _begin(self) -> None:
        with transaction(self._conn):
            self._leaves = len(self._layout.partitions(self._conn)) or 1
        self._blocks = self._pages()

    def _read(self, claim: Range) -> list[list[Key]]:
        with transaction(self._conn):
            places = self._layout.missing(self._conn, claim.first, claim.last)
            if not places:
                self._claims.release(claim)
        size = self._batch_size()
        most = max(_MAX_BLOCKS // self._leaves, 1)
        self._blocks = min(self._blocks * 2, most) if len(places) < size else self._pages()
        return stripes(places, size) if self._layout.striped else in_order(places, size)

    def _pages(self) -> int:
        """Return how many pages make a range. A stripe has one row of each, so it is several batches."""
        size = self._batch_size()
        if not self._layout.striped:
            return max(min(size, _MAX_BLOCKS) // self._leaves, 1)
        # small tables are shared by several workers all the same
        share = self._claims.position.end_block * self._leaves // _SHARES
        return max(max(size, min(size * _BETWEEN, share, _MAX_BLOCKS)) // self._leaves, 1)

    def _close(self, claim: Range) -> None:
        """Look for missing rows in one snapshot: between the ranges of a pass a row can move behind the walk."""
        with transaction(self._conn, one_snapshot=True):
            partitions = self._layout.partitions(self._conn)
            end = self._layout.blocks(self._conn)
            self._leaves = len(partitions) or 1
            look = max(_LOOK_BLOCKS // self._leaves, 1)
            missing = False
            for first in range(0, end, look):
                if self._stop():
                    break
                missing = bool(self._layout.missing(self._conn, first, first + look))
                if missing:
                    break
        if partitions and not missing:
            self._queue_orphans()
        if self._stop():
            self._claims.give_back(claim)
        else:
            self._claims.end_walk(claim, end, missing=missing, partitions=partitions)

    def _queue_orphans(self) -> None:
        """Have the log look after vectors whose rows went with a partition, which no trigger tells."""
        first, end = 0, self._layout.vector_blocks(self._conn)
        while first < end and not self._stop():
            with transaction(self._conn):
                self._layout.queue_orphans(self._conn, first, first + _LOOK_BLOCKS)
            first += _LOOK_BLOCKS

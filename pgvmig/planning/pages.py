"""How many of a backfill's updates will be HOT: page-striped batches played through on sampled pages. Pure.

HOT needs room on the row's own page for a whole new version, and leaves every index alone. The rules are those of
heap_update() and heap_page_prune_opt() in PostgreSQL's heapam.c and pruneheap.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pgvmig.planning.tuples import aligned

PAGE_HEADER = 24
LINE_POINTER = 4


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row of a page: its bytes now, those of the version with a vector, and whether it waits for one."""

    size: int
    with_vector: int
    waits: bool = True


@dataclass(slots=True)
class Played:
    """What became of pages: updates that stayed HOT, rows that left, and the bytes that these need elsewhere."""

    pages: int = 0
    rows: int = 0
    hot: int = 0
    moved: int = 0
    moved_bytes: int = 0
    free: list[int] = field(default_factory=list)

    @property
    def hot_share(self) -> float:
        """HOT updates of all, between 0 and 1; 1 where nothing waits."""
        return self.hot / (self.hot + self.moved) if self.hot + self.moved else 1.0


def play(pages: Iterable[Sequence[PageRow]], *, block: int = 8192, fillfactor: int = 100, at_once: int = 1) -> Played:
    """Return what a page-striped backfill makes of the pages, longest rows first.

    `at_once` is how many rows of a page one transaction writes: one, unless the table has fewer pages than a batch
    rows. Assumes that each version is dead to everybody when its page's next turn comes: a long transaction undoes it.
    """
    total = Played()
    for rows in pages:
        _play_page(rows, total, block, fillfactor, at_once)
    return total


def _play_page(rows: Sequence[PageRow], total: Played, block: int, fillfactor: int, at_once: int) -> None:
    free = max(block - PAGE_HEADER - sum(aligned(row.size) + LINE_POINTER for row in rows), 0)
    total.pages += 1
    total.rows += len(rows)
    total.free.append(free)
    # PostgreSQL looks for dead versions only where the page is nearly full, or was too full for somebody's update.
    prune_below = max(block * (100 - fillfactor) // 100, block // 10)
    waiting = sorted((row for row in rows if row.waits), key=lambda row: -row.size)
    dead, full = 0, False
    for first in range(0, len(waiting), at_once):
        if full or free - LINE_POINTER < prune_below:
            free, dead, full = free + dead, 0, False
        for row in waiting[first : first + at_once]:
            need = aligned(row.with_vector)
            dead += aligned(row.size)
            if need <= free - LINE_POINTER:
                total.hot += 1
                free -= need + LINE_POINTER
            else:
                total.moved += 1
                total.moved_bytes += need + LINE_POINTER
                full = True

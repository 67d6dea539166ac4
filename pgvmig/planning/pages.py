"""How many of a backfill's updates will be HOT: page-striped batches played through on sampled pages. Pure.

HOT needs room on the row's own page for a whole new version, and leaves every index alone. The rules are those of
heap_update() and heap_page_prune_opt() in PostgreSQL's heapam.c and pruneheap.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def play(pages: Iterable[Sequence[PageRow]], *, block: int = 8192, fillfactor: int = 100, batch: int = 64) -> Played:
    """Return what a page-striped backfill makes of the pages, longest rows first, `batch` rows a transaction.

    Assumes that each version is dead to everybody when its page's next turn comes: a long transaction undoes it.
    """
    room = _Room(block, fillfactor)
    made = [room.page(rows) for rows in pages]
    total = Played(pages=len(made), rows=sum(page.rows for page in made), free=[page.free for page in made])
    for first in range(0, len(made), batch):
        for rows in _batches(made[first : first + batch], batch):
            for page, _ in rows:
                page.prune(room.prune_below)
            for page, row in rows:
                _update(row, page, room, total)
    return total


def _batches(walked: Sequence[_Page], size: int) -> Iterator[list[tuple[_Page, PageRow]]]:
    """Yield what one transaction writes: a row of each page, and of few pages several, as the worker puts them."""
    batch: list[tuple[_Page, PageRow]] = []
    for turn in range(max((len(page.waiting) for page in walked), default=0)):
        stripe = [(page, page.waiting[turn]) for page in walked if turn < len(page.waiting)]
        if batch and len(batch) + len(stripe) > size:
            yield batch
            batch = []
        batch += stripe
    if batch:
        yield batch


@dataclass(slots=True)
class _Page:
    """A page while it is played on. `known_free` is what the free space map says, which is seldom the present truth."""

    rows: int
    free: int
    waiting: list[PageRow]
    known_free: int
    dead: int = 0
    full: bool = False

    def prune(self, below: int) -> None:
        """Win back dead versions. PostgreSQL looks where a page is nearly full, or was too full for an update."""
        if self.full or self.free - LINE_POINTER < below:
            self.free, self.dead, self.full = self.free + self.dead, 0, False


class _Room:
    """Where rows go that leave their page: to the last one's, else to one of the free space map's, else a new one."""

    def __init__(self, block: int, fillfactor: int) -> None:
        self.reserve = block * (100 - fillfactor) // 100
        self.prune_below = max(self.reserve, block // 10)
        self._empty = block - PAGE_HEADER
        self._pages: list[_Page] = []
        self._target: _Page | None = None

    def page(self, rows: Sequence[PageRow]) -> _Page:
        """Return a page of the table, longest waiting rows first."""
        free = max(self._empty - sum(aligned(row.size) + LINE_POINTER for row in rows), 0)
        waiting = sorted((row for row in rows if row.waits), key=lambda row: -row.size)
        self._pages.append(_Page(len(rows), free, waiting, _category(free)))
        return self._pages[-1]

    def take(self, need: int) -> None:
        """Put a row of so many bytes somewhere."""
        wanted = need + LINE_POINTER + self.reserve
        page = self._target
        while page is not None and page.free < wanted:
            page.known_free = _category(page.free)
            page = next((other for other in self._pages if other.known_free >= wanted), None)
        if page is None:
            page = _Page(0, self._empty, [], 0)
        page.free -= need + LINE_POINTER
        self._target = page


def _update(row: PageRow, page: _Page, room: _Room, total: Played) -> None:
    need = aligned(row.with_vector)
    page.dead += aligned(row.size)
    if need <= page.free - LINE_POINTER:
        total.hot += 1
        page.free -= need + LINE_POINTER
    else:
        total.moved += 1
        total.moved_bytes += need + LINE_POINTER
        page.full = True
        room.take(need)


def _category(free: int) -> int:
    """Return free space as the map keeps it, in steps of 1/256 of a page of 8 kB."""
    return free // 32 * 32

"""What a backfill costs in either layout: WAL, disk, the indexes' churn, time. Pure; estimates, and meant as such.

Where a constant is measured, its comment says what on. PostgreSQL 18.4 with pgvector 0.8.5 on two cores without fsync:
sizes carry over to other machines, times only as ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pgvmig.planning.pages import LINE_POINTER, PAGE_HEADER
from pgvmig.planning.tuples import Stored, aligned, vector_size

# TOAST_MAX_CHUNK_SIZE, and the tuple around a chunk: header, chunk_id, chunk_seq, length.
_CHUNK = 1996
_CHUNK_TUPLE = 36
# An entry of a B-tree on a few bytes, at its default fill of 90 %.
_ENTRY = 26
# HNSW at its default m = 16: the element's and the neighbours' tuples (hnsw.h), and what an element takes in memory
# beside its vector while the graph is built (measured from 8 to 1,536 dimensions: 701 to 705).
_ELEMENT, _NEIGHBOURS, _IN_MEMORY = 72, 208, 705
_HNSW_PAGE = 8160
# WAL of one written row beside its own bytes: lock, records' headers, pruning, our bookkeeping; of a TOAST piece; of an
# entry in an index that is no vector index. Measured within 15 % on eight tables of 50 to 1,900 bytes a row.
_WAL_ROW, _WAL_CHUNK, _WAL_ENTRY = 270, 140, 90
# An HNSW insertion writes the vector and changes its neighbours' pages (2,166 bytes measured at 384 dimensions).
_WAL_HNSW = 620
# Rows that COPY writes share their records.
_WAL_COPIED = 60
# Seconds a byte of WAL, from 15,100 HOT updates/s at 2,746 bytes, and from half the speed of a raw COPY of 1,661 bytes.
_UPDATED_BYTE, _COPIED_BYTE = 24e-9, 22e-9
# Seconds an index entry; of HNSW 1.4 ms measured at 384 dimensions and 10,000 rows, and more in a larger graph.
_SECONDS = {"hnsw": 1.4e-3, "ivfflat": 1e-4, "gin": 1e-4, "gist": 5e-5}
_SECONDS_OTHER = 1e-5
_MEASURED_DIMENSIONS = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index of the table. `dimensions`: of a vector index, else None. `on_vector`: on the new vectors themselves."""

    name: str
    method: str
    bytes: int
    dimensions: int | None
    on_vector: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """What the column layout writes into one existing index, whose own column did not change."""

    index: str
    method: str
    bytes: int
    entries: int
    entries_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one layout costs for all rows that wait. Bytes; `hot_share` is None in the table layout.

    `rows_per_second` is what the database can take, `seconds` is at that speed or at the provider's, if that is lower.
    """

    layout: str
    hot_share: float | None
    wal_bytes: int
    table_bytes: int
    toast_bytes: int
    index_bytes: int
    rows_per_second: float
    seconds: float

    @property
    def disk_bytes(self) -> int:
        """All that stays on disk: vectors, provenance and the new index."""
        return self.table_bytes + self.toast_bytes + self.index_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The rows to write, as the sample has them. `stored`: with their vectors; `moved_size`: of rows that leave a page.

    `image` is what of a page is in use, and so in its image in WAL. `vector` is a vector's bytes, `rate` the provider's
    rows a second, None where it is not known.
    """

    rows: int
    pages: int
    block: int
    image: int
    vector: int
    stored: Sequence[Stored]
    hot_share: float
    moved_size: float
    rate: float | None


def column_cost(work: Work, indexes: Sequence[Index]) -> Cost:
    """Return what the column layout costs: a new version of each row, in every index where it leaves its page."""
    moved = round(work.rows * (1 - work.hot_share))
    a_row = _mean([stored.size + _toast_wal(stored.toasted) for stored in work.stored]) + _WAL_ROW
    entries = sum(_entry_wal(index) for index in indexes)
    # After a checkpoint the first change of a page writes the page whole.
    wal = work.rows * a_row + moved * entries + work.pages * work.image
    own = a_row + work.pages * work.image / max(work.rows, 1)
    seconds = own * _UPDATED_BYTE + (1 - work.hot_share) * sum(_entry_seconds(index) for index in indexes)
    return Cost(
        layout="column",
        hot_share=work.hot_share,
        wal_bytes=round(wal),
        table_bytes=_heap(moved, work.moved_size, work.block),
        toast_bytes=_toast(work.rows, [stored.toasted for stored in work.stored], work.block),
        index_bytes=hnsw_bytes(work.rows, work.vector),
        rows_per_second=1 / seconds,
        seconds=_duration(work, 1 / seconds),
    )


def table_cost(work: Work, stored: Stored, key_bytes: int) -> Cost:
    """Return what the table layout costs: a row in the side table and an entry in its primary key."""
    entry = aligned(key_bytes) + 8 + LINE_POINTER
    a_row = stored.size + _toast_wal(stored.toasted) + _WAL_COPIED + _WAL_ENTRY
    rows_per_second = 1 / (a_row * _COPIED_BYTE)
    return Cost(
        layout="table",
        hot_share=None,
        wal_bytes=round(work.rows * a_row),
        table_bytes=_heap(work.rows, aligned(stored.size) + LINE_POINTER, work.block) + round(work.rows * entry / 0.9),
        # many of them: of one the last page would count whole
        toast_bytes=_toast(work.rows, [stored.toasted] * 100, work.block),
        index_bytes=hnsw_bytes(work.rows, work.vector),
        rows_per_second=rows_per_second,
        seconds=_duration(work, rows_per_second),
    )


def churn(work: Work, cost: Cost, indexes: Sequence[Index]) -> list[Churn]:
    """Return what the column layout's moved rows write into each index of the table, largest first."""
    share = 1 - (cost.hot_share or 0.0)
    speed = min(work.rate or math.inf, cost.rows_per_second)
    return [
        Churn(
            index=index.name,
            method=index.method,
            bytes=index.bytes,
            entries=round(work.rows * share),
            entries_per_second=round(speed * share, 1),
        )
        for index in indexes
        if not index.on_vector and index.method != "brin"
    ]


def hnsw_bytes(rows: int, vector: int) -> int:
    """Return the size of an HNSW index at its default options: whole elements fill pages of 8 kB."""
    element = aligned(_ELEMENT + vector) + _NEIGHBOURS + 2 * LINE_POINTER
    return math.ceil(rows / max(_HNSW_PAGE // element, 1)) * 8192 if rows else 0


def hnsw_memory(rows: int, vector: int) -> int:
    """Return the maintenance_work_mem with which an HNSW graph is built in memory and not, much slower, on disk."""
    return rows * (aligned(vector) + _IN_MEMORY)


def _duration(work: Work, rows_per_second: float) -> float:
    return work.rows / min(work.rate or math.inf, rows_per_second)


def _entry_wal(index: Index) -> int:
    if index.method == "hnsw" and index.dimensions:
        return vector_size(index.dimensions, "vector") + _WAL_HNSW
    return _WAL_ENTRY


def _entry_seconds(index: Index) -> float:
    seconds = _SECONDS.get(index.method, _SECONDS_OTHER)
    return seconds * (index.dimensions or _MEASURED_DIMENSIONS) / _MEASURED_DIMENSIONS


def _toast_wal(size: int) -> int:
    return size + math.ceil(size / _CHUNK) * _WAL_CHUNK


def _heap(rows: int, size: float, block: int) -> int:
    """Return the bytes of the pages that so many tuples fill; `size` with alignment and line pointer."""
    if not rows or not size:  # an update that is not HOT may still find room on its page
        return 0
    return math.ceil(rows / max((block - PAGE_HEADER) // size, 1)) * block


def _toast(rows: int, sizes: Sequence[int], block: int) -> int:
    """Return the bytes of the TOAST table and its index: pieces fill pages in the order in which they come."""
    room, pages, pieces = 0, 0, 0
    for size in sizes:
        for piece in _pieces(size):
            need = aligned(_CHUNK_TUPLE + piece) + LINE_POINTER
            if need > room:
                pages, room = pages + 1, block - PAGE_HEADER
            room -= need
            pieces += 1
    return round((pages * block + pieces * _ENTRY) * rows / len(sizes)) if sizes else 0


def _pieces(size: int) -> list[int]:
    whole, rest = divmod(size, _CHUNK)
    return [_CHUNK] * whole + [rest] * (rest > 0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0

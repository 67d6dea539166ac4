"""How long a row is on its page, now and with a vector beside it. Pure: PostgreSQL's own rules for tuples and TOAST.

The rules are those of src/backend/access/heap/heaptoast.c and htup_details.h; sizes are bytes throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

MAXALIGN = 8
# TOAST_TUPLE_THRESHOLD: a longer row goes through the toaster; a quarter of a page.
TOAST_THRESHOLD = 2032
# An on-disk TOAST pointer with its one-byte header.
POINTER = 18
# Up to here a value has a one-byte header and no padding (VARATT_SHORT_MAX).
SHORT = 127
# SHA-256 with a one-byte header.
SOURCE_HASH = 33
_HEADER = 23


@dataclass(frozen=True, slots=True)
class Column:
    """A column's physical side: `length` as pg_type.typlen, `align` in bytes, `storage` as pg_attribute.attstorage.

    `shrink` is what compressing leaves of its values, 1 where nothing is gained.
    """

    name: str
    length: int
    align: int
    storage: str = "x"
    shrink: float = 1.0


@dataclass(frozen=True, slots=True)
class Value:
    """A stored value: its bytes with their header, or those of its pieces when `external` (in the TOAST table)."""

    size: int
    external: bool = False
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A row as it would be written: bytes on its page, and bytes that are new in the TOAST table."""

    size: int
    toasted: int = 0


Row = Sequence[Value | None]


def aligned(size: int, to: int = MAXALIGN) -> int:
    """Return the size rounded up to a multiple of `to`."""
    return -(-size // to) * to


def vector_size(dimensions: int, vector_type: str) -> int:
    """Return the bytes of a pgvector value: eight of header, then four (vector) or two (halfvec) for a dimension."""
    return 8 + dimensions * (4 if vector_type == "vector" else 2)


def added_columns(dimensions: int, vector_type: str) -> tuple[list[Column], list[Value | None]]:
    """Return what a version adds to a row: vector (storage external), version id, source hash, time."""
    columns = [
        Column("vector", -1, 4, "e"),
        Column("version_id", 4, 4, "p"),
        Column("source_hash", -1, 4, "x"),
        Column("embedded_at", 8, 8, "p"),
    ]
    return columns, [Value(vector_size(dimensions, vector_type)), Value(4), Value(SOURCE_HASH), Value(8)]


def written(columns: Sequence[Column], row: Row, target: int = TOAST_THRESHOLD) -> Stored:
    """Return how a row is stored when it is written anew; `target` is the table's toast_tuple_target."""
    values = list(row)
    if tuple_size(columns, values) <= TOAST_THRESHOLD:
        return Stored(tuple_size(columns, values))
    _compress(columns, values, target)
    moved = _push_out(columns, values, target)
    return Stored(tuple_size(columns, values), moved)


def tuple_size(columns: Sequence[Column], row: Row) -> int:
    """Return a tuple's length: header, NULL bitmap where there are NULLs, and each value with its padding."""
    bitmap = -(-len(row) // 8) if None in row else 0
    offset = 0
    for column, value in zip(columns, row, strict=False):
        if value is None:
            continue
        size = POINTER if value.external else value.size
        padded = column.length > 0 or (size > SHORT and not value.external)
        offset = (aligned(offset, column.align) if padded else offset) + size
    return aligned(_HEADER + bitmap) + offset


def present(columns: Sequence[Column], row: Row) -> int:
    """Return the length of a row as it lies there. Columns that came later are not in it, not even as NULLs."""
    values = list(row)
    while values and values[-1] is None:
        values.pop()
    # PostgreSQL 16 cannot say which values are external; those that make the row longer than any can be are.
    if tuple_size(columns, values) > TOAST_THRESHOLD:
        _push_out(columns, values, TOAST_THRESHOLD)
    return tuple_size(columns, values)


def _compress(columns: Sequence[Column], values: list[Value | None], target: int) -> None:
    """Compress the longest inline values until the row fits; what is `external` by storage is passed over."""
    tried: set[int] = set()
    while tuple_size(columns, values) > target:
        found = _longest(columns, values, tried)
        if found is None:
            return
        tried.add(found)
        value = values[found]
        if value is not None and columns[found].storage == "x" and not value.compressed:
            values[found] = replace(value, size=max(int(value.size * columns[found].shrink), 1), compressed=True)


def _push_out(columns: Sequence[Column], values: list[Value | None], target: int) -> int:
    """Move the longest values into the TOAST table until the row fits; return their bytes."""
    moved = 0
    while tuple_size(columns, values) > target:
        found = _longest(columns, values, set())
        if found is None:
            break
        value = values[found]
        if value is not None:
            moved += value.size
            values[found] = replace(value, external=True)
    return moved


def _longest(columns: Sequence[Column], values: Sequence[Value | None], passed: set[int]) -> int | None:
    """Return the longest value that the toaster may touch: longer than a pointer, and not kept in the row."""
    sizes = {
        i: value.size
        for i, (column, value) in enumerate(zip(columns, values, strict=False))
        if value is not None
        and column.length < 0
        and column.storage in "xe"
        and not value.external
        and i not in passed
        and value.size > aligned(POINTER)
    }
    return max(sizes, key=lambda i: sizes[i], default=None)

"""The table layout's rows: vectors in a table of their own, written by binary COPY.

A transaction that writes locks no row of the user's table. What makes that right is in sql/queries/table_layout.sql.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import errors as pg
from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog.keys import Key, Keys, identifier, text_array
from pgvmig.catalog.versions import Version
from pgvmig.layouts.rows import Guarded, Kind, SourceRow
from pgvmig.layouts.source import Source

# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": signature, flags, length of the extension
_HEADER = b"PGCOPY\n\xff\r\n\0" + pack("!ii", 0, 0)
_TRAILER = pack("!h", -1)
_NUMBERS = {"vector": ">f4", "halfvec": ">f2"}
_HASH_BYTES = 32


class WrittenElsewhereError(pg.SerializationFailure):
    """Another worker has written one of the rows since this transaction looked; tried again, it looks anew."""


class TableLayout(Source):
    """See pgvmig.layouts.layout.Layout."""

    striped = False

    def __init__(self, conn: psycopg.Connection[Any], version: Version) -> None:
        keys = Keys.of(version)
        super().__init__(
            version,
            "table_layout",
            _QUERIES,
            sent_key=_sent(conn, version, keys),
            vector_key=keys.columns_of("e"),
            same_vector=keys.same("e", "r"),
            free_row=keys.same("f", "r"),
            same_entry=keys.same("q", "r"),
            same_outcome=keys.same("o", "r"),
            queued_vector=keys.same("q", "e"),
        )
        # COPY takes no parameters, so nobody makes one percent sign of two
        self._copy = sql.SQL(files.text(self.queries["copy_rows"]).replace("%%", "%"))
        self._count = len(keys.columns) + 3
        self._fields = _fields(version.contract.vector_type, version.contract.dimensions)

    def begin(self, conn: psycopg.Connection[Any], *, alone: bool) -> None:
        """See Layout."""
        conn.execute(self.queries["begin_alone" if alone else "begin_writing"], {"version_id": self.version_id})

    def guard(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], kinds: Sequence[Kind]) -> Guarded:
        """See Layout."""
        given = {
            **self.keys.values(row.key for row in rows),
            "count": len(rows),
            "versions": text_array([row.row_version for row in rows]),
            "hashes": b"".join([row.source_hash for row in rows]),
            "failed": [i for i, kind in enumerate(kinds, 1) if kind == "failed"],
            "without": [i for i, kind in enumerate(kinds, 1) if kind != "vector"],
        }
        others, locked = conn.execute(self.queries["guard_rows"], given).fetchone() or (None, None)
        left = set(others or ())
        return Guarded([i - 1 for i in range(1, len(rows) + 1) if i not in left], [i - 1 for i in locked or ()])

    def write(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], vectors: Sequence[Any]) -> int:
        """See Layout. Raises WrittenElsewhereError."""
        try:
            with conn.cursor() as cursor:
                with cursor.copy(self._copy) as copy:
                    copy.write(_HEADER)
                    for records in self._records(rows, vectors):
                        copy.write(records)
                    copy.write(_TRAILER)
                return cursor.rowcount
        except pg.UniqueViolation as error:
            raise WrittenElsewhereError(str(error)) from error

    def settled(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> Sequence[Key]:
        """See Layout. When they were read, a vector of another text may have been on its way."""
        return [row.key for row in self.read(conn, keys) if row.fresh or row.recorded]

    def vector_blocks(self, conn: psycopg.Connection[Any]) -> int:
        """See Layout."""
        (count,) = conn.execute(self.queries["vector_blocks"], {"version_id": self.version_id}).fetchone() or (0,)
        return int(count)

    def queue_orphans(self, conn: psycopg.Connection[Any], first: int, last: int) -> None:
        """See Layout."""
        conn.execute(self.queries["queue_orphans"], {"first": f"({first},0)", "last": f"({last},0)"})

    def forget(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> None:
        """See Layout."""
        conn.execute(self.queries["forget_rows"], self.keys.values(keys))

    def _records(self, rows: Sequence[SourceRow], vectors: Sequence[Any]) -> Iterator[memoryview]:
        """Yield the rows in COPY's binary format: those whose keys take the same room are made in bulk."""
        widths = defaultdict(list)
        for i, row in enumerate(rows):
            widths[len(row.sent)].append(i)
        for width, chosen in widths.items():
            values = np.concatenate([vectors[i] for i in chosen]).reshape(len(chosen), -1)
            yield self._filled(width, [rows[i] for i in chosen], values)

    def _filled(self, width: int, rows: Sequence[SourceRow], vectors: npt.NDArray[Any]) -> memoryview:
        made = np.empty(len(rows), [("fields", ">i2"), ("key", f"V{width}"), *self._fields])
        made["fields"] = self._count
        made["key"] = np.frombuffer(b"".join([row.sent for row in rows]), f"V{width}")
        made["vector_length"] = 4 + vectors.shape[1] * made["vector"].itemsize
        made["dimensions"], made["unused"], made["vector"] = vectors.shape[1], 0, vectors
        made["version_id_length"], made["version_id"] = 4, self.version_id
        made["source_hash_length"] = _HASH_BYTES
        made["source_hash"] = [row.source_hash for row in rows]
        return made.view(np.uint8).data


def _sent(conn: psycopg.Connection[Any], version: Version, keys: Keys) -> sql.Composable:
    """Return the key's fields as COPY takes them, for a query that calls the row d."""
    query = files.query("table_layout", "senders")
    senders = [name for (name,) in conn.execute(query, {"version_id": version.version_id})]
    names = [sql.Identifier(f"field_{i}") for i in range(len(senders))]
    sent = [
        # PostgreSQL's own spelling of the function's name, quoted where it must be
        sql.SQL("{}({}) AS {}").format(files.escaped(sql.SQL(send)), identifier("d", column), name)
        for send, column, name in zip(senders, keys.columns, names, strict=True)
    ]
    fields = [sql.SQL("int4send(octet_length({0})) || {0}").format(name) for name in names]
    return sql.SQL("(SELECT {} FROM (SELECT {}) AS k)").format(sql.SQL(" || ").join(fields), sql.SQL(", ").join(sent))


def _fields(vector_type: str, dimensions: int) -> list[tuple[Any, ...]]:
    """Return what follows the key in COPY's binary format, each field after its length."""
    return [
        ("vector_length", ">i4"),
        ("dimensions", ">i2"),
        ("unused", ">i2"),
        ("vector", _NUMBERS[vector_type], dimensions),
        ("version_id_length", ">i4"),
        ("version_id", ">i4"),
        ("source_hash_length", ">i4"),
        ("source_hash", f"S{_HASH_BYTES}"),
    ]


_QUERIES = (
    "begin_writing",
    "begin_alone",
    "guard_rows",
    "copy_rows",
    "forget_rows",
    "queue_orphans",
    "vector_blocks",
)

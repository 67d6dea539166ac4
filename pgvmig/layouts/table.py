"""The table layout's rows: vectors in a table of their own, written by binary COPY.

A transaction that writes locks no row of the user's table. What makes that right is in sql/queries/table_layout.sql.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import errors as pg
from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog.keys import Key, Keys
from pgvmig.catalog.versions import Version
from pgvmig.layouts.rows import Guarded, Kind, SourceRow
from pgvmig.layouts.source import Source

# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": signature, flags, length of the extension
_HEADER = b"PGCOPY\n\xff\r\n\0" + pack("!ii", 0, 0)
_TRAILER = pack("!h", -1)
_NUMBERS = {"vector": ">f4", "halfvec": ">f2"}
_HASH_BYTES, _TIME_BYTES = 32, 8
_POSITION, _SAME, _OURS, _NOW, _KEY = range(5)


class WrittenElsewhereError(pg.SerializationFailure):
    """Another worker has written one of the rows since this transaction looked; tried again, it looks anew."""


class TableLayout(Source):
    """See pgvmig.layouts.layout.Layout. A handle is the key and the time, as COPY takes them."""

    striped = False

    def __init__(self, version: Version) -> None:
        keys = Keys.of(version)
        super().__init__(
            version,
            "table_layout",
            _QUERIES,
            vector_key=keys.columns_of("e"),
            guarded_key=keys.columns_of("r"),
            same_vector=keys.same("e", "r"),
            free_vector=keys.same("e", "f"),
            free_row=keys.same("f", "r"),
            same_entry=keys.same("q", "r"),
        )
        # COPY takes no parameters, so nobody makes one percent sign of two
        self._copy = sql.SQL(files.text(self.queries["copy_rows"]).replace("%%", "%"))
        self._fields = len(keys.columns)
        self._record = _record(version.contract.vector_type, version.contract.dimensions)

    def begin(self, conn: psycopg.Connection[Any], *, removing: bool) -> None:
        """See Layout."""
        conn.execute(self.queries["begin_removing" if removing else "begin_writing"], {"version_id": self.version_id})

    def guard(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], kinds: Sequence[Kind]) -> Guarded:
        """See Layout."""
        given = {**self.given(rows), "replaced": [kind != "failed" for kind in kinds]}
        with conn.cursor(binary=True) as cursor:
            cursor.execute(self.queries["guard_rows"], given)
            return self._guarded(cursor.pgresult)

    def _guarded(self, found: Any) -> Guarded:
        ours: dict[int, bytes] = {}
        locked: list[int] = []
        for n in range(found.ntuples):
            i = int.from_bytes(found.get_value(n, _POSITION))
            if found.get_value(n, _OURS) == _TRUE:
                key = (found.get_value(n, _KEY + field) for field in range(self._fields))
                ours[i] = found.get_value(n, _NOW) + b"".join(pack("!i", len(value)) + value for value in key)
            elif found.get_value(n, _SAME) == _TRUE:
                locked.append(i)
        return Guarded(ours, locked)

    def write(
        self,
        conn: psycopg.Connection[Any],
        rows: Sequence[SourceRow],
        vectors: Sequence[Any],
        handles: Sequence[bytes],
    ) -> int:
        """See Layout. Raises WrittenElsewhereError."""
        payload = self._payload(rows, np.stack(vectors), handles)
        try:
            with conn.cursor() as cursor:
                with cursor.copy(self._copy) as copy:
                    copy.write(payload)
                return cursor.rowcount
        except pg.UniqueViolation as error:
            raise WrittenElsewhereError(str(error)) from error

    def forget(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> None:
        """See Layout."""
        conn.execute(self.queries["forget_rows"], self.keys.values(keys))

    def _payload(self, rows: Sequence[SourceRow], vectors: npt.NDArray[Any], handles: Sequence[bytes]) -> bytes:
        """Return the rows in COPY's binary format. Keys differ in length, so the rest of each row is made in bulk."""
        rest = np.empty(len(rows), self._record)
        rest["vector_length"] = 4 + vectors.shape[1] * self._record["vector"].base.itemsize
        rest["dimensions"], rest["unused"], rest["vector"] = vectors.shape[1], 0, vectors
        rest["version_id_length"], rest["version_id"] = 4, self.version_id
        rest["source_hash_length"], rest["embedded_at_length"] = _HASH_BYTES, _TIME_BYTES
        rest["source_hash"] = [row.source_hash for row in rows]
        rest["embedded_at"] = handles[0][:_TIME_BYTES]
        data, size = rest.tobytes(), self._record.itemsize
        fields = pack("!h", self._fields + 4)
        parts = ((fields, key[_TIME_BYTES:], data[n * size : (n + 1) * size]) for n, key in enumerate(handles))
        return b"".join([_HEADER, *chain.from_iterable(parts), _TRAILER])


def _record(vector_type: str, dimensions: int) -> np.dtype[np.void]:
    """Return what follows the key in COPY's binary format, each field after its length."""
    return np.dtype(
        [
            ("vector_length", ">i4"),
            ("dimensions", ">i2"),
            ("unused", ">i2"),
            ("vector", _NUMBERS[vector_type], dimensions),
            ("version_id_length", ">i4"),
            ("version_id", ">i4"),
            ("source_hash_length", ">i4"),
            ("source_hash", f"S{_HASH_BYTES}"),
            ("embedded_at_length", ">i4"),
            ("embedded_at", f"S{_TIME_BYTES}"),
        ]
    )


_TRUE = b"\x01"
_QUERIES = ("begin_writing", "begin_removing", "guard_rows", "copy_rows", "forget_rows")

"""The column layout's rows: the vector and its provenance beside the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types import TypeInfo

from pgvmig import sql as files
from pgvmig.catalog.keys import Key
from pgvmig.catalog.versions import Version
from pgvmig.errors import ConfigError
from pgvmig.layouts.rows import Guarded, Kind, SourceRow
from pgvmig.layouts.source import Source

try:
    from pgvector import HalfVector, Vector
    from pgvector.psycopg.halfvec import register_halfvec_info
    from pgvector.psycopg.vector import register_vector_info
except ModuleNotFoundError as missing:
    raise ConfigError(
        f"writing vectors needs {missing.name}, which is not installed", next_step="pip install 'pgvmig[worker]'"
    ) from missing

_TYPES: dict[str, tuple[Callable[..., Any], Callable[..., None]]] = {
    "vector": (Vector, register_vector_info),
    "halfvec": (HalfVector, register_halfvec_info),
}


class ColumnLayout(Source):
    """See pgvmig.layouts.layout.Layout."""

    striped = True

    def __init__(self, conn: psycopg.Connection[Any], version: Version) -> None:
        super().__init__(version, "column_layout", ("lock_rows", "write_rows", "clear_rows"))
        log = ("unqueue_keys", "unqueue_gone")
        self.queries |= {name: files.query("backfill", name, **self.parts) for name in log}
        self._vector_type, register = _TYPES[version.contract.vector_type]
        # by the extension's schema, which need not be on anybody's search_path
        register(conn, TypeInfo.fetch(conn, sql.Identifier(version.vector_schema, version.contract.vector_type)))

    def begin(self, conn: psycopg.Connection[Any], *, removing: bool) -> None:
        """See Layout: the rows' own locks are enough."""

    def guard(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], kinds: Sequence[Kind]) -> Guarded:
        """See Layout. An application locks its row and then, through the trigger, the log; so does this."""
        same = dict(conn.execute(self.queries["lock_rows"], self.given(rows)).fetchall())
        ours = [i for i in range(len(rows)) if same.get(i)]
        if cleared := [rows[i] for i in ours if kinds[i] == "empty"]:
            conn.execute(self.queries["clear_rows"], self.given(cleared))  # which queues a row that loses its vector
        if ours:
            conn.execute(self.queries["unqueue_keys"], self.keys.values(rows[i].key for i in ours))
        return Guarded(dict.fromkeys(ours, b""), self._locked(conn, rows, same))

    def write(
        self,
        conn: psycopg.Connection[Any],
        rows: Sequence[SourceRow],
        vectors: Sequence[Any],
        handles: Sequence[bytes],  # noqa: ARG002
    ) -> int:
        """See Layout."""
        values = [self._vector_type(vector) for vector in vectors]
        given = {**self.given(rows), "version_id": self.version_id, "vectors": values}
        return conn.execute(self.queries["write_rows"], given).rowcount

    def forget(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> None:
        """See Layout."""
        conn.execute(self.queries["unqueue_gone"], self.keys.values(keys))

    def _locked(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], same: dict[int, bool]) -> list[int]:
        """Return those that are there and that we could not lock; forget the log's entries of deleted ones."""
        elsewhere = [i for i in range(len(rows)) if i not in same]
        if not elsewhere:
            return []
        keys = [rows[i].key for i in elsewhere]
        self.forget(conn, keys)
        present = {row.key for row in self.read(conn, keys)}
        return [i for i in elsewhere if rows[i].key in present]

"""The column layout's rows: the vector and its provenance beside the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types import TypeInfo

from pgvmig import sql as files
from pgvmig.catalog.keys import Key, identifier
from pgvmig.catalog.session import restore_path
from pgvmig.catalog.versions import Version
from pgvmig.errors import ConfigError
from pgvmig.layouts.rows import Guarded, Kind, Place, SourceRow
from pgvmig.layouts.source import Source, page_of

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

# The first server that says whether a value is kept in its row or elsewhere.
_TELLS_TOASTED = 170_000


class ColumnLayout(Source):
    """See pgvmig.layouts.layout.Layout."""

    striped = True

    def __init__(self, conn: psycopg.Connection[Any], version: Version) -> None:
        super().__init__(
            version, "column_layout", ("stored_columns", "lock_rows", "write_rows", "clear_rows"), room=sql.SQL("0")
        )
        shared = ("unqueue_keys", "unqueue_gone", "forget_outcomes")
        self.queries |= {name: files.query("backfill", name, **self.parts) for name in shared}
        self._vector_type, register = _TYPES[version.contract.vector_type]
        # by the extension's schema, which need not be on anybody's search_path
        register(conn, TypeInfo.fetch(conn, sql.Identifier(version.vector_schema, version.contract.vector_type)))

    def missing(self, conn: psycopg.Connection[Any], first: int, last: int) -> list[Place]:
        """See Layout."""
        columns = conn.execute(self.queries["stored_columns"], {"version_id": self.version_id})
        measure = "room" if conn.info.server_version >= _TELLS_TOASTED else "room_before_17"
        room = sql.SQL(" + ").join(
            files.query("column_layout", measure, column=identifier("d", name)) for (name,) in columns
        )
        statement = files.query("column_layout", "missing_rows", **(self.parts | {"room": room}))
        rows = conn.execute(statement, {"first": f"({first},0)", "last": f"({last},0)"})
        return [Place(self.keys.key(row), page_of(row[-3], row[-2]), row[-1]) for row in rows]

    def begin(self, conn: psycopg.Connection[Any], *, alone: bool) -> None:
        """See Layout: the rows' own locks are enough."""

    def guard(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], kinds: Sequence[Kind]) -> Guarded:
        """See Layout. An application locks its row and then, through the trigger, the log; so does this."""
        same = dict(conn.execute(self.queries["lock_rows"], self.given(rows)).fetchall())
        ours = [i for i in range(len(rows)) if same.get(i)]
        if cleared := [rows[i] for i in ours if kinds[i] == "empty"]:
            restore_path(conn)
            conn.execute(self.queries["clear_rows"], self.given(cleared))  # which queues a row that loses its vector
        if ours:
            conn.execute(self.queries["unqueue_keys"], self.keys.values(rows[i].key for i in ours))
        if embedded := [rows[i].key for i in ours if kinds[i] == "vector"]:
            conn.execute(self.queries["forget_outcomes"], self.keys.values(embedded))
        return Guarded(ours, self._locked(conn, rows, same))

    def write(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], vectors: Sequence[Any]) -> int:
        """See Layout."""
        values = [self._vector_type(vector) for vector in vectors]
        given = {**self.given(rows), "version_id": self.version_id, "vectors": values}
        restore_path(conn)  # which triggers of the table may rely on, deferred ones at the commit
        return conn.execute(self.queries["write_rows"], given).rowcount

    def settled(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> Sequence[Key]:  # noqa: ARG002
        """See Layout: who writes a vector locks its row, whose text does not change before that is committed."""
        return keys

    def vector_blocks(self, conn: psycopg.Connection[Any]) -> int:  # noqa: ARG002
        """See Layout: a vector goes with its row."""
        return 0

    def queue_orphans(self, conn: psycopg.Connection[Any], first: int, last: int) -> None:
        """See Layout."""

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

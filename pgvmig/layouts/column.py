"""The column layout's rows: the vector and its provenance beside the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types import TypeInfo

from pgvmig import sql as files
from pgvmig.catalog.keys import Key, Keys, identifier, objects_of
from pgvmig.catalog.versions import Version
from pgvmig.errors import ConfigError
from pgvmig.layouts.rows import Place, SourceRow

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


class ColumnLayout:
    """See pgvmig.layouts.layout.Layout."""

    striped = True

    def __init__(self, conn: psycopg.Connection[Any], version: Version) -> None:
        self._version_id = version.version_id
        self._keys = Keys.of(version)
        self._vector_type, register = _TYPES[version.contract.vector_type]
        type_name = (version.vector_schema, version.contract.vector_type)
        # by the extension's schema, which need not be on anybody's search_path
        register(conn, TypeInfo.fetch(conn, sql.Identifier(*type_name)))
        columns = {
            "vector": identifier(version.vector_column),
            "version_id": identifier(version.version_id_column),
            "source_hash": identifier(version.source_hash_column),
            "embedded_at": identifier(version.embedded_at_column),
            "vector_type": identifier(*type_name),
        }
        parts = self._keys.parts() | objects_of(version) | columns
        self._queries = {name: files.query("column_layout", name, **parts) for name in _QUERIES}

    def blocks(self, conn: psycopg.Connection[Any]) -> int:
        """See Layout."""
        (count,) = conn.execute(self._queries["blocks"], {"version_id": self._version_id}).fetchone() or (0,)
        return int(count)

    def missing(self, conn: psycopg.Connection[Any], first: int, last: int) -> list[Place]:
        """See Layout."""
        rows = conn.execute(self._queries["missing_rows"], {"first": f"({first},0)", "last": f"({last},0)"})
        return [Place(self._keys.key(row), _block(row[-1])) for row in rows]

    def read(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> list[SourceRow]:
        """See Layout."""
        given = {**self._keys.values(keys), "version_id": self._version_id}
        rows = conn.execute(self._queries["read_rows"], given).fetchall()
        return [SourceRow(keys[i], *row) for i, *row in sorted(rows)]

    def lock(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow]) -> dict[int, bool]:
        """See Layout."""
        return dict(conn.execute(self._queries["lock_rows"], self._given(rows)).fetchall())

    def write(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], vectors: Sequence[Any]) -> int:
        """See Layout."""
        values = [self._vector_type(vector) for vector in vectors]
        given = {**self._given(rows), "version_id": self._version_id, "vectors": values}
        return conn.execute(self._queries["write_rows"], given).rowcount

    def clear(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow]) -> None:
        """See Layout."""
        conn.execute(self._queries["clear_rows"], self._given(rows))

    def _given(self, rows: Sequence[SourceRow]) -> dict[str, Any]:
        return {**self._keys.values(row.key for row in rows), "hashes": [row.source_hash for row in rows]}


_QUERIES = ("blocks", "missing_rows", "read_rows", "lock_rows", "write_rows", "clear_rows")


def _block(ctid: str) -> int:
    """Return the page of a TID such as `(12,3)`."""
    return int(ctid[1 : ctid.index(",")])

"""Reading a version's rows, the same in both layouts but for the queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from pgvmig import sql as files
from pgvmig.catalog.keys import Key, Keys, identifier, objects_of
from pgvmig.catalog.versions import Version
from pgvmig.layouts.rows import Place, SourceRow


class Source:
    """The reading half of pgvmig.layouts.layout.Layout; `queries` are those of the layout's own file.

    They are filled with the key's parts (see Keys.parts), the version's tables and functions, its columns' names, and
    `parts`.
    """

    def __init__(self, version: Version, file: str, queries: Sequence[str], **parts: sql.Composable) -> None:
        self.version_id = version.version_id
        self.keys = Keys.of(version)
        columns: dict[str, sql.Composable] = {
            "vector": identifier(version.vector_column),
            "version_id": identifier(version.version_id_column),
            "source_hash": identifier(version.source_hash_column),
            "embedded_at": identifier(version.embedded_at_column),
            "vector_type": identifier(version.vector_schema, version.contract.vector_type),
        }
        self.parts = self.keys.parts() | objects_of(version) | columns | parts
        own = ("missing_rows", "read_rows", *queries)
        self.queries = {name: files.query(file, name, **self.parts) for name in own}
        self._blocks = files.query("layouts", "blocks")
        self._partitions = files.query("layouts", "partitions")

    def blocks(self, conn: psycopg.Connection[Any]) -> int:
        """See Layout."""
        (count,) = conn.execute(self._blocks, {"version_id": self.version_id}).fetchone() or (0,)
        return int(count)

    def partitions(self, conn: psycopg.Connection[Any]) -> list[str]:
        """See Layout."""
        (marks,) = conn.execute(self._partitions, {"version_id": self.version_id}).fetchone() or ([],)
        return list(marks)

    def missing(self, conn: psycopg.Connection[Any], first: int, last: int) -> list[Place]:
        """See Layout."""
        rows = conn.execute(self.queries["missing_rows"], {"first": f"({first},0)", "last": f"({last},0)"})
        return [Place(self.keys.key(row), page_of(*row[-2:])) for row in rows]

    def read(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> list[SourceRow]:
        """See Layout."""
        given = {**self.keys.values(keys), "version_id": self.version_id}
        rows = conn.execute(self.queries["read_rows"], given).fetchall()
        # two spellings of one key, which a type or collation calls equal, are one row
        found: dict[tuple[int, str], SourceRow] = {}
        for i, relation, ctid, *row in sorted(rows):
            found.setdefault((relation, ctid), SourceRow(keys[i], *row))
        return list(found.values())

    def given(self, rows: Sequence[SourceRow]) -> dict[str, Any]:
        """Return the parameters of statements about rows that were read: their keys and hashes."""
        return {**self.keys.values(row.key for row in rows), "hashes": [row.source_hash for row in rows]}


def page_of(relation: int, ctid: str) -> int:
    """Return a number for the page of a TID such as `(12,3)` in a table or partition, in their order."""
    return relation << 32 | int(ctid[1 : ctid.index(",")])

"""Index scans that pgvmig itself makes, in the catalog: retiring a version asks for everybody else's.

Knows nothing of what is searched for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from pgvmig import sql as files


@contextmanager
def noted(conn: psycopg.Connection[Any], version_ids: Sequence[int], *, one_snapshot: bool = False) -> Iterator[None]:
    """Run the block in a transaction, and note how often its statements scanned the versions' vector indexes.

    All statements must be on this connection. With `one_snapshot` they see the same rows; then no transaction may be
    open. Of a block that raises nothing is noted: its scans count as somebody else's, which errs on the safe side.
    """
    given = {"version_ids": list(version_ids)}
    with conn.transaction(), conn.cursor(row_factory=tuple_row) as cursor:
        if one_snapshot:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before: dict[str, int] = dict(cursor.execute(files.query("own_scans", "count"), given).fetchall())
        yield
        cursor.execute(files.query("own_scans", "note"), given | {"before": Jsonb(before)})

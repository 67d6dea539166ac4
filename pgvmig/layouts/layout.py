"""What the worker asks of a layout: which rows need a vector, what they say, and to write vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import psycopg

from pgvmig.catalog.keys import Key
from pgvmig.catalog.versions import Version
from pgvmig.layouts.column import ColumnLayout
from pgvmig.layouts.rows import Guarded, Kind, Place, SourceRow
from pgvmig.layouts.table import TableLayout


class Layout(Protocol):
    """Reads and writes the rows of one version. Transactions are the caller's.

    `striped`: writing moves the rows, so that a batch should take one row of each page; without it the walk goes in
    physical order.
    """

    striped: bool

    def blocks(self, conn: psycopg.Connection[Any]) -> int:
        """Return how many pages the table has; of a partitioned one, its longest partition."""
        ...

    def partitions(self, conn: psycopg.Connection[Any]) -> list[str]:
        """Return a partitioned table's leaf partitions, as they can be compared; none for a plain table."""
        ...

    def missing(self, conn: psycopg.Connection[Any], first: int, last: int) -> list[Place]:
        """Return the rows on the pages from `first` to before `last` that need a vector, as they lie there."""
        ...

    def read(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> list[SourceRow]:
        """Return those of the rows that exist."""
        ...

    def begin(self, conn: psycopg.Connection[Any], *, alone: bool) -> None:
        """Begin a transaction that writes; `alone`: it will leave rows without a vector, or ask what is `settled`."""
        ...

    def guard(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], kinds: Sequence[Kind]) -> Guarded:
        """Find the rows whose text still is what was read, and take those out of the log; waits for no application.

        What changes from here on gets a new entry there. Rows that shall be empty lose their vector, rows that get one
        their outcome.
        """
        ...

    def write(self, conn: psycopg.Connection[Any], rows: Sequence[SourceRow], vectors: Sequence[Any]) -> int:
        """Write vectors and provenance of guarded rows; return how many rows took them."""
        ...

    def settled(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> Sequence[Key]:
        """Return those of the rows, which were read before and needed nothing, that still need nothing."""
        ...

    def vector_blocks(self, conn: psycopg.Connection[Any]) -> int:
        """Return how many pages the vectors have, where they are in a table of their own."""
        ...

    def queue_orphans(self, conn: psycopg.Connection[Any], first: int, last: int) -> None:
        """Put vectors on those pages whose row went with its partition into the log."""
        ...

    def forget(self, conn: psycopg.Connection[Any], keys: Sequence[Key]) -> None:
        """Remove what is left of those rows that are not there any more."""
        ...


def open_layout(conn: psycopg.Connection[Any], version: Version) -> Layout:
    """Return the layout of a version, with pgvector's types known to the connection."""
    return TableLayout(conn, version) if version.layout == "table" else ColumnLayout(conn, version)

"""Changes of a table that PostgreSQL refuses while pgvmig's views and functions show it: a dropped or retyped column.

The two halves run in one transaction, with the change between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.runner import Runner


def begin(run: Runner, table: Table) -> None:
    """Take the views, functions and triggers of a table's versions away. Nothing follows the table until `end`.

    Raises NotFoundError for a table without versions, ConflictError for what could not be put back,
    LockNotAvailableError.
    """
    run.note(f"pgvmig: begin a change of {table.name}; until its end nobody else reads or writes it")
    run.run(files.query("table_change", "begin", relation=table.relation))


def end(run: Runner, table: Table, key: Sequence[str] | None = None) -> None:
    """Make them anew over the table as it is now; `key` names its key when other columns are it.

    Raises ConflictError for a change that a version's contract, vectors or key cannot follow.
    """
    run.note(f"pgvmig: end the change of {table.name}")
    columns = sql.Literal(None if key is None else [*key])
    run.run(files.query("table_change", "end", relation=table.relation, key=columns))

"""What statements run on: a psycopg connection, an Alembic migration, or the script that `--sql` writes.

The verbs are written once against `Runner`. Values stand in the statements as literals, quoted by psycopg, because a
script has no parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pgvmig.address import Address
from pgvmig.catalog.connection import translated
from pgvmig.contract import Contract
from pgvmig.home import Home

Row = dict[str, Any]


class Added(NamedTuple):
    """What a script knows of a version that it added; offline there is no catalog to ask."""

    contract: Contract
    home: Home
    adopted: bool


class Runner(Protocol):
    """Runs statements, or writes them down."""

    @property
    def offline(self) -> bool:
        """Whether statements are only written down, so that nothing can be asked."""
        ...

    @property
    def memory(self) -> dict[Address, Added]:
        """The versions that this script added."""
        ...

    def run(self, statement: sql.SQL | sql.Composed) -> list[Row]:
        """Run one statement and return its rows; offline it is written down and there are none.

        Raises the errors of pgvmig/errors.py.
        """
        ...

    def note(self, text: str) -> None:
        """Leave a comment for the reader of a script."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Group the block's statements in a transaction whose events say who acts."""
        ...

    def outside_transaction(self) -> AbstractContextManager[None]:
        """Commit what came before and run the block's statements each on its own (CREATE INDEX CONCURRENTLY)."""
        ...


class ConnectionRunner:
    """A psycopg connection in autocommit mode; `source` is who acts: cli, worker or sql."""

    offline = False

    def __init__(self, connection: psycopg.Connection[Any], source: str = "sql") -> None:
        self.connection = connection
        self.source = source
        self.memory: dict[Address, Added] = {}

    def run(self, statement: sql.SQL | sql.Composed) -> list[Row]:
        """See Runner."""
        with translated(), self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def note(self, text: str) -> None:
        """Nobody reads along."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See Runner."""
        with translated(), self.connection.transaction():
            self.connection.execute("SELECT set_config('pgvmig.source', %s, true)", [self.source])
            yield

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        """See Runner; an autocommit connection is always outside."""
        yield


def one(rows: list[Row]) -> Any:
    """Return the first column of the first row, None without rows."""
    return next(iter(rows[0].values())) if rows else None


def decoded(value: Any) -> Any:
    """Return a jsonb value as Python objects: psycopg has them so, other drivers as text."""
    return json.loads(value) if isinstance(value, str) else value

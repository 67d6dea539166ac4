"""A session in which nobody's functions and operators are found but PostgreSQL's own.

Our queries compare and add by bare names. An overload in a schema on the search_path whose types fit better would be
taken, and run with our rights; whoever may create in `public` could wait for a superuser's `pgvmig status`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from pgvmig import sql as files

# Temporary tables come last, where they hide nothing.
OWN_PATH = "pg_catalog, pg_temp"
# Such statements are refused in a transaction. They name every type and operator class with its schema.
_BY_ITSELF = "CONCURRENTLY"


class _Cursor(psycopg.Cursor[Any]):
    """Behind a pooler a statement by itself gets a transaction, because a path may only be set for one."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        session = self.connection
        if not (isinstance(session, Session) and session.needs_transaction(query)):
            return super().execute(query, params, **options)
        with session.transaction():
            return super().execute(query, params, **options)


class Session(psycopg.Connection[Any]):
    """An autocommit connection under PostgreSQL's own search_path; `path` is the one that it was opened with.

    Set once, where the server's session is ours. Where it is a pooler's, which lends it by the transaction, with every
    transaction.
    """

    path = ""
    pooled = False

    @classmethod
    def opened(cls, conninfo: str, **options: Any) -> Session:
        """Connect. Raises psycopg.Error."""
        session = cls.connect(conninfo, autocommit=True, prepare_threshold=None, cursor_factory=_Cursor, **options)
        try:
            session._begin()  # noqa: SLF001  # our own
        except BaseException:
            session.close()
            raise
        return session

    def _begin(self) -> None:
        statement = "SELECT pg_catalog.current_setting('search_path'), pg_catalog.pg_backend_pid()"
        path, pid = self.execute(statement).fetchone() or ("", 0)
        self.path = path
        # a pooler answers with a number of its own, by which it knows whom a cancellation is for
        self.pooled = pid != self.info.backend_pid
        if not self.pooled:
            self.execute("SELECT pg_catalog.set_config('search_path', %s, false)", [OWN_PATH])

    def needs_transaction(self, query: Any) -> bool:
        """Whether a statement is to be put into a transaction of its own."""
        if not self.pooled or self.info.transaction_status != TransactionStatus.IDLE:
            return False
        text = query.as_string(self) if isinstance(query, sql.Composable) else str(query)
        return _BY_ITSELF not in text

    @contextmanager
    def transaction(self, *options: Any, **more: Any) -> Iterator[psycopg.Transaction]:
        """See psycopg."""
        outermost = self.info.transaction_status == TransactionStatus.IDLE
        with super().transaction(*options, **more) as block:
            if outermost and self.pooled:
                # no query, so that the isolation level can still be set
                self.execute(f"SET LOCAL search_path = {OWN_PATH}")
            yield block


def found_schema(connection: psycopg.Connection[Any], name: sql.Literal) -> str | None:
    """Return the schema in which the session finds a table without being told, None when it finds none."""
    with connection.transaction():
        restore_path(connection)
        row = connection.execute(files.query("adding", "found_schema", relation=name)).fetchone()
    return str(row[0]) if row else None


def restore_path(connection: psycopg.Connection[Any]) -> None:
    """Until the transaction's end, let names be found as they are in sessions of the same login."""
    if isinstance(connection, Session) and connection.path != OWN_PATH:
        connection.execute("SELECT pg_catalog.set_config('search_path', %s, true)", [connection.path])

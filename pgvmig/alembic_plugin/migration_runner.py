"""Runs statements inside an Alembic migration, online or as the script that `--sql` writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic.operations import Operations
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.catalog import schema
from pgvmig.catalog.connection import translate
from pgvmig.errors import ConfigError, PgvmigError
from pgvmig.runner import Added, Row


class MigrationRunner:
    """A Runner on the migration's own connection and transaction."""

    def __init__(self, operations: Operations) -> None:
        self._context = operations.migration_context
        self.offline: bool = self._context.as_sql
        # one run of Alembic has one context: what an earlier revision added is known to a later one
        self.memory: dict[Address, Added] = self._context.opts.setdefault("pgvmig_memory", {})

    @property
    def connection(self) -> Connection:
        """The migration's connection; there is none offline."""
        connection = self._context.connection
        assert connection is not None  # noqa: S101  # Alembic's types allow None for offline mode only
        return connection

    def run(self, statement: sql.SQL | sql.Composed) -> list[Row]:
        """See Runner."""
        if self.offline:
            self._context.impl.static_output(f"{files.text(statement)};")
            return []
        return rows(self.connection, statement)

    def note(self, text: str) -> None:
        """See Runner."""
        if self.offline:
            lines = (line if line.startswith("--") else f"-- {line}" for line in text.splitlines())
            self._context.impl.static_output("\n".join(lines))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See Runner; Alembic has begun one, and `begin` has said who acts."""
        yield

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        """See Runner."""
        with self._context.autocommit_block():
            self.note("outside any transaction: run this script so that it stops at the first error (ON_ERROR_STOP)")
            yield
        self.introduce()

    def introduce(self) -> None:
        """Tell the transaction who acts, for its events; a new transaction must be told again."""
        revision = sql.Literal(_revision())
        self.run(files.query("switch", "set_context", source=sql.Literal("alembic"), revision=revision))

    def told(self, key: str) -> set[str]:
        """Return what the user gave with `alembic -x key=value`, which may be repeated."""
        environment = self._context.environment_context
        given: Any = environment.get_x_argument() if environment is not None else []
        pairs = [argument.partition("=") for argument in given]
        return {value for name, _, value in pairs if name == key}


def rows(connection: Connection, statement: sql.SQL | sql.Composed) -> list[Row]:
    """Run one statement on SQLAlchemy's connection and return its rows. Raises the errors of pgvmig/errors.py."""
    try:
        # no_parameters: a percent sign in the text is a percent sign. For this statement only: what the revision
        # does next, SQLAlchemy has doubled the percent signs of.
        result = connection.exec_driver_sql(files.text(statement), execution_options={"no_parameters": True})
        return [dict(row) for row in result.mappings()] if result.returns_rows else []
    except DBAPIError as error:
        raise translate(error.orig or error) from error


def begin(operations: Operations) -> MigrationRunner:
    """Return the runner for an operation, after the checks that all of them need.

    Raises ConfigError without transaction_per_migration, SchemaVersionError for another control schema.
    """
    run = require_own_transaction(operations)
    schema.require(run)
    run.introduce()
    return run


def require_own_transaction(operations: Operations) -> MigrationRunner:
    """Return the runner, or raise ConfigError when all revisions would share one transaction."""
    run = MigrationRunner(operations)
    if not run.offline and not operations.migration_context.opts.get("transaction_per_migration"):
        raise ConfigError(
            "env.py runs all revisions in one transaction",
            hazard="A gate that fails in the last would undo the first, and a lock's retries would hold earlier locks",
            next_step="context.configure(..., transaction_per_migration=True) in env.py",
        )
    return run


def as_command_error(error: PgvmigError) -> PgvmigError:
    """Return the error as one that is Alembic's CommandError as well, so that its command line prints the message."""
    kind = type(error)
    both: type[PgvmigError] = type(kind.__name__, (kind, CommandError), {"__doc__": kind.__doc__})
    return both(error.found, hazard=error.hazard, next_step=error.next_step, **error.data)


def _revision() -> str:
    """Return the id of the revision that calls us; Alembic tells operations nothing of it, its module does."""
    frame = sys._getframe()  # noqa: SLF001
    while frame.f_back is not None:
        frame = frame.f_back
        if "down_revision" in frame.f_globals and isinstance(frame.f_globals.get("revision"), str):
            return str(frame.f_globals["revision"])
    return ""

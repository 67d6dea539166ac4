"""What tests of single gates share: a table whose v1 is active, a v2 that could take over, and how they are asked."""

from __future__ import annotations

from typing import Any

import vectors
from lifecycle import add_version, embed, find, install
from servers import Database

from pgvmig import indexing
from pgvmig.address import address
from pgvmig.catalog.versions import Version
from pgvmig.checks import gates
from pgvmig.checks.gates import GateResult
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

V1, V2 = address("documents", "v1"), address("documents", "v2")


class Gated:
    """The table documents with so many rows and, once added, its versions."""

    def __init__(self, database: Database, rows: int = 20) -> None:
        self.connection = database.connect()
        self.run = ConnectionRunner(self.connection)
        install(self.connection)
        self.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text, note text)")
        self.execute(f"INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, {rows}) AS i")

    def execute(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return what it returns."""
        done = self.connection.execute(statement, values or None)
        return done.fetchall() if done.description else []

    def add(self, name: str, *, indexed: bool = False, **contract: Any) -> Version:
        """Add a version with a vector of every row; v1 becomes the active one."""
        version = add_version(self.connection, "documents", name, contract)
        embed(self.connection, version)
        if indexed:
            indexing.build(self.run, address("documents", name))
        if name == "v1":
            vectors.cut_over(self.connection, version)
        return version

    def ask(self, gate: str, version: str = "v2", terms: Terms | None = None, *, way_back: bool = False) -> GateResult:
        """Return what one of the gates says."""
        (result,) = [result for result in self.ask_all(version, terms, way_back=way_back) if result.gate == gate]
        return result

    def ask_all(self, version: str = "v2", terms: Terms | None = None, *, way_back: bool = False) -> list[GateResult]:
        """Return what all of them say."""
        found = find(self.connection, address("documents", version))
        return gates.check(self.run, found.version_id, terms, way_back=way_back)

    def do(self, result: GateResult) -> None:
        """Do what a gate says next: its SQL statements, up to the first command."""
        assert result.next is not None
        for statement in result.next.split("; "):
            if not statement.startswith(("then ", "pgvmig ")):
                self.execute(statement)

    def age(self, version: str, interval: str) -> None:
        """Make the entries of a version's stale log so much older."""
        self.execute(f"UPDATE pgvmig.documents_{version}_stale SET queued_at = queued_at - interval '{interval}'")

    def ran(self, version: str, rows: int, seconds: float) -> None:
        """Record a worker's run that wrote so many rows in that time."""
        self.execute(
            "INSERT INTO pgvmig.backfill_run (run_id, version_id, host, pid, started_at, seen_at, rows_written) "
            "SELECT gen_random_uuid(), version_id, 'here', 1, now() - make_interval(secs => %s), now(), %s "
            "FROM pgvmig.version WHERE version = %s",
            seconds,
            rows,
            version,
        )

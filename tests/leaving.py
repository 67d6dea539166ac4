"""What tests of retiring share: a table whose v1 was left for v2, and time that passes at once."""

from __future__ import annotations

from typing import Any

import psycopg
import vectors
from lifecycle import add_version, embed, find, install

from pgvmig import indexing, retiring
from pgvmig.address import address
from pgvmig.catalog import standbys
from pgvmig.catalog.versions import Version
from pgvmig.checks.gates import GateResult
from pgvmig.runner import ConnectionRunner

V1, V2 = address("documents", "v1"), address("documents", "v2")
A_DAY = "25 hours"


class Left:
    """The table documents, whose searches went to v1 and now go to v2; both have an index."""

    def __init__(self, connection: psycopg.Connection[Any], rows: int = 20, *, dimensions: int = 8) -> None:
        self.connection = connection
        self.run = ConnectionRunner(connection, "cli")
        install(connection)
        self.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
        self.execute(f"INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, {rows}) AS i")
        self.dimensions = dimensions
        for where in (V1, V2):
            version = add_version(connection, "documents", where.version, {"dimensions": dimensions})
            embed(connection, version)
            indexing.build(self.run, where)
            vectors.cut_over(connection, version)
        if not standbys.all_standbys(connection):
            standbys.none(connection)

    @property
    def v1(self) -> Version:
        """The version that was left."""
        return find(self.connection, V1)

    def execute(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return what it returns."""
        done = self.connection.execute(statement, values or None)
        return done.fetchall() if done.description else []

    def pass_time(self, span: str = A_DAY) -> None:
        """Let everything that is known of v1 be so much older; what PostgreSQL itself counts cannot be."""
        self.execute(f"UPDATE pgvmig.version SET state_changed_at = state_changed_at - interval '{span}'")
        self.execute(f"UPDATE pgvmig.index_reading SET read_at = read_at - interval '{span}'")
        self.execute(f"UPDATE pgvmig.revoked_view SET revoked_at = revoked_at - interval '{span}'")
        self.execute(f"UPDATE pgvmig.own_index_scan SET at = at - interval '{span}'")

    def gate(self, name: str) -> GateResult:
        """Read all servers and return what one of the gates says."""
        (found,) = [gate for gate in retiring.check(self.run, V1) if gate.gate == name]
        return found

    def search(self, connection: psycopg.Connection[Any], times: int = 1) -> None:
        """Search v1's view through its index, and have it counted at once."""
        query = "[" + ",".join("1" * self.dimensions) + "]"
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_sort = off")
        for _ in range(times):
            connection.execute(
                "SELECT id, pg_stat_force_next_flush()::text FROM documents_v1 "
                "ORDER BY embedding <=> %s::vector LIMIT 3",
                [query],
            )

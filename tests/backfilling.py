"""What tests of the worker share: a table, a version on it, its model's server, and what must be true in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import psycopg
from lifecycle import add_version, find, install, places
from pgvector.psycopg.halfvec import register_halfvec_info
from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo
from servers import Database

from pgvmig.address import address
from pgvmig.backfill import worker
from pgvmig.backfill.options import Options, Result
from pgvmig.catalog import standbys
from pgvmig.catalog.versions import Version
from pgvmig.demo.model_server import ModelServer

DOCUMENTS = "CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, note text)"
# A lease that outlives no test.
LEASE = 5.0


@dataclass
class Site:
    """A database with the control schema, and the server that its providers lead to."""

    database: Database
    server: ModelServer
    layout: str | None = None
    connection: psycopg.Connection[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.connection = self.database.connect()
        install(self.connection)
        standbys.none(self.connection)

    def documents(self, rows: int = 0, definition: str = DOCUMENTS) -> None:
        """Create the table `documents` with that many passages."""
        self.connection.execute(definition)
        self.insert(rows)

    def insert(self, rows: int) -> None:
        """Insert passages."""
        self.execute(
            "INSERT INTO documents (body) SELECT 'passage ' || i || repeat(' and so on', 20) "
            "FROM generate_series(1, %s) AS i",
            rows,
        )

    def execute(self, statement: str, *values: Any) -> psycopg.Cursor[Any]:
        """Run a statement as the application does."""
        return self.connection.execute(statement, values or None)

    def value(self, statement: str, *values: Any) -> Any:
        """Return the only value of a query."""
        return self.execute(statement, *values).fetchone()[0]

    def version(self, name: str = "v2", **contract: Any) -> Version:
        """Add a version of documents, in the site's layout or, without one, in the test's."""
        options = {"layout": self.layout} if self.layout else {}
        return add_version(self.connection, "documents", name, contract, **options)

    def state(self, version: Version) -> str:
        """Return its present state."""
        return find(self.connection, address(version.table_name, version.version)).state

    def run(self, target: str | None = None, version: str | None = None, **options: Any) -> Result:
        """Run a worker in this process until it ends by itself."""
        given = {"max_time": 60.0, "lease": LEASE} | options
        return worker.run(Options(dsn=self.database.dsn, target=target, version=version, **given))

    def texts(self, provider: str = "new") -> list[str]:
        """Return every text that the provider answered, in the order in which they came."""
        return [text for r in self.server.requests if r.provider == provider and r.status == 200 for text in r.texts]

    def repeated(self) -> int:
        """Return how many texts were embedded again, which somebody has paid for."""
        texts = self.texts()
        return len(texts) - len(set(texts))

    def embedded(self, version: str = "v2") -> int:
        """Return how many rows have a vector."""
        return self.value(f"SELECT count(*) FROM documents_{version}")

    def lose_vectors(self, version: Version, where: str) -> None:
        """Take vectors away behind the worker's back; in their own table nobody notices."""
        prefix = version.vector_column
        names = f"{prefix}, {prefix}_version_id, {prefix}_source_hash, {prefix}_embedded_at"
        if version.layout == "column":
            self.execute(f"UPDATE documents SET ({names}) = (NULL, NULL, NULL, NULL) WHERE {where}")
        else:
            self.execute(f"DELETE FROM {version.vector_table_name} WHERE {where.replace('id', 'key_id')}")

    def stale(self) -> int:
        """Return how many entries the log has."""
        return self.value("SELECT count(*) FROM pgvmig.stale_row")

    def problems(self, version: Version) -> list[str]:
        """Return what is wrong with a version that should be complete, row by row."""
        model = self.server.models[version.contract.provider]
        rows = self._rows(version)
        right = dict(zip(rows, model.embed([row.text or "-" for row in rows.values()]), strict=True))
        found = [f"{key}: {what}" for key, row in rows.items() for what in row.problems(version, right[key])]
        stored = sum(row.vector is not None for row in rows.values())
        left = {
            "vector without a row": self.connection.execute(
                sql.SQL("SELECT count({vector}) FROM {vectors}").format(**places(version))
            ).fetchone()[0]
            - stored,
            "lease": self.value("SELECT count(*) FROM pgvmig.lease"),
            "stale": self.stale(),
            "orphaned outcome": self.value("SELECT count(*) FROM pgvmig.outcome")
            - sum(row.outcome is not None for row in rows.values()),
        }
        return found + [f"{number} of {what} left" for what, number in left.items() if number]

    def _rows(self, version: Version) -> dict[tuple[str, ...], Row]:
        info = TypeInfo.fetch(self.connection, sql.Identifier(version.vector_schema, version.contract.vector_type))
        {"vector": register_vector_info, "halfvec": register_halfvec_info}[info.name](self.connection, info)
        statement = sql.SQL(
            "SELECT ARRAY[{key_texts}], {input}(d.*), pgvmig.source_hash({input}(d.*)), e.{vector}, e.{version_id}, "
            "e.{source_hash}, e.{embedded_at}, o.kind, o.source_hash "
            "FROM {table} AS d LEFT JOIN {vectors} AS e ON {same_row} LEFT JOIN {outcome} AS o ON {same}"
        ).format(
            **(names := places(version)),
            same_row=names["same_key"]
            if version.layout == "table"
            else sql.SQL("(e.tableoid, e.ctid) = (d.tableoid, d.ctid)"),
            key_texts=sql.SQL(", ").join(sql.SQL("d.{}::text").format(sql.Identifier(k)) for k in version.key_columns),
            outcome=sql.Identifier("pgvmig", version.object("outcome")),
            same=sql.SQL(" AND ").join(
                sql.SQL("d.{} = o.{}").format(sql.Identifier(k), sql.Identifier(q))
                for k, q in zip(version.key_columns, version.queue_columns, strict=True)
            ),
        )
        return {tuple(key): Row(*rest) for key, *rest in self.connection.execute(statement)}


@dataclass
class Row:
    """A row as the table has it."""

    text: str
    present_hash: bytes
    vector: Any
    version_id: int | None
    source_hash: bytes | None
    embedded_at: Any
    outcome: str | None
    outcome_hash: bytes | None

    def problems(self, version: Version, right: np.ndarray) -> list[str]:
        """Return what is wrong with it."""
        if self.outcome is not None and self.outcome_hash == self.present_hash:
            return [] if self.vector is None or self.outcome == "failed" else ["a vector and an outcome"]
        if self.vector is None:
            return ["no vector"]
        tolerance = 1e-6 if version.contract.vector_type == "vector" else 1e-3
        found = []
        if not np.allclose(self.vector.to_numpy(), right, atol=tolerance):
            found.append("not the model's vector of the present text")
        if (self.version_id, self.source_hash) != (version.version_id, self.present_hash) or not self.embedded_at:
            found.append("wrong provenance")
        if self.outcome is not None:
            found.append("an outdated outcome")
        return found


class Background:
    """Runs a function in a thread from `with` to its end, and raises there what it raised."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._thread = threading.Thread(target=self._guarded)
        self._error: BaseException | None = None
        self.result: Any = None

    def _guarded(self) -> None:
        try:
            self.result = self._run()
        except BaseException as error:  # noqa: BLE001  # raised in the test's own thread
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.join()

    def join(self) -> Any:
        """Wait for its end and return what it returned."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.result


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until the condition holds; fail when it takes far too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)

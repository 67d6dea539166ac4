"""One example's world: a database with two versions, an application with open transactions, workers that are stepped.

`problems` says what is wrong at any moment, `finish` lets everybody come to an end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from lifecycle import add_version, install
from pgvector.psycopg import register_vector
from psycopg import errors as pg
from psycopg import sql
from servers import add_vector
from stepping import Actor, Session, SteppedConnection, point

from pgvmig.backfill import claims
from pgvmig.backfill.batches import Answer, Batch
from pgvmig.backfill.lane import Lane
from pgvmig.backfill.runs import RunLog
from pgvmig.catalog import standbys, versions
from pgvmig.catalog.versions import Version
from pgvmig.demo.models import HashModel
from pgvmig.pacing.limits import Limits

TEXTS = ("a", "b", "c", "d", "", "  ", None)
TABLE = "CREATE TABLE documents (id integer PRIMARY KEY, body text, note text)"
MODELS = {"v1": HashModel("old", 4), "v2": HashModel("new", 5)}
VECTORS = {
    version: {text: model.embed([text])[0] for text in TEXTS if text and text.strip()}
    for version, model in MODELS.items()
}
# What the database may do to an application that it would also do to it without us.
_CONFLICTS = (pg.SerializationFailure, pg.DeadlockDetected, pg.UniqueViolation, pg.InvalidSavepointSpecification)
# Nothing to switch to or from.
_NO_SWITCH = ("PV002", "PV003", "PV004", "PV005")
# A worker's transaction has fewer statements.
_ENOUGH = 100
# Deadlocks of the application's own end soon; a lock that is not to be had is waited for to the end.
_OPTIONS = "-c deadlock_timeout=20ms -c client_min_messages=error"


def prepare(dsn: str, layout: str) -> None:
    """Make the table, both versions and some rows from before them."""
    add_vector(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        install(connection)
        standbys.none(connection)
        connection.execute(TABLE)
        connection.execute("INSERT INTO documents VALUES (1, 'a', ''), (2, 'b', ''), (3, '', ''), (4, 'c', '')")
        for name, model in MODELS.items():
            contract = {"model": model.name, "dimensions": model.dimensions}
            add_version(connection, "documents", name, contract, layout=layout)


@dataclass
class Worker:
    """A worker in a thread of its own, as it would be in a process."""

    actor: Actor
    run_id: UUID
    pid: int


@dataclass
class World:
    """Everything in one database."""

    dsn: str
    sessions: list[Session] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.admin = self._connect()
        register_vector(self.admin)
        self.sessions = [Session(self._connect(), self.waits) for _ in range(3)]

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn, autocommit=True, options=_OPTIONS)

    def waits(self, pid: int) -> bool:
        """Whether a backend waits for somebody's lock."""
        return self.admin.execute("SELECT pg_blocking_pids(%s) <> '{}'", (pid,)).fetchone() == (True,)

    def settle(self) -> None:
        """Wait until everybody stands still: what one does can let another go on."""
        for session in self.sessions:
            session.settle()
        for worker in self.workers:
            worker.actor.settle()
        for worker in [worker for worker in self.workers if worker.actor.ended]:
            self.workers.remove(worker)
            self._raise(worker.actor.error)

    # The application.

    def tell(self, session: Session, statement: str, values: dict[str, Any] | None = None) -> None:
        """Let a session execute a statement; a conflict ends its transaction."""

        def job() -> None:
            try:
                session.connection.execute(statement, values)
            except _CONFLICTS as error:
                self._excuse(session, error)
            except psycopg.Error as error:
                self.errors.append(f"{type(error).__name__}: {error}")

        session.do(job)
        self.settle()

    def _excuse(self, session: Session, error: psycopg.Error) -> None:
        said = error.diag.message_detail or ""
        if isinstance(error, pg.DeadlockDetected) and any(str(worker.pid) in said for worker in self.workers):
            self.errors.append(f"a deadlock with a worker: {said}")
        if session.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            session.connection.execute("ROLLBACK")

    # Workers.

    def employ(self, batch_size: int) -> None:
        """Start a worker that does everything up to its first statement."""
        run_id = uuid4()
        connection = SteppedConnection.connect(self.dsn, autocommit=True, prepare_threshold=None, options=_OPTIONS)
        pid = connection.info.backend_pid
        actor = Actor(lambda: self._work(connection, run_id, batch_size), lambda: self.waits(pid))
        self.workers.append(Worker(actor, run_id, pid))
        self.settle()

    def step(self, worker: Worker, steps: int) -> None:
        """Let a worker take so many steps."""
        worker.actor.step(steps)
        self.settle()

    def go_to(self, worker: Worker, place: str) -> None:
        """Let a worker go to the next such place, or until it waits for somebody, for a long time or for nothing."""
        for _ in range(60):
            self.step(worker, 1)
            if worker.actor.at == place or worker.actor.ended or self.waits(worker.pid):
                return

    def kill(self, worker: Worker) -> None:
        """End a worker where it is: it does not even say goodbye. Its leases are over as well."""
        worker.actor.kill()
        with self.admin.transaction():
            self.admin.execute("SELECT pg_terminate_backend(%s, 5000)", (worker.pid,))
        worker.actor.join()
        self.workers.remove(worker)
        self.expire(worker)
        self.settle()

    def expire(self, worker: Worker) -> None:
        """Let a worker's leases run out, which it does not notice."""
        self.admin.execute(
            "UPDATE pgvmig.lease SET until = '-infinity' WHERE lease_id IN "
            "(SELECT lease_id FROM pgvmig.lease WHERE run_id = %s FOR UPDATE SKIP LOCKED)",
            (worker.run_id,),
        )

    def _work(self, connection: psycopg.Connection[Any], run_id: UUID, batch_size: int) -> None:
        try:
            work(connection, run_id, batch_size)
        finally:
            connection.close()

    def _raise(self, error: BaseException | None) -> None:
        if error is not None:
            raise error

    def switch(self, how: Callable[[psycopg.Connection[Any], Version], None], name: str) -> None:
        """Cut over or roll back, if that is possible now."""
        version = next(version for version in self._versions() if version.version == name)
        try:
            with self.admin.transaction():
                self.admin.execute("SET LOCAL lock_timeout = '50ms'")
                how(self.admin, version)
        except pg.LockNotAvailable:
            pass
        except psycopg.Error as error:
            if error.sqlstate not in _NO_SWITCH:
                raise
        self.settle()

    # The end, and what must be true.

    def finish(self) -> None:
        """End every transaction, then every worker, and let one work until nothing is left."""
        for _ in range(_ENOUGH):
            for session in self.sessions:
                if not session.busy:
                    self.tell(session, "COMMIT")
            if not any(session.busy for session in self.sessions):
                break
            for worker in [*self.workers]:  # a TRUNCATE waits for a worker's transaction
                self.step(worker, 1)
        else:
            raise AssertionError("the application waits for ever")
        while self.workers:
            self.step(self.workers[0], 40)
            self.workers[:] = self.workers[1:] + self.workers[:1]  # one may wait for the other's leases
        with SteppedConnection.connect(self.dsn, autocommit=True, prepare_threshold=None) as connection:
            work(connection, uuid4(), 64)

    def close(self) -> None:
        """Leave nobody behind."""
        for worker in [*self.workers]:
            worker.actor.kill()
        self.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for worker in self.workers:
            worker.actor.join()
        for session in self.sessions:
            session.close()
        self.admin.close()

    def problems(self) -> list[str]:
        """Return what must not be at any moment; nothing that can be seen while a TRUNCATE is open."""
        if self._rows(_TRUNCATED) == [(True,)]:
            return self.errors
        return self.errors + [what for version in self._versions() for what in self._problems(version)]

    def problems_in_the_end(self) -> list[str]:
        """Return what must not be when everybody has ended."""
        found = self.problems()
        for version in self._versions():
            found += [f"{version.name}: {what}" for what in self._problems_in_the_end(version)]
        left = self._rows("SELECT count(*) FROM pgvmig.stale_row UNION ALL SELECT count(*) FROM pgvmig.lease")
        return found + [f"left over (log, leases): {left}"] * (left != [(0,), (0,)])

    def _versions(self) -> list[Version]:
        return versions.all_versions(self.admin)

    def _rows(self, statement: str | sql.Composed) -> list[tuple[Any, ...]]:
        return self.admin.execute(statement).fetchall()

    def _problems(self, version: Version) -> Iterator[str]:
        for key, body, vector in self._rows(_query(_FRESH, version)):
            if not _right(version, body, vector):
                yield f"{version.name}: row {key} ({body!r}) has another text's vector, which says that it is its own"
        if self._rows(_query("SELECT walked FROM pgvmig.backfill WHERE version_id = {version_id}", version)) == [
            (True,)
        ]:
            for key, body in self._rows(_query(_FORGOTTEN, version)):
                yield f"{version.name}: row {key} ({body!r}) is stale and nobody knows"

    def _problems_in_the_end(self, version: Version) -> Iterator[str]:
        shown = {key: (body, vector, fresh) for key, body, vector, fresh in self._rows(_query(_SHOWN, version))}
        rows = dict(self._rows("SELECT id, body FROM documents"))
        full = {key for key, body in rows.items() if body and body.strip()}
        if set(shown) != full:
            yield f"its view shows {sorted(shown)} of {rows}"
        for key, (body, vector, fresh) in shown.items():
            if body != rows[key] or not fresh or not _right(version, body, vector):
                yield f"row {key} has not the vector of its text {body!r}"
        (stored,) = self._rows(_query(_STORED[version.layout], version))[0]
        if stored != len(full):
            yield f"{stored} vectors for {len(full)} rows"
        if version.state == "active" and self._rows(_query(_OTHER_THAN_CURRENT, version)) != [(0,)]:
            yield "the current view does not show it"


def work(connection: psycopg.Connection[Any], run_id: UUID, batch_size: int) -> None:
    """Do what the worker's loop does, with a model at hand: claim, embed, write, until nothing is left."""
    log = RunLog(run_id)
    lanes = [_open_lane(connection, version, log, batch_size) for version in versions.all_versions(connection)]
    asked: deque[tuple[Lane, Batch]] = deque()
    while not all(lane.caught_up or lane.gone or lane.locked for lane in lanes):
        before = len(asked)
        for lane in lanes:
            for batch in lane.due():
                lane.write(batch)
            if (batch := lane.next_batch()) is not None:
                asked.append((lane, batch))
        # A few requests are on their way; the answers come in the order in which they were asked for.
        while len(asked) > 3 or (asked and len(asked) == before):
            before -= 1
            _answer(*asked.popleft())
        for lane in lanes:
            lane.look()
    claims.release_all(connection, run_id)


def _open_lane(connection: psycopg.Connection[Any], version: Version, log: RunLog, batch_size: int) -> Lane:
    log.begin(connection, version, Limits())
    lane = Lane(connection, version, log, lease=timedelta(hours=1), batch_size=lambda: batch_size, stop=lambda: False)
    lane.begin(asked=False)
    return lane


def _answer(lane: Lane, batch: Batch) -> None:
    if batch.to_embed:
        point("asks")
    known = VECTORS[lane.version.version]
    batch.answers += [Answer(row, "vector", vector=known[row.text]) for row in batch.to_embed]
    batch.to_embed = []
    if batch.settled:
        lane.settle(batch)
    else:
        lane.write(batch)


def _right(version: Version, body: str | None, vector: Any) -> bool:
    wanted = VECTORS[version.version].get(body)
    return wanted is not None and bool((abs(vector.to_numpy() - wanted) < 1e-6).all())


def _query(text: str, version: Version) -> sql.Composed:
    return sql.SQL(text).format(
        view=sql.Identifier(version.view_name or ""),
        stale=sql.Identifier("pgvmig", version.object("stale")),
        outcome=sql.Identifier("pgvmig", version.object("outcome")),
        input=sql.Identifier("pgvmig", version.object("input")),
        vector=sql.Identifier(version.vector_column),
        side=sql.Identifier(version.vector_table_name),
        version_id=sql.Literal(version.version_id),
    )


_TRUNCATED = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'documents'::regclass AND mode = 'AccessExclusiveLock')"
)
_HASH = "pgvmig.source_hash({input}(d.*))"
_FRESH = (
    "SELECT d.id, d.body, v.embedding FROM documents AS d JOIN {view} AS v ON v.id = d.id "
    f"WHERE v.embedding_source_hash = {_HASH}"
)
_FORGOTTEN = (
    "SELECT d.id, d.body FROM documents AS d LEFT JOIN {view} AS v ON v.id = d.id "
    f"WHERE v.embedding_source_hash IS DISTINCT FROM {_HASH} "
    "AND NOT EXISTS (SELECT FROM {stale} AS q WHERE q.key_id = d.id) "
    f"AND NOT EXISTS (SELECT FROM {{outcome}} AS o WHERE o.key_id = d.id AND o.source_hash = {_HASH})"
)
_SHOWN = (
    "SELECT v.id, v.body, v.embedding, v.embedding_source_hash = "
    f"{_HASH} FROM {{view}} AS v JOIN documents AS d ON d.id = v.id"
)
_STORED = {
    "column": "SELECT count({vector}) FROM documents",
    "table": "SELECT count(*) FROM {side}",
}
_OTHER_THAN_CURRENT = "SELECT count(*) FROM (TABLE {view} EXCEPT ALL SELECT * FROM documents_current) AS x"

"""Random interleavings of an application, workers, kills and switches: every row ends with the vector of its text.

Workers are the real ones, stopped before any of their statements; the application has three sessions whose
transactions stay open across them. PGVMIG_PROPERTY_EXAMPLES=5000 lets it run for long, with other examples each time.
"""

from __future__ import annotations

import os

import psycopg
import pytest
import vectors
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg.pq import TransactionStatus
from servers import Cluster, unique_name
from stepping import point
from world import TEXTS, World, prepare

from pgvmig.adding import LAYOUTS
from pgvmig.backfill import faults, lane

_MANY = int(os.environ.get("PGVMIG_PROPERTY_EXAMPLES", "0"))
SETTINGS = settings(
    max_examples=_MANY or 20,
    stateful_step_count=60 if _MANY else 35,
    derandomize=not _MANY,
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

STATEMENTS = {
    "update text": "UPDATE documents SET body = %(body)s WHERE id = %(key)s",
    "update all texts": "UPDATE documents SET body = %(body)s",
    "update note": "UPDATE documents SET note = note || '.' WHERE id = %(key)s",
    "insert": "INSERT INTO documents VALUES (%(key)s, %(body)s, '') ON CONFLICT DO NOTHING",
    "upsert": "INSERT INTO documents VALUES (%(key)s, %(body)s, '') "
    "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "delete": "DELETE FROM documents WHERE id = %(key)s",
    "change key": "UPDATE documents SET id = %(other)s WHERE id = %(key)s",
    "shift keys": "UPDATE documents SET id = id + 4 * CASE WHEN id > 4 THEN -1 ELSE 1 END",
    "lock": "SELECT FROM documents WHERE id = %(key)s FOR UPDATE",
    "truncate": "TRUNCATE documents",
}
CHANGES = st.sampled_from([*STATEMENTS])
SESSIONS = st.integers(0, 2)
WORKERS = st.integers(0, 1)
KEYS = st.integers(1, 4)
BODIES = st.sampled_from(TEXTS)
ISOLATION = st.sampled_from(["READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])


class Interleavings(RuleBasedStateMachine):
    """The application's rules, the workers' rules, and what must hold after each."""

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__()
        self._clone = self.cluster.clone()
        self.world = World(self.cluster.dsn(self._clone.__enter__()))

    def teardown(self) -> None:
        try:
            if not self.world.problems():
                self.world.finish()
                assert self.world.problems_in_the_end() == []
        finally:
            self.world.close()
            self._clone.__exit__(None, None, None)

    @initialize(walked=st.booleans(), patience=st.sampled_from([0.0, 10.0]))
    def begin(self, *, walked, patience):
        """Half of the examples begin with a walk that is at its end: from then on only the log knows what is stale."""
        lane._PATIENCE = patience
        if walked:
            self.world.finish()

    @invariant()
    def nothing_is_wrong(self):
        assert self.world.problems() == []

    # The application: two sessions with transactions that stay open, and one that commits at once.

    def _tell(self, session, statement, *values):
        if not self.world.sessions[session].busy:
            self.world.tell(self.world.sessions[session], statement, *values)

    def _open(self, session):
        return self.world.sessions[session].connection.info.transaction_status == TransactionStatus.INTRANS

    @rule(session=st.integers(1, 2), isolation=ISOLATION, change=CHANGES, key=KEYS, body=BODIES)
    def begin_or_end(self, session, isolation, change, key, body):
        if self._open(session):
            self._tell(session, "COMMIT")
        else:
            self._tell(session, f"BEGIN ISOLATION LEVEL {isolation}")
            self._change(session, change, key, body)

    @rule(session=st.integers(1, 2), how=st.sampled_from(["ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"]))
    def take_back(self, session, how):
        if self._open(session):
            self._tell(session, how)

    @rule(session=SESSIONS, change=CHANGES, key=KEYS, body=BODIES)
    def change(self, session, change, key, body):
        self._change(session, change, key, body)

    @rule(key=KEYS, body=BODIES)
    def update_text(self, key, body):
        self._change(0, "update text", key, body)

    def _change(self, session, change, key, body):
        self._tell(session, STATEMENTS[change], {"key": key, "body": body, "other": key % 4 + 1})

    @rule(session=SESSIONS, replica=st.booleans())
    def load_as_a_replica(self, session, replica):
        self._tell(session, f"SET session_replication_role = {'replica' if replica else 'origin'}")

    # Workers. Three rules, because hypothesis takes each as often as the others.

    def _worker(self, which, batch_size=2):
        workers = self.world.workers
        if which >= len(workers):
            self.world.employ(batch_size)
        return workers[which] if which < len(workers) else None

    @rule(which=WORKERS, steps=st.integers(1, 4))
    def step(self, which, steps):
        if (worker := self._worker(which)) is not None:
            self.world.step(worker, steps)

    @rule(which=WORKERS, steps=st.integers(5, 30), batch_size=st.sampled_from([1, 2, 64]))
    def go_on(self, which, steps, batch_size):
        if (worker := self._worker(which, batch_size)) is not None:
            self.world.step(worker, steps)

    @rule(which=WORKERS, point=st.sampled_from(["after-claim", "asks", "before-commit", "after-commit"]))
    def go_to(self, which, point):
        if (worker := self._worker(which)) is not None:
            self.world.go_to(worker, point)

    @rule(which=WORKERS, killed=st.booleans())
    def lose_leases(self, which, killed):
        """By death, or by being too slow."""
        if which < len(self.world.workers):
            worker = self.world.workers[which]
            (self.world.kill if killed else self.world.expire)(worker)

    # Switches.

    @rule(version=st.sampled_from(["v1", "v2"]))
    def cut_over(self, version):
        self.world.switch(vectors.cut_over, version)

    @rule(version=st.sampled_from(["v1", "v2"]))
    def roll_back(self, version):
        self.world.switch(vectors.roll_back, version)


@pytest.fixture
def prepared(server):
    """The server, with clones that have the table and both versions already."""

    def prepare_for(layout):
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {server.template}")
        prepare(server.dsn(name), layout)
        return Cluster(server.source, server.major, server.conninfo, name)

    name = unique_name("property")
    yield prepare_for
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.mark.timeout(24 * 3600 if _MANY else 300)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_row_ends_with_the_vector_of_its_text(prepared, layout, monkeypatch):
    monkeypatch.setattr(faults, "reach", point)
    for name in ("_RETRY_FIRST", "_RETRY_LAST"):
        monkeypatch.setattr(lane, name, 0.0)
    monkeypatch.setattr(lane, "_PATIENCE", lane._PATIENCE)  # put back at the end
    run_state_machine_as_test(type("Machine", (Interleavings,), {"cluster": prepared(layout)}), settings=SETTINGS)

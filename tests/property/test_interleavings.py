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
    max_examples=_MANY or 40,
    stateful_step_count=100 if _MANY else 50,
    derandomize=not _MANY,
    database=None,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

SESSIONS = st.integers(0, 2)
KEYS = st.integers(1, 5)
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

    # The application.

    def _tell(self, session, statement, *values):
        if not self.world.sessions[session].busy:
            self.world.tell(self.world.sessions[session], statement, *values)

    def _open(self, session):
        return self.world.sessions[session].connection.info.transaction_status == TransactionStatus.INTRANS

    @rule(session=SESSIONS, isolation=ISOLATION)
    def open_transaction(self, session, isolation):
        if not self._open(session):
            self._tell(session, f"BEGIN ISOLATION LEVEL {isolation}")

    @rule(session=SESSIONS, how=st.sampled_from(["COMMIT", "COMMIT", "COMMIT", "ROLLBACK"]))
    def end_transaction(self, session, how):
        self._tell(session, how)

    @rule(session=SESSIONS, key=KEYS, body=BODIES)
    def insert(self, session, key, body):
        self._tell(session, "INSERT INTO documents VALUES (%s, %s, '') ON CONFLICT DO NOTHING", key, body)

    @rule(session=SESSIONS, key=KEYS, body=BODIES)
    def upsert(self, session, key, body):
        statement = "INSERT INTO documents VALUES (%s, %s, '') ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        self._tell(session, statement, key, body)

    @rule(session=SESSIONS, key=KEYS, body=BODIES)
    def update_text(self, session, key, body):
        self._tell(session, "UPDATE documents SET body = %s WHERE id = %s", body, key)

    @rule(session=SESSIONS, body=BODIES)
    def update_all_texts(self, session, body):
        self._tell(session, "UPDATE documents SET body = %s", body)

    @rule(session=SESSIONS, key=KEYS)
    def update_note(self, session, key):
        self._tell(session, "UPDATE documents SET note = note || '.' WHERE id = %s", key)

    @rule(session=SESSIONS, old=KEYS, new=KEYS)
    def change_key(self, session, old, new):
        self._tell(session, "UPDATE documents SET id = %s WHERE id = %s", new, old)

    @rule(session=SESSIONS, by=st.sampled_from([5, -5]))
    def shift_keys(self, session, by):
        self._tell(session, "UPDATE documents SET id = id + %s", by)

    @rule(session=SESSIONS, key=KEYS)
    def delete(self, session, key):
        self._tell(session, "DELETE FROM documents WHERE id = %s", key)

    @rule(session=SESSIONS, key=KEYS)
    def lock(self, session, key):
        self._tell(session, "SELECT FROM documents WHERE id = %s FOR UPDATE", key)

    @rule(session=SESSIONS)
    def truncate(self, session):
        self._tell(session, "TRUNCATE documents")

    @rule(session=SESSIONS, replica=st.booleans())
    def load_as_a_replica(self, session, replica):
        self._tell(session, f"SET session_replication_role = {'replica' if replica else 'origin'}")

    @rule(session=SESSIONS, how=st.sampled_from(["SAVEPOINT s", "ROLLBACK TO s"]))
    def savepoint(self, session, how):
        if self._open(session):
            self._tell(session, how)

    # Workers.

    @rule(batch_size=st.sampled_from([1, 2, 64]))
    def employ(self, batch_size):
        if len(self.world.workers) < 2:
            self.world.employ(batch_size)

    def _worker(self, which):
        return self.world.workers[which % len(self.world.workers)] if self.world.workers else None

    @rule(which=st.integers(0, 1), steps=st.sampled_from([1, 1, 2, 3, 5, 8, 13, 60]))
    def step(self, which, steps):
        if (worker := self._worker(which)) is not None:
            self.world.step(worker, steps)

    @rule(which=st.integers(0, 1))
    def kill(self, which):
        if (worker := self._worker(which)) is not None:
            self.world.kill(worker)

    @rule(which=st.integers(0, 1))
    def let_its_leases_expire(self, which):
        if (worker := self._worker(which)) is not None:
            self.world.expire(worker)

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
    monkeypatch.setattr(faults, "reach", lambda _: point())
    for name in ("_RETRY_FIRST", "_RETRY_LAST"):
        monkeypatch.setattr(lane, name, 0.0)
    monkeypatch.setattr(lane, "_PATIENCE", lane._PATIENCE)  # put back at the end
    run_state_machine_as_test(type("Machine", (Interleavings,), {"cluster": prepared(layout)}), settings=SETTINGS)

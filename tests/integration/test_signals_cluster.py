"""Signals that need a server of their own: slots that are lost, archiving that fails, wraparound, and its standby."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from backfilling import DOCUMENTS, Background
from breaking import frozen, setting
from judging import NOT_APPLICABLE, STOP
from lifecycle import add_version, install
from servers import SETTINGS, add_vector
from watching import is_ok, pacers, stops, until

from pgvmig import embedded
from pgvmig.catalog import standbys
from pgvmig.pacing.limits import DEFAULTS
from pgvmig.pacing.pacer import Pacer

OWN = SETTINGS | {
    "wal_level": "logical",
    "archive_mode": "on",
    "archive_command": "true",
    "max_prepared_transactions": "5",
    "autovacuum": "off",
    "autovacuum_freeze_max_age": "100000",
}
ROLE = "pgvmig_cluster_test"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(18, id="pg18", marks=pytest.mark.xdist_group("cluster 18")),
        pytest.param(16, id="pg16", marks=[pytest.mark.pg16, pytest.mark.xdist_group("cluster 16")]),
    ],
)
def server(request):
    with embedded.running(request.param, settings=OWN) as running:
        add_vector(running.dsn())
        with connected(running.dsn()) as connection:
            install(connection)
            standbys.none(connection)
            connection.execute(DOCUMENTS)
            connection.execute("INSERT INTO documents (body) SELECT repeat('x', 1000) FROM generate_series(1, 500)")
            add_version(connection, "documents", "v2")
        yield running


@contextmanager
def connected(dsn, **options):
    with psycopg.connect(dsn, autocommit=True, **options) as connection:
        yield connection


@pytest.fixture
def connection(server):
    with connected(server.dsn()) as connection:
        yield connection


@pytest.fixture
def watch(server):
    """Open pacers for the table, with limits of their own."""
    with connected(server.dsn()) as connection:
        relation = connection.execute("SELECT 'documents'::regclass::oid").fetchone()[0]
    with pacers(server.dsn(), relation) as opened:
        yield opened


@contextmanager
def slot(connection, create):
    (name,) = connection.execute(f"SELECT slot_name FROM {create}").fetchone()
    try:
        yield
    finally:
        connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))


def fill_segments(connection, number):
    """Begin so many new segments of WAL."""
    for _ in range(number):
        connection.execute("UPDATE documents SET note = 'x' WHERE id = 1")
        connection.execute("SELECT pg_switch_wal()")


# Slots.


def test_a_logical_slot_retains_wal_as_well(connection, watch):
    pacer = watch(max_slot_wal=24 * 1024**2)
    with slot(connection, "pg_create_logical_replication_slot('cdc', 'pgoutput')"):
        assert until(pacer, "replication slots", is_ok).reason.startswith("logical slot cdc (inactive) retains ")
        fill_segments(connection, 3)
        found = until(pacer, "replication slots", stops)
        assert found.reason.endswith(" of WAL, the limit is 24.0 MB")
    until(pacer, "replication slots", lambda reading: reading.state is NOT_APPLICABLE)


def test_a_slot_on_its_way_to_being_lost(connection, watch):
    pacer = watch(max_slot_wal=2**40)
    connection.execute("CHECKPOINT")
    with (
        setting(connection, "max_slot_wal_keep_size", "64MB"),
        slot(connection, "pg_create_physical_replication_slot('gone', true)"),
    ):
        assert until(pacer, "replication slots", is_ok).pressure < 0.5
        fill_segments(connection, 3)
        half = until(pacer, "replication slots", stops)
        assert " of WAL, the limit is " in half.reason
        assert not half.lasting
        fill_segments(connection, 4)
        until(pacer, "replication slots", lambda reading: "is unreserved: the next checkpoint" in reading.reason)
        connection.execute("CHECKPOINT")
        lost = until(pacer, "replication slots", lambda reading: " is lost" in reading.reason)
        assert lost.reason.startswith("physical slot gone (inactive) is lost")
        assert (lost.state, lost.lasting) == (STOP, True)


# Archiving.


def archiving(connection, pacer, condition):
    """Return the reading that fulfils the condition; until then a segment each second wakes the archiver.

    It may not have heard of a new setting when the first one is full, and by itself looks again after a minute.
    """
    return until(pacer, "WAL archiving", condition, push=lambda: fill_segments(connection, 1))


def test_archiving_that_fails_and_recovers(connection, watch):
    pacer = watch()
    fill_segments(connection, 1)
    assert until(pacer, "WAL archiving", is_ok).reason.endswith(" to be archived")
    with setting(connection, "archive_command", "false"):
        found = archiving(connection, pacer, stops)
        assert found.reason.startswith("archiving fails, last for 00000001")
        assert found.next_step == "look into the server's log for what archive_command or archive_library says"
    archiving(connection, pacer, is_ok)


def test_archiving_that_does_not_keep_up(connection, watch):
    pacer = watch(max_archive_backlog=2)
    with setting(connection, "archive_command", ""):
        found = archiving(connection, pacer, stops)
        assert " WAL files wait to be archived, the limit is 2" in found.reason
    archiving(connection, pacer, is_ok)


def test_the_archives_status_needs_pg_monitor(server, connection, watch):
    connection.execute(f"CREATE ROLE {ROLE} LOGIN")
    try:
        connection.execute(f"GRANT pg_read_all_stats TO {ROLE}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA pgvmig TO {ROLE}")
        pacer = watch(dsn=psycopg.conninfo.make_conninfo(server.dsn(), user=ROLE))
        verdict = pacer.check()
        assert [reading.signal for reading in verdict.deciding] == ["WAL archiving"]
        assert verdict.reason.startswith("WAL archiving cannot be read: permission denied for function ")
        assert verdict.next_step == f"GRANT pg_monitor TO {ROLE}"
        connection.execute(f"GRANT pg_monitor TO {ROLE}")
        assert pacer.check().may_write
        pacer.close()
    finally:
        connection.execute(f"DROP OWNED BY {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


# Transactions.


def test_a_prepared_transaction_that_was_forgotten(server, connection, watch):
    pacer = watch(max_horizon_age=timedelta(seconds=1), stop_horizon_age=timedelta(seconds=2))
    with connected(server.dsn()) as session:
        session.execute("BEGIN")
        session.execute("UPDATE documents SET note = 'y' WHERE id = 2")
        session.execute("PREPARE TRANSACTION 'forgotten'")
    try:
        found = until(pacer, "xmin horizon", stops)
        assert found.reason.startswith("prepared transaction forgotten (postgres) has held back the xmin horizon for ")
        assert found.next_step == "COMMIT PREPARED or ROLLBACK PREPARED 'forgotten'"
    finally:
        connection.execute("ROLLBACK PREPARED 'forgotten'")
    until(pacer, "xmin horizon", is_ok)


# A transaction ID in each turn.
AGEING = """
DO $$
BEGIN
    FOR i IN 1..101000 LOOP
        PERFORM pg_current_xact_id();
        COMMIT;
    END LOOP;
END $$
"""


def test_a_vacuum_of_a_table_that_is_due_for_wraparound(server, connection, watch):
    pacer = watch()
    connection.execute(AGEING)
    assert until(pacer, "vacuum", lambda _: True).reason == "no vacuum runs on documents"
    with connected(server.dsn()) as session:
        session.execute("SET vacuum_cost_delay = 100")
        session.execute("SET vacuum_cost_limit = 1")

        def vacuum():
            with pytest.raises(psycopg.errors.QueryCanceled):
                session.execute("VACUUM (FREEZE) documents")

        with Background(vacuum):
            try:
                found = until(pacer, "vacuum", stops)
            finally:
                connection.execute("SELECT pg_cancel_backend(%s)", (session.info.backend_pid,))
        assert found.reason.startswith("a vacuum against wraparound runs on documents (pid ")
    connection.execute("VACUUM (FREEZE) documents")


# Synchronous replication, and a standby that holds the primary's rows.


@pytest.fixture
def pacer(replicated_database, primary):
    limits = DEFAULTS.changed(
        max_sync_wait=timedelta(milliseconds=300), max_horizon_age=timedelta(seconds=1), max_lag=timedelta(minutes=5)
    )
    with Pacer.open(replicated_database.dsn, limits) as pacer:
        yield pacer


@pytest.fixture
def synchronous(replicated_database, primary):
    with setting(primary, "synchronous_standby_names", "standby1"):
        yield


@pytest.mark.usefixtures("synchronous")
def test_the_synchronous_standby_is_gone(replicated_database, primary, pacer):
    until(pacer, "synchronous replication", is_ok)
    replicated_database.standby.stop()
    found = until(pacer, "synchronous replication", stops)
    assert found.reason == (
        "0 of 1 synchronous standbys are connected (synchronous_standby_names is 'standby1'), so every COMMIT hangs"
    )
    replicated_database.standby.start()
    until(pacer, "synchronous replication", is_ok)


@pytest.mark.usefixtures("synchronous")
def test_the_synchronous_standby_does_not_answer(replicated_database, primary, pacer):
    until(pacer, "synchronous replication", is_ok)
    session = replicated_database.connect(application_name="shop")
    is_frozen = threading.Event()

    def commit():
        is_frozen.wait()
        session.execute("INSERT INTO load VALUES (1)")

    with Background(commit), frozen(replicated_database.standby):
        is_frozen.set()
        found = until(pacer, "synchronous replication", stops)
        who = f"session {session.info.backend_pid} (postgres, application shop)"
        assert found.reason.startswith(f"{who} has been waiting for synchronous replication for ")
        assert found.reason.endswith("; the limit is 300 ms")
    until(pacer, "synchronous replication", is_ok)


def test_a_standby_that_holds_the_primarys_rows(replicated_database, primary, pacer):
    def use_transaction_ids():
        primary.execute("INSERT INTO load VALUES (1)")

    until(pacer, "xmin horizon", is_ok)
    with connected(replicated_database.standby_dsn) as standby, setting(standby, "hot_standby_feedback", "on"):
        with connected(replicated_database.standby_dsn) as report:
            report.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            report.execute("SELECT count(*) FROM load")

            def held(reading):
                use_transaction_ids()
                return reading.speed < 1

            found = until(pacer, "xmin horizon", held)
            assert found.reason.startswith("replication slot standby1 (active) has held back the xmin horizon for ")
            assert found.next_step == (
                "end the long query on that standby (its hot_standby_feedback holds the primary's rows)"
            )
            report.execute("COMMIT")
        until(pacer, "xmin horizon", lambda reading: use_transaction_ids() or is_ok(reading))

"""Signals on a real server that is made to be unwell: sessions, locks, vacuum, privileges, and what operators say."""

import time
from contextlib import closing, contextmanager
from datetime import timedelta

import psycopg
import pytest
from backfilling import DOCUMENTS, Background, wait_until
from judging import NOT_APPLICABLE, OK, STOP, UNKNOWN
from lifecycle import add_version, install
from psycopg.conninfo import make_conninfo
from watching import is_ok, one, pacers, stops, until

from pgvmig.catalog import standbys
from pgvmig.pacing.limits import DEFAULTS
from pgvmig.pacing.registry import SIGNALS

pytestmark = pytest.mark.majors(18, 16)

ROLE = "pgvmig_signals_test"


@pytest.fixture
def connection(database):
    """A table with a version, and no standbys."""
    connection = database.connect()
    install(connection)
    standbys.none(connection)
    connection.execute(DOCUMENTS)
    connection.execute("INSERT INTO documents (body) SELECT repeat('x', 1000) FROM generate_series(1, 500)")
    add_version(connection, "documents", "v2")
    return connection


@pytest.fixture
def relation(connection):
    return connection.execute("SELECT 'documents'::regclass::oid").fetchone()[0]


@pytest.fixture
def watch(database, relation):
    """Open pacers for the table, with limits of their own."""
    with pacers(database.dsn, relation) as opened:
        yield opened


@contextmanager
def cancelled(connection, pid):
    """Cancel what a session does when the block ends."""
    try:
        yield
    finally:
        connection.execute("SELECT pg_cancel_backend(%s)", (pid,))


def begin_update(session):
    """Leave a transaction open that has locked a row and written."""
    session.execute("BEGIN")
    session.execute("UPDATE documents SET note = 'first' WHERE id = 1")


@contextmanager
def role(connection, *privileges):
    connection.execute(f"CREATE ROLE {ROLE} LOGIN")
    try:
        for privilege in ("SELECT ON ALL TABLES IN SCHEMA pgvmig", *privileges):
            connection.execute(f"GRANT {privilege} TO {ROLE}")
        yield
    finally:
        connection.execute(f"DROP OWNED BY {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


def test_a_server_that_is_well(watch):
    found = watch().check()
    assert found.may_write
    assert found.speed == 1.0
    assert {reading.kind for reading in found.readings} == {signal.kind or signal.name for signal in SIGNALS}
    assert {r.kind: r.reason for r in found.readings if r.state is NOT_APPLICABLE} == {
        "replication lag": "declared to have no standbys, and none streams from this server",
        "replication slots": "there is no replication slot",
        "synchronous replication": "synchronous_standby_names is empty",
        "WAL archiving": "archive_mode is off",
        "WAL rate": "max_wal_rate is not set",
        "size of pg_wal": "max_pg_wal is not set",
        "size of the database": "max_database_size is not set",
        "free disk space": "min_free_disk is not set",
        "pause": "pause_file is not set",
        "custom SQL": "custom_sql is not set",
    }


# Slots.


def test_an_inactive_slot_and_the_wal_that_it_retains(connection, watch):
    pacer = watch(max_slot_wal=1024**2)
    connection.execute("CHECKPOINT")  # a slot retains what the last one needs
    connection.execute("SELECT pg_create_physical_replication_slot('gone', true)")
    try:
        assert until(pacer, "replication slots", lambda r: r.state is OK).signal == "replication slot gone"
        connection.execute("INSERT INTO documents (body) SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
        found = until(pacer, "replication slots", stops)
        assert found.reason.startswith("physical slot gone (inactive) retains ")
        assert found.reason.endswith(" of WAL, the limit is 1.0 MB")
        assert "SELECT pg_drop_replication_slot('gone')" in found.next_step
    finally:
        connection.execute("SELECT pg_drop_replication_slot('gone')")
    until(pacer, "replication slots", lambda r: r.state is NOT_APPLICABLE)


def test_a_slot_that_reserves_nothing(connection, watch):
    connection.execute("SELECT pg_create_physical_replication_slot('new')")
    try:
        assert one(watch(), "replication slots").reason == "physical slot new (inactive) reserves no WAL yet"
    finally:
        connection.execute("SELECT pg_drop_replication_slot('new')")


# Index builds and vacuum.


def test_an_index_build_that_is_held_up(database, connection, watch):
    writer, builder = database.connect(), database.connect()
    pacer, elsewhere = watch(), watch(about=1)
    build = "CREATE INDEX CONCURRENTLY documents_note ON documents (note)"
    begin_update(writer)
    with Background(lambda: builder.execute(build)), closing(writer):
        found = until(pacer, "index build", stops)
        assert found.reason.startswith("CREATE INDEX CONCURRENTLY runs on documents (")
        assert f"session {builder.info.backend_pid} (postgres" in found.reason
        assert one(elsewhere, "index build").state is OK
    until(pacer, "index build", is_ok)


def slow_vacuum(database, options=""):
    session = database.connect()
    session.execute("SET vacuum_cost_delay = 100")
    session.execute("SET vacuum_cost_limit = 1")

    def run():
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(f"VACUUM {options} documents")

    return session.info.backend_pid, Background(run)


def test_an_ordinary_vacuum_halves_the_speed(database, connection, watch):
    pacer, elsewhere = watch(), watch(about=1)
    connection.execute("UPDATE documents SET note = 'x'")
    pid, vacuum = slow_vacuum(database)
    with vacuum, cancelled(connection, pid):
        found = until(pacer, "vacuum", lambda r: r.speed < 1)
        assert (found.state, found.speed) == (OK, 0.5)
        assert found.reason.startswith(f"a vacuum runs on documents (pid {pid}, ")
        verdict = pacer.check()
        assert (verdict.may_write, verdict.speed) == (True, 0.5)
        assert is_ok(one(elsewhere, "vacuum"))
    until(pacer, "vacuum", is_ok)


def test_a_vacuum_of_the_toast_table_is_one_of_the_table(database, connection, watch):
    connection.execute("ALTER TABLE documents ALTER body SET STORAGE EXTERNAL")
    connection.execute("UPDATE documents SET body = repeat('y', 4000)")
    connection.execute("DELETE FROM documents WHERE id % 2 = 0")
    pid, vacuum = slow_vacuum(database, "(PROCESS_MAIN false)")
    with vacuum, cancelled(connection, pid):
        assert until(watch(), "vacuum", lambda r: r.speed < 1).speed == 0.5


# Whoever waits for us, and for whom we would wait.


@pytest.mark.parametrize("by_name", [True, False])
def test_a_session_that_we_block(database, connection, watch, by_name):
    ours = database.connect(application_name="pgvmig backfill" if by_name else "elsewhere")
    begin_update(ours)
    pacer = watch(pids=[] if by_name else [ours.info.backend_pid])
    theirs = database.connect(application_name="shop")
    update = "UPDATE documents SET note = 'theirs' WHERE id = 1"
    with Background(lambda: theirs.execute(update)), closing(ours):
        found = until(pacer, "blocked sessions", stops)
        assert found.reason.startswith(
            f'session {theirs.info.backend_pid} (postgres, application shop) with "{update}" '
        )
        assert f"has been blocked by us (pid {ours.info.backend_pid}) for " in found.reason
    until(pacer, "blocked sessions", is_ok)


def test_a_session_that_somebody_else_blocks(database, connection, watch):
    other, theirs = database.connect(application_name="shop"), database.connect()
    begin_update(other)
    with Background(lambda: theirs.execute("UPDATE documents SET note = 'theirs' WHERE id = 1")), closing(other):
        wait_until(
            lambda: connection.execute(
                "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", (theirs.info.backend_pid,)
            ).fetchone()[0]
        )
        assert one(watch(), "blocked sessions").reason == "nobody is blocked by us"


# The xmin horizon.

SHORT = {"max_horizon_age": timedelta(seconds=1), "stop_horizon_age": timedelta(seconds=3)}


def test_a_long_transaction(database, connection, watch):
    pacer = watch(**SHORT)
    reader = database.connect(application_name="report")
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM documents")
    slow = until(pacer, "xmin horizon", lambda r: r.speed < 1)
    assert (slow.state, slow.speed) == (OK, 0.5)
    who = f"session {reader.info.backend_pid} (postgres, application report, idle in transaction)"
    assert slow.reason.startswith(f'{who} with "SELECT count(*) FROM documents" has held back the xmin horizon for ')
    assert slow.reason.endswith(": updates are no longer HOT")
    assert slow.next_step == f"let it end, or SELECT pg_terminate_backend({reader.info.backend_pid})"
    assert until(pacer, "xmin horizon", stops).reason.endswith("the limit is 3.0 s")
    reader.execute("COMMIT")
    until(pacer, "xmin horizon", is_ok)


def test_transactions_that_hold_nothing(database, connection, watch):
    pacer = watch(**SHORT)
    idle = database.connect()
    idle.execute("BEGIN")
    idle.execute("SELECT count(*) FROM documents")  # READ COMMITTED gives its snapshot back
    own = database.connect(application_name="pgvmig backfill")
    own.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    own.execute("SELECT count(*) FROM documents")
    with psycopg.connect(make_conninfo(database.dsn, dbname="postgres")) as elsewhere:
        elsewhere.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        elsewhere.execute("SELECT 1")
        time.sleep(1.5)
        assert one(pacer, "xmin horizon").reason == "nobody holds back the xmin horizon"


def test_a_vacuum_holds_nothing_back(database, connection, watch):
    pacer = watch(**SHORT)
    connection.execute("UPDATE documents SET note = 'x'")
    pid, vacuum = slow_vacuum(database)
    with vacuum, cancelled(connection, pid):
        until(pacer, "vacuum", lambda r: r.speed < 1)
        time.sleep(1.5)
        assert is_ok(until(pacer, "xmin horizon", lambda _: True))


# Caps.


def test_a_cap_on_the_wal_rate(connection, watch):
    pacer = watch(max_wal_rate=200_000)
    assert until(pacer, "WAL rate", lambda r: r.state is not UNKNOWN).state is OK
    connection.execute("INSERT INTO documents (body) SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
    assert " of WAL in a second, the limit is 195.3 kB" in until(pacer, "WAL rate", stops).reason
    until(pacer, "WAL rate", is_ok)


def test_caps_on_sizes(watch, tmp_path):
    pacer = watch(max_pg_wal=1, max_database_size=1, min_free_disk=2**62, disk_path=str(tmp_path))
    assert [one(pacer, kind).state for kind in ("size of pg_wal", "size of the database", "free disk space")] == [
        STOP,
        STOP,
        STOP,
    ]
    pacer = watch(max_pg_wal=2**40, max_database_size=2**40, min_free_disk=1, disk_path=str(tmp_path))
    assert pacer.check().may_write
    pacer = watch(min_free_disk=1, disk_path=str(tmp_path / "gone"))
    found = one(pacer, "free disk space")
    assert (found.state, found.next_step) == (UNKNOWN, "check the path, and who may enter it")
    assert found.reason == f"free disk space cannot be read: {tmp_path}/gone: No such file or directory"


# What operators say.


def test_a_pause_of_everything_and_of_this_table(connection, watch):
    pacer = watch()
    connection.execute("INSERT INTO pgvmig.pause (reason) VALUES ('sale')")
    verdict = pacer.check()
    assert (verdict.state, verdict.paused) == (STOP, True)
    assert verdict.reason == "everything was paused by postgres: sale"
    connection.execute("UPDATE pgvmig.pause SET relation = 'documents', slot = 'embedding', reason = NULL")
    assert pacer.check().reason == "documents was paused by postgres"
    connection.execute("DELETE FROM pgvmig.pause")
    assert pacer.check().may_write


def test_a_pause_file(watch, tmp_path):
    file = tmp_path / "stop-backfills"
    pacer = watch(pause_file=str(file))
    assert pacer.check().may_write
    file.touch()
    verdict = pacer.check()
    assert (verdict.state, verdict.paused) == (STOP, True)
    assert verdict.reason == f"paused: the file {file} exists"
    file.unlink()
    assert pacer.check().may_write
    tmp_path.rename(tmp_path.with_name("moved"))
    try:
        verdict = pacer.check()
    finally:
        tmp_path.with_name("moved").rename(tmp_path)
    assert (verdict.state, verdict.paused) == (UNKNOWN, False)
    assert verdict.reason.startswith("pause file cannot be read: ")


def test_limits_change_while_it_runs(connection, watch):
    pacer = watch()
    assert pacer.check().may_write
    settings = '{"max_lag": 0.8, "max_database_size": 1}'
    connection.execute(
        "INSERT INTO pgvmig.throttle (relation, slot, settings) VALUES ('documents', 'embedding', %s)", (settings,)
    )
    until(pacer, "size of the database", stops)
    assert pacer.limits.max_lag == timedelta(milliseconds=800)
    connection.execute("""UPDATE pgvmig.throttle SET settings = '{"max_lag": "fast"}'""")
    found = pacer.check()
    assert found.state is UNKNOWN
    assert found.reason == "pgvmig.throttle is not understood: max_lag is 'fast'"
    connection.execute("DELETE FROM pgvmig.throttle")
    assert until(pacer, "throttle", is_ok)
    assert pacer.check().may_write
    assert pacer.limits == DEFAULTS


@pytest.mark.parametrize(
    ("query", "state", "said"),
    [
        ("SELECT count(*) < 1000 FROM documents WHERE body LIKE '%x%'", OK, "custom_sql returned true"),
        ("SELECT false", STOP, "custom_sql returned false"),
        ("SELECT NULL::boolean", UNKNOWN, "custom_sql returned NULL"),
        ("SELECT true UNION ALL SELECT true", STOP, "custom_sql returned several rows of 1 columns, not one boolean"),
        ("SELECT 1", STOP, "custom_sql returned a int, not a boolean"),
        ("SELECT jobs FROM queue", STOP, 'custom_sql failed: relation "queue" does not exist'),
        (
            "DELETE FROM documents RETURNING true",
            STOP,
            "custom_sql failed: cannot execute DELETE in a read-only transaction",
        ),
        (
            "COMMIT; DELETE FROM documents",
            STOP,
            "custom_sql failed: cannot insert multiple commands into a prepared statement",
        ),
        ("SELECT '{}'::text = '{braces}'", STOP, "custom_sql returned false"),
    ],
)
def test_custom_sql(connection, watch, query, state, said):
    pacer = watch(custom_sql=query)
    found = one(pacer, "custom SQL")
    assert (found.state, found.reason) == (state, said)
    assert {r.state for r in pacer.check().readings if r.kind != "custom SQL"} <= {OK, NOT_APPLICABLE}
    assert connection.execute("SELECT count(*) FROM documents").fetchone() == (500,)


def test_custom_sql_that_takes_too_long(watch):
    pacer = watch(custom_sql="SELECT pg_sleep(60) IS NOT NULL")
    found = one(pacer, "custom SQL")
    assert (found.state, found.reason) == (STOP, "custom_sql failed: canceling statement due to statement timeout")


# Privileges.


def test_a_role_without_pg_monitor_and_with_it_and_without_it_again(database, connection, watch):
    dsn = make_conninfo(database.dsn, user=ROLE)
    with role(connection):
        pacer = watch(dsn=dsn)
        for _ in range(2):
            found = until(pacer, "xmin horizon", lambda r: r.state is UNKNOWN)
            assert found.reason == f"{ROLE} does not see what other sessions do (it lacks pg_read_all_stats)"
            verdict = pacer.check()
            assert (verdict.state, verdict.next_step) == (UNKNOWN, f"GRANT pg_monitor TO {ROLE}")
            connection.execute(f"GRANT pg_monitor TO {ROLE}")
            assert until(pacer, "xmin horizon", is_ok)
            assert pacer.check().may_write
            connection.execute(f"REVOKE pg_monitor FROM {ROLE}")
        pacer.close()


def test_one_question_that_fails_hides_no_other(database, connection, watch):
    dsn = make_conninfo(database.dsn, user=ROLE)
    with role(connection, "pg_monitor"):
        pacer = watch(dsn=dsn)
        assert pacer.check().may_write
        connection.execute(f"REVOKE SELECT ON pgvmig.pause FROM {ROLE}")
        for _ in range(2):
            verdict = pacer.check()
            assert [reading.signal for reading in verdict.deciding] == ["pause"]
            assert verdict.reason == "pause cannot be read: permission denied for table pause"
            assert verdict.next_step == f"GRANT SELECT ON pgvmig.pause TO {ROLE}"
            assert {r.state for r in verdict.readings if r.kind != "pause"} <= {OK, NOT_APPLICABLE}
        connection.execute(f"GRANT SELECT ON pgvmig.pause TO {ROLE}")
        assert pacer.check().may_write
        assert pacer.check().may_write
        pacer.close()


# Aurora, of which there is only its function: what it returns is made up.

AURORA = """
CREATE FUNCTION pg_catalog.aurora_replica_status() RETURNS TABLE (server_id text, session_id text, durable_lsn bigint,
    replica_lag_in_msec double precision, last_update_timestamp timestamptz)
BEGIN ATOMIC
    SELECT 'docs-1', 'MASTER_SESSION_ID', 500000, NULL::double precision, NULL::timestamptz
    UNION ALL SELECT 'docs-2', '6e1f6b2e-2b60-4d5a-8f24-f2e2b5f5d3c1', 500000, 18.0, now();
END
"""


def test_aurora_is_asked_by_its_own_function_where_that_exists(connection, watch):
    connection.execute(AURORA)
    pacer = watch()
    found = one(pacer, "replication lag")
    assert (found.state, found.next_step) == (UNKNOWN, "pgvmig standby add docs-2")
    standbys.add(connection, "docs-2")
    found = one(pacer, "replication lag")
    assert (found.state, found.reason) == (OK, "docs-2 has replayed everything")
    assert pacer.check().may_write

"""Pacing against a real standby that is paused, delayed, frozen, stopped or out of sight."""

import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from breaking import frozen, replay_paused, setting
from judging import OK, STOP, UNKNOWN

from pgvmig.catalog import standbys
from pgvmig.errors import SignalError
from pgvmig.pacing import asking as reading
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.pacer import Pacer

pytestmark = pytest.mark.standby

MAX_LAG = timedelta(seconds=0.5)
ROLE = "pgvmig_pacing_test"


def seconds(number):
    return timedelta(seconds=number)


def limits(patience, **more):
    return Limits(max_lag=MAX_LAG, patience=seconds(patience), **more)


def never():
    return False


@pytest.fixture
def connection(primary):
    return primary


@pytest.fixture
def pacer(replicated_database):
    with Pacer.open(replicated_database.dsn, limits(60, interval=seconds(0.1))) as pacer:
        yield pacer


@pytest.fixture
def standby(replicated_database):
    with psycopg.connect(replicated_database.standby_dsn, autocommit=True) as connection:
        yield connection


def load(connection, rows=20_000):
    connection.execute("INSERT INTO load SELECT generate_series(1, %s)", (rows,))


def check_until(pacer, condition, meanwhile=lambda: None, seconds=60):
    """Check until a verdict fulfils the condition; return all verdicts."""
    verdicts = []
    deadline = time.monotonic() + seconds
    while not verdicts or not condition(verdicts[-1]):
        assert time.monotonic() < deadline, f"in vain; last: {verdicts[-1].reason}"
        meanwhile()
        verdicts.append(pacer.check())
        time.sleep(0.05)
    return verdicts


def is_stop(verdict):
    return verdict.state is STOP


@contextmanager
def role(connection):
    """A worker's role that may read the declarations, and nothing about replication."""
    connection.execute(f"CREATE ROLE {ROLE} LOGIN")
    connection.execute(f"GRANT SELECT ON pgvmig.standby, pgvmig.pause, pgvmig.throttle TO {ROLE}")
    try:
        yield
    finally:
        connection.execute(f"DROP OWNED BY {ROLE}")
        connection.execute(f"DROP ROLE {ROLE}")


@contextmanager
def receiving(server, directory, application_name):
    """A program that copies WAL and replays nothing, connected under that name."""
    directory.chmod(0o777)
    command = [server.bin("pg_receivewal"), "--no-loop", "-D", str(directory)]
    with subprocess.Popen([*command, "-d", server.dsn("replication", application_name=application_name)]) as process:
        try:
            yield
        finally:
            process.terminate()


# A standby that is well.


def test_a_standby_that_keeps_up_is_ok_after_every_load(connection, pacer):
    for _ in range(5):
        load(connection)
        assert pacer.wait(never).state is OK
    assert pacer.peak_lag < timedelta(seconds=30)
    assert pacer.peak_lag_bytes < 64 * 1024 * 1024


def test_an_idle_primary_is_never_stopped(connection, pacer):
    pacer.wait(never)
    for background in ("CHECKPOINT", "SELECT pg_switch_wal()", "SELECT pg_log_standby_snapshot()"):
        time.sleep(1.2 * MAX_LAG.total_seconds())  # long enough for our samples to be older than the limit
        connection.execute(background)
        first = pacer.check()
        assert first.state in {OK, UNKNOWN}, first.reason
        assert pacer.wait(never).state is OK


def test_it_reads_through_its_own_connection(connection, pacer):
    pacer.check()
    names = connection.execute("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
    assert "pgvmig pacing" in {name for (name,) in names}
    pacer.close()


# One that is behind.


def test_replay_paused(connection, standby, pacer):
    assert pacer.wait(never).may_write
    with replay_paused(standby):
        load(connection)
        verdicts = check_until(pacer, is_stop)
        assert "the limit is 500 ms" in verdicts[-1].reason
        assert verdicts[-1].lag > MAX_LAG
        assert verdicts[-1].lag_bytes > 100_000
    assert pacer.wait(never).state is OK
    assert pacer.peak_lag > MAX_LAG


def test_patience_ends(connection, standby, replicated_database):
    with replay_paused(standby), Pacer.open(replicated_database.dsn, limits(2)) as pacer:
        load(connection)
        with pytest.raises(SignalError, match="replication lag of standby1 is STOP"):
            pacer.wait(never)


def test_a_wait_ends_when_replay_goes_on(connection, standby, pacer):
    seen = []

    def resume_after_a_while(verdict):
        seen.append(verdict.state)
        if len(seen) == 5:
            standby.execute("SELECT pg_wal_replay_resume()")

    with replay_paused(standby):
        load(connection)
        check_until(pacer, is_stop)
        assert pacer.wait(never, resume_after_a_while).state is OK
    assert seen[:5] == [STOP] * 5


def test_stop_ends_a_wait(connection, standby, pacer):
    with replay_paused(standby):
        load(connection)
        asked = []
        assert not pacer.wait(lambda: asked.append(1) or len(asked) > 3).may_write
        assert len(asked) == 4


def test_bytes_alone_stop_before_the_time_does(connection, standby, replicated_database):
    with Pacer.open(replicated_database.dsn, Limits(max_lag=timedelta(hours=1), max_lag_bytes=100_000)) as pacer:
        assert pacer.wait(never).may_write
        with replay_paused(standby):
            load(connection)
            found = pacer.check()
            assert found.state is STOP
            assert "the limit is 97.7 kB" in found.reason


def test_apply_delay_after_one_small_write(connection, standby, pacer):
    with setting(standby, "recovery_min_apply_delay", "3s"):
        assert pacer.wait(never).may_write
        connection.execute("INSERT INTO load VALUES (1)")
        found = check_until(pacer, is_stop)[-1]
        assert 0 < found.lag_bytes < 10_000
        assert pacer.wait(never).state is OK  # it passes by itself


def test_apply_delay_under_small_steady_writes(connection, standby, pacer):
    with setting(standby, "recovery_min_apply_delay", "2s"):

        def trickle():
            connection.execute("INSERT INTO load VALUES (1)")

        check_until(pacer, is_stop, trickle)
        verdicts = [pacer.check() for _ in range(10) if (trickle(), time.sleep(0.1))]
        assert {verdict.state for verdict in verdicts} == {STOP}
    assert pacer.wait(never).state is OK


def test_a_frozen_standby(connection, replicated_database, pacer):
    assert pacer.wait(never).may_write
    with frozen(replicated_database.standby):
        assert pacer.check().state is not STOP  # it has everything so far
        connection.execute("INSERT INTO load VALUES (1)")
        verdicts = check_until(pacer, is_stop)
        assert OK not in {verdict.state for verdict in verdicts if verdict.lag > MAX_LAG}
    assert pacer.wait(never).state is OK


# One that is gone, or was never declared.


def test_a_stopped_standby_and_what_its_slot_retains(connection, replicated_database, pacer):
    assert pacer.wait(never).may_write
    replicated_database.standby.stop()
    load(connection)
    found = check_until(pacer, lambda verdict: "not connected" in verdict.reason)[-1]
    assert found.state is UNKNOWN
    assert "standby1 is declared and not connected; its slot standby1 is inactive and retains " in found.reason
    assert found.next_step == "start it, or pgvmig standby remove standby1 if it is gone for good"
    replicated_database.standby.start()
    assert pacer.wait(never).state is OK


def test_a_standby_that_never_was(connection, pacer):
    (added,) = standbys.add(connection, "elsewhere")
    assert not added.connected
    found = pacer.check()
    assert (found.state, found.reason) == (UNKNOWN, "elsewhere is declared and not connected")


def test_nothing_declared(connection, pacer):
    standbys.remove(connection, "standby1")
    found = pacer.check()
    assert found.state is UNKNOWN
    assert found.reason == "no standby is declared and none was declared absent; connected: standby1"
    assert found.next_step == "pgvmig standby add standby1"


def test_none_declared_and_contradicted(connection, pacer):
    standbys.remove(connection, "standby1")
    (streaming,) = standbys.none(connection)
    assert (streaming.name, streaming.declared, streaming.connected) == ("standby1", False, True)
    found = pacer.check()
    assert (found.state, found.next_step) == (UNKNOWN, "pgvmig standby add standby1")
    assert found.reason.startswith("declared to have no standbys, but connected: standby1 (")


def test_the_list_shows_figures(connection):
    deadline = time.monotonic() + 30
    while (found := standbys.all_standbys(connection)[0]).lag_bytes != 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found.name, found.state, found.slot_active) == ("standby1", "streaming", True)
    assert found.replay_lsn > 0


def test_a_copier_of_wal_is_no_standby(connection, replicated_database, tmp_path):
    def connected():
        return connection.execute(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'archive' AND write_lsn IS NOT NULL"
        ).fetchone()[0]

    with receiving(replicated_database.primary, tmp_path, "archive"):
        deadline = time.monotonic() + 60
        while not connected():
            assert time.monotonic() < deadline
            load(connection, 10)
            time.sleep(0.1)
        assert [found.name for found in standbys.all_standbys(connection)] == ["standby1"]


def test_two_connections_of_one_name(connection, replicated_database, pacer, tmp_path):
    with receiving(replicated_database.primary, tmp_path, "standby1"):
        verdicts = check_until(pacer, lambda verdict: "not reported" in verdict.reason)
        assert verdicts[-1].state is UNKNOWN
        assert len([reading for reading in verdicts[-1].readings if reading.kind == "replication lag"]) == 1
    check_until(pacer, lambda verdict: verdict.may_write)


# Out of sight.


def test_a_role_without_the_privilege_and_with_it_and_without_it_again(connection, replicated_database):
    dsn = psycopg.conninfo.make_conninfo(replicated_database.dsn, user=ROLE)
    with role(connection), Pacer.open(dsn, limits(30)) as pacer:
        for _ in range(2):
            connection.execute(f"REVOKE pg_monitor FROM {ROLE}")
            found = pacer.check()
            assert (found.state, found.next_step) == (UNKNOWN, f"GRANT pg_monitor TO {ROLE}")
            assert found.reason == (
                f"{ROLE} sees no figures in pg_stat_replication (it lacks pg_read_all_stats); "
                f"{ROLE} does not see what other sessions do (it lacks pg_read_all_stats)"
            )
            connection.execute(f"GRANT pg_monitor TO {ROLE}")
            assert pacer.wait(never).state is OK


def test_a_role_that_may_not_read_the_declarations(connection, replicated_database):
    dsn = psycopg.conninfo.make_conninfo(replicated_database.dsn, user=ROLE)
    with role(connection), Pacer.open(dsn) as pacer:
        connection.execute(f"REVOKE SELECT ON pgvmig.standby FROM {ROLE}")
        found = pacer.check()
        assert found.state is UNKNOWN
        assert found.next_step == f"GRANT SELECT ON pgvmig.standby TO {ROLE}; GRANT pg_monitor TO {ROLE}"


def test_a_cut_connection_is_unknown_until_it_is_opened_again(connection, pacer):
    assert pacer.wait(never).may_write
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgvmig pacing'"
    )
    assert check_until(pacer, lambda verdict: not verdict.may_write, seconds=10)[-1].state is UNKNOWN
    assert pacer.wait(never).state is OK


def test_a_restarted_primary(connection, replicated_database, pacer):
    assert pacer.wait(never).may_write
    replicated_database.primary.stop("immediate")
    found = pacer.check()
    assert found.state is UNKNOWN
    assert pacer.check().reason.startswith("no connection to PostgreSQL: ")
    replicated_database.primary.start()
    assert pacer.wait(never).state is OK


def test_a_frozen_primary_does_not_hold_us(connection, replicated_database, pacer, monkeypatch):
    assert pacer.wait(never).may_write
    monkeypatch.setattr(reading, "DEADLINE_SECONDS", 0.3)
    with frozen(replicated_database.primary):
        found = pacer.check()
    assert (found.state, found.reason) == (UNKNOWN, "no answer within 0.3 s")
    monkeypatch.undo()
    assert pacer.wait(never).state is OK


def test_a_reading_that_takes_too_long_is_given_up(connection, replicated_database, pacer, monkeypatch):
    monkeypatch.setattr(reading, "STATEMENT_SECONDS", 0.2)
    with replicated_database.connect().transaction() as holding:
        holding.connection.execute("LOCK TABLE pgvmig.standby")
        found = pacer.check()
    assert (found.state, found.reason) == (UNKNOWN, "canceling statement due to statement timeout")


@pytest.mark.bare
def test_no_control_schema(replicated_database):
    with Pacer.open(replicated_database.dsn) as pacer:
        found = pacer.check()
    assert (found.state, found.next_step) == (UNKNOWN, "pgvmig init, or op.install_pgvmig() in a revision")


def test_a_pacer_that_was_pointed_at_the_standby(connection, replicated_database):
    replicated_database.wait_for_replay()
    with Pacer.open(replicated_database.standby_dsn) as pacer:
        assert pacer.check().reason == "this server is in recovery, a standby itself"


# Asked itself.


def test_a_standby_with_a_dsn(connection, standby, replicated_database, pacer):
    standbys.add(connection, "standby1", replicated_database.standby_dsn)
    load(connection)
    assert pacer.wait(never).state is OK
    with replay_paused(standby):
        load(connection)
        check_until(pacer, is_stop)
    assert pacer.wait(never).state is OK


def test_a_standby_that_does_not_answer(connection, replicated_database, pacer, monkeypatch):
    standbys.add(connection, "standby1", replicated_database.standby_dsn)
    assert pacer.wait(never).may_write
    monkeypatch.setattr(reading, "DEADLINE_SECONDS", 0.3)
    with frozen(replicated_database.standby):
        found = pacer.check()  # caught up by all that the primary knows
    assert (found.state, found.reason) == (UNKNOWN, "standby1: its DSN does not answer (no answer within 0.3 s)")
    monkeypatch.undo()
    assert pacer.wait(never).state is OK


def test_a_dsn_that_leads_nowhere_or_to_the_primary(connection, replicated_database, pacer):
    standbys.add(connection, "standby1", "host=127.0.0.1 port=1 user=postgres")
    assert pacer.check().reason.startswith("standby1: its DSN does not answer (connection failed")
    standbys.add(connection, "standby1", replicated_database.dsn)
    assert pacer.check().reason == "standby1: its DSN leads to a server that is no standby"
    standbys.add(connection, "standby1")
    assert pacer.wait(never).state is OK


def test_a_dsn_of_another_cluster(connection, replicated_database, database, pacer):
    standbys.add(connection, "standby1", database.dsn)
    assert pacer.check().reason == "standby1: its DSN leads to another cluster"

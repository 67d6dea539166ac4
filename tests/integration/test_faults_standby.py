"""The standby is paused, delayed, frozen, stopped or out of sight while a worker is at work: not one row is written."""

import time
from datetime import timedelta

import psycopg
import pytest
from backfilling import Background, Site, wait_until
from breaking import frozen, replay_paused, setting, stopped
from psycopg.conninfo import make_conninfo

from pgvmig.backfill import worker
from pgvmig.backfill.options import Options
from pgvmig.catalog import standbys
from pgvmig.errors import SignalError
from pgvmig.pacing.limits import Limits

ROLE = "pgvmig_faults_test"
ROWS = 500
BATCH = 8
LIMITS = Limits(max_lag=timedelta(seconds=0.5), interval=timedelta(seconds=0.1), patience=timedelta(seconds=60))


@pytest.fixture
def site(replicated_database, model_server, monkeypatch, one_by_one, layout):
    """A primary with its standby declared; requests one by one, so that a run takes some seconds."""
    monkeypatch.setenv("PGVMIG_NEW_BASE_URL", model_server.base_url("new"))
    model_server.latency = 0.03
    site = Site(replicated_database, model_server, layout)
    standbys.add(site.connection, "standby1")
    site.documents(ROWS)
    replicated_database.wait_for_replay()
    return site


@pytest.fixture
def v2(site):
    return site.version()


@pytest.fixture
def standby(replicated_database):
    with psycopg.connect(replicated_database.standby_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def role(site):
    """A worker's role that owns what it writes, and sees replication by pg_monitor alone."""
    site.execute(f"CREATE ROLE {ROLE} LOGIN IN ROLE postgres, pg_monitor")
    yield ROLE
    site.execute(f"DROP OWNED BY {ROLE}")
    site.execute(f"DROP ROLE {ROLE}")


class Working(Background):
    """A worker in this process, and whether it said that it waits."""

    def __init__(self, dsn, **options):
        given = {"max_time": 60.0, "lease": 5.0, "batch_size": BATCH, "limits": LIMITS} | options
        self.told = []
        super().__init__(lambda: worker.run(Options(dsn=dsn, report=self.told.append, **given)))

    @property
    def waits(self):
        return bool(self.told and self.told[-1].waiting)


def written(site):
    """How many rows the worker has written, when it wrote the last, and how late it is on the server."""
    return site.execute("SELECT count(*), max(embedding_embedded_at), clock_timestamp() FROM documents_v2").fetchone()


def nothing_is_written(site, seconds=1.0):
    """Whether the rows stay as they are, although there is work."""
    before = written(site)[0]
    assert 0 < before < ROWS
    time.sleep(seconds)
    return written(site)[0] == before


@pytest.mark.layouts
def test_replay_paused_until_the_last_write(site, v2, standby, record_property):
    with Working(site.database.dsn) as working:
        wait_until(lambda: written(site)[0] > 5 * BATCH)
        with replay_paused(standby):
            paused_at = written(site)[2]
            wait_until(lambda: working.waits)
            assert nothing_is_written(site, 1.5)
            last = written(site)[1]
        assert working.join().why == "done"
    assert site.problems(v2) == []
    record_property("from replay paused to the last write", str(last - paused_at))
    # Nothing was replayed from the pause on, so what came next was the oldest; 0.2 s are for this machine's other work.
    bound = LIMITS.max_lag + LIMITS.target_time + LIMITS.interval + timedelta(seconds=0.2)
    assert last - paused_at <= bound


def test_a_frozen_standby(site, v2, replicated_database):
    with Working(site.database.dsn) as working:
        wait_until(lambda: written(site)[0] > 5 * BATCH)
        with frozen(replicated_database.standby):
            wait_until(lambda: working.waits)
            assert nothing_is_written(site)
        assert working.join().why == "done"
    assert site.problems(v2) == []


def test_a_stopped_standby(site, v2, replicated_database):
    with Working(site.database.dsn) as working:
        wait_until(lambda: written(site)[0] > 5 * BATCH)
        with stopped(replicated_database.standby):
            wait_until(lambda: working.waits)
            assert "standby1 is declared and not connected" in working.told[-1].waiting
            assert nothing_is_written(site)
        assert working.join().why == "done"
    assert site.problems(v2) == []


def test_a_delayed_standby(site, v2, standby):
    with Working(site.database.dsn) as working:
        wait_until(lambda: written(site)[0] > 5 * BATCH)
        with setting(standby, "recovery_min_apply_delay", "1min"):
            wait_until(lambda: working.waits)
            assert nothing_is_written(site)
        assert working.join().why == "done"
    assert site.problems(v2) == []


def test_the_privilege_is_revoked(site, v2, role):
    with Working(make_conninfo(site.database.dsn, user=role)) as working:
        wait_until(lambda: written(site)[0] > 5 * BATCH)
        site.execute(f"REVOKE pg_monitor FROM {role}")
        wait_until(lambda: working.waits)
        assert "lacks pg_read_all_stats" in working.told[-1].waiting
        assert nothing_is_written(site)
        site.execute(f"GRANT pg_monitor TO {role}")
        assert working.join().why == "done"
    assert site.problems(v2) == []


def test_patience_ends_and_the_leases_are_free(site, v2, replicated_database):
    with stopped(replicated_database.standby):
        with pytest.raises(SignalError, match="standby1 is declared and not connected"):
            site.run(limits=LIMITS.changed(patience=timedelta(seconds=1)))
        assert written(site)[0] == 0
        assert site.texts() == []  # and nothing was paid for what could not be written
        assert site.value("SELECT count(*) FROM pgvmig.lease WHERE until > clock_timestamp()") == 0


def hangs(site):
    return site.value(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name ~ 'pgvmig'"
    )


def test_a_synchronous_standby_goes_while_committing(site, v2, replicated_database):
    """COMMIT would hang past every timeout, with the batch's rows locked; the worker does not wait for the standby."""
    with setting(site.connection, "synchronous_standby_names", "standby1"):
        wait_until(lambda: site.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"))
        with Working(site.database.dsn) as working:
            wait_until(lambda: written(site)[0] > 5 * BATCH)
            with frozen(replicated_database.standby):
                wait_until(lambda: working.waits)
                assert hangs(site) == 0
                assert nothing_is_written(site)
            assert working.join().why == "done"
    assert site.problems(v2) == []
    assert len(site.texts()) == ROWS

"""The primary restarts, crashes, becomes read-only, runs out of disk, or hands over to its standby, mid-run."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from backfilling import Background, Site, wait_until
from breaking import frozen, setting, stopped
from proxy import Proxy
from servers import SETTINGS, Database, add_vector, source

from pgvmig import embedded
from pgvmig.backfill import watchdog, worker
from pgvmig.backfill.options import Options
from pgvmig.catalog import standbys
from pgvmig.errors import DatabaseError
from pgvmig.pacing.limits import Limits

ROWS = 300
BATCH = 20


@pytest.fixture
def slow_provider(model_server, monkeypatch, one_by_one):
    """Requests one by one, so that it is known what is lost with a connection."""
    monkeypatch.setenv("PGVMIG_NEW_BASE_URL", model_server.base_url("new"))
    model_server.latency = 0.05
    return model_server


@pytest.fixture
def site(replicated_database, slow_provider, layout):
    """A primary with its standby declared."""
    site = Site(replicated_database, slow_provider, layout)
    standbys.add(site.connection, "standby1")
    site.documents(ROWS)
    replicated_database.wait_for_replay()
    return site


@pytest.fixture
def v2(site):
    return site.version()


def working(dsn, **options):
    given = {"max_time": 60.0, "lease": 2.0, "batch_size": BATCH} | options
    return Background(lambda: worker.run(Options(dsn=dsn, **given)))


def reconnect(site):
    """The application's connection did not live through it either."""
    site.connection = site.database.connect()


@pytest.mark.layouts
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restarted(site, v2, replicated_database, mode):
    with working(site.database.dsn) as running:
        wait_until(lambda: site.embedded() > 2 * BATCH)
        with stopped(replicated_database.primary, mode):
            pass
        reconnect(site)
        assert running.join().why == "done"
    assert site.problems(v2) == []
    assert site.repeated() <= BATCH


def test_a_backend_crashes(site, v2):
    """All others are thrown out as well, and the server recovers from its WAL."""
    with working(site.database.dsn) as running:
        wait_until(lambda: site.embedded() > 2 * BATCH)
        pid = site.value("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'pgvmig backfill'")
        psutil.Process(pid).send_signal(signal.SIGKILL)
        assert running.join().why == "done"
    reconnect(site)
    assert site.problems(v2) == []
    assert site.repeated() <= BATCH


def test_read_only_for_a_while(site, v2):
    said = []
    with working(site.database.dsn, report=said.append) as running:
        wait_until(lambda: site.embedded() > 2 * BATCH)
        with setting(site.connection, "default_transaction_read_only", "on"):
            wait_until(lambda: any("read-only" in (at.waiting or "") for at in said))
            before = site.embedded()
            time.sleep(0.5)
            assert site.embedded() == before
        assert running.join().why == "done"
    assert site.problems(v2) == []
    assert site.repeated() <= BATCH


def test_frozen_for_a_while(site, v2, replicated_database, monkeypatch):
    """Its kernel takes what is sent, and nobody answers: without a watchdog the worker would wait for ever."""
    monkeypatch.setattr(watchdog, "NO_ANSWER", 1.0)
    said = []
    with working(site.database.dsn, report=said.append) as running:
        wait_until(lambda: site.embedded() > 2 * BATCH)
        with frozen(replicated_database.primary):
            wait_until(lambda: any("connecting again" in (at.waiting or "") for at in said))
        assert running.join().why == "done"
    assert site.problems(v2) == []
    assert site.repeated() <= 2 * BATCH


def test_a_worker_ends_although_the_server_is_frozen(site, v2, replicated_database, monkeypatch):
    monkeypatch.setattr(watchdog, "NO_ANSWER_AT_THE_END", 1.0)
    stop = threading.Event()
    with working(site.database.dsn, stop=stop) as running:
        wait_until(lambda: site.embedded() > 2 * BATCH)
        with frozen(replicated_database.primary):
            time.sleep(0.5)
            stop.set()
            assert running.join().why == "signal"
    assert site.run().why == "done"
    assert site.problems(v2) == []


def test_failover(slow_provider):
    """The standby is promoted, the old primary comes back as its standby, the address stays."""
    with (
        embedded.running(settings=SETTINGS) as primary,
        embedded.standby(primary, settings=SETTINGS) as standby,
        Proxy(primary.dsn()) as proxy,
    ):
        add_vector(primary.dsn())
        site = Site(Database("postgres", primary.major, proxy.dsn), slow_provider)
        standbys.add(site.connection, "standby1")
        site.documents(ROWS)
        v2 = site.version()
        limits = Limits(interval=timedelta(seconds=0.1))
        said = []
        stop = threading.Event()
        with working(proxy.dsn, limits=limits, follow=True, report=said.append, stop=stop) as running:
            wait_until(lambda: site.embedded() > 2 * BATCH)
            primary.stop("fast")
            with psycopg.connect(standby.dsn(), autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
            proxy.target = (standby.host, standby.port)
            proxy.cut()
            wait_until(lambda: any("declared and not connected" in (at.waiting or "") for at in said))
            reconnect(site)
            before = site.embedded()
            time.sleep(0.5)
            assert site.embedded() == before < ROWS
            follow(primary, standby)
            wait_until(lambda: site.state(v2) == "ready")
            stop.set()
            assert running.join().why == "signal"
        assert site.problems(v2) == []
        assert site.repeated() <= BATCH
        site.database.close()


@pytest.fixture
def small_disk():
    """A file system of 16 MB that PostgreSQL's user owns."""
    folder = Path(tempfile.mkdtemp(prefix="pgvmig-disk-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=777", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def test_the_disk_is_full(database, slow_provider, small_disk):
    if source() != "embedded":
        pytest.skip("the server runs on another machine, whose disk we cannot fill")
    site = Site(database, slow_provider)
    site.documents(ROWS)
    v2 = site.version()
    (small_disk / "data").mkdir()
    (small_disk / "data").chmod(0o777)
    shutil.chown(small_disk / "data", "nobody" if os.geteuid() == 0 else os.getuid())
    site.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}/data'")
    try:
        site.execute("ALTER TABLE documents SET TABLESPACE small")
        filler = fill(small_disk)
        with pytest.raises(DatabaseError, match="No space left on device") as failure:
            site.run()
        assert failure.value.next_step == "Check free disk space."
        assert site.embedded() < ROWS
        filler.unlink()
        assert site.run().why == "done"
        assert site.problems(v2) == []
    finally:
        site.execute("DROP TABLE documents CASCADE")
        site.execute("DROP TABLESPACE small")


def fill(folder):
    """Leave nothing free but what files have already."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass
    return filler


def follow(old, new):
    """Let the old primary, which was shut down in order, follow the new one under the name that is declared."""
    conninfo = new.dsn("replication", application_name="standby1")
    (old.data / "standby.signal").touch()
    with (old.data / "postgresql.auto.conf").open("a") as file:
        file.write(f"primary_conninfo = '{conninfo}'\n")
    old.start()

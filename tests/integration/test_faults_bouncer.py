"""PgBouncer in transaction mode between worker and server: each transaction may be on another connection."""

import threading

import psycopg
import pytest
from backfilling import LEASE, Background, wait_until
from bouncer import bouncing, program

from pgvmig.backfill import worker
from pgvmig.backfill.options import Options

pytestmark = pytest.mark.skipif(program() is None, reason="PgBouncer is not installed (Debian's package pgbouncer)")

ROWS = 300


@pytest.fixture
def v2(site):
    site.documents(ROWS)
    return site.version()


@pytest.fixture
def bouncer(site):
    """More clients than connections: whoever has one between two transactions is chance."""
    with bouncing(site.database.dsn) as bouncer:
        yield bouncer


def run(bouncer, **options):
    given = {"max_time": 60.0, "lease": LEASE, "batch_size": 16} | options
    return worker.run(Options(dsn=bouncer.dsn, **given))


@pytest.fixture
def crowd(bouncer):
    """Other clients of the pooler, each transaction of which takes whatever connection is free."""
    over = threading.Event()

    def be_there():
        with psycopg.connect(bouncer.dsn, autocommit=True, prepare_threshold=None) as connection:
            while not over.is_set():
                connection.execute("SELECT pg_backend_pid(), pg_sleep(0.002)")

    crowd = [Background(be_there) for _ in range(6)]
    for client in crowd:
        client.__enter__()
    yield
    over.set()
    for client in crowd:
        client.join()


@pytest.mark.layouts
def test_a_table_is_embedded_once(site, v2, bouncer, crowd):
    assert run(bouncer).why == "done"
    assert site.problems(v2) == []
    assert len(site.texts()) == ROWS
    assert site.value("SELECT sum(rows_written) FROM pgvmig.backfill_run") == ROWS


def test_two_workers_share_the_work(site, v2, bouncer, crowd):
    with Background(lambda: run(bouncer)) as one, Background(lambda: run(bouncer)) as other:
        assert {one.join().why, other.join().why} == {"done"}
    assert site.problems(v2) == []
    assert len(site.texts()) == ROWS


def test_nothing_is_left_set_on_a_pooled_connection(site, v2, bouncer):
    run(bouncer)
    with psycopg.connect(bouncer.dsn, autocommit=True, prepare_threshold=None) as connection:
        for name in ("lock_timeout", "statement_timeout"):
            assert connection.execute(f"SHOW {name}").fetchone() == ("0",)
        assert connection.execute("SHOW row_security").fetchone() == ("on",)


def test_following_polls(site, v2, bouncer):
    """LISTEN goes to whichever connection is free, and what it would hear never comes: new rows wait for a look."""
    stop = threading.Event()
    with Background(lambda: run(bouncer, follow=True, stop=stop)) as following:
        wait_until(lambda: site.embedded() == ROWS)
        site.insert(3)
        site.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
        wait_until(lambda: site.embedded() == ROWS + 3 and site.stale() == 0, seconds=10)
        stop.set()
        assert following.join().why == "signal"
    assert site.run().why == "done"
    assert site.problems(v2) == []


def test_the_pooler_restarts(site, v2, bouncer):
    site.server.latency = 0.03
    with Background(lambda: run(bouncer)) as working:
        wait_until(lambda: site.embedded() > 0)
        bouncer.stop()
        bouncer.start()
        assert working.join().why == "done"
    assert site.problems(v2) == []

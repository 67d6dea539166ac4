"""The line between worker and server is cut, stalls, and loses the answer to a COMMIT."""

import random
import threading
import time

import psycopg
import pytest
from backfilling import LEASE, Background, wait_until
from lifecycle import install
from proxy import Proxy
from psycopg.conninfo import conninfo_to_dict
from servers import UnavailableError, add_vector

from pgvmig.backfill import supervision, worker
from pgvmig.backfill.options import Options
from pgvmig.errors import ConflictError, DatabaseError

ROWS = 300
BATCH = 20


@pytest.fixture
def v2(site, one_by_one):
    """One request at a time, so that it is known what is lost with a connection."""
    site.documents(ROWS)
    return site.version()


@pytest.fixture
def proxy(site):
    with Proxy(site.database.dsn) as proxy:
        yield proxy


def run(proxy, **options):
    """Run a worker through the proxy."""
    given = {"max_time": 60.0, "lease": LEASE, "batch_size": BATCH} | options
    return worker.run(Options(dsn=proxy.dsn, **given))


def counted(site):
    """How many rows were written, by what was counted in the transactions that wrote them."""
    return site.value("SELECT sum(rows_written) FROM pgvmig.backfill_run")


@pytest.mark.layouts
def test_cut_again_and_again(site, v2, proxy):
    site.server.latency = 0.02
    generator = random.Random(3)
    cuts = 4
    with Background(lambda: run(proxy)) as working:
        for _ in range(cuts):
            before = len(site.server.requests)
            wait_until(lambda before=before: len(site.server.requests) > before)
            time.sleep(generator.random() * 0.1)
            proxy.cut()
        assert working.join().why == "done"
    assert site.problems(v2) == []
    assert site.repeated() <= cuts * BATCH
    assert counted(site) == ROWS
    ended = site.execute("SELECT ended_why FROM pgvmig.backfill_run ORDER BY started_at").fetchall()
    assert {why for (why,) in ended} == {"done", "lost its connection"}


@pytest.mark.layouts
def test_the_answer_to_a_commit_is_lost(site, v2, proxy):
    proxy.lose_answers = 3
    result = run(proxy)
    assert (result.why, proxy.lose_answers) == ("done", 0)
    assert site.problems(v2) == []
    # Committed is committed: the next attempt saw it, and nobody paid again.
    assert site.repeated() == 0
    assert counted(site) == ROWS


@pytest.mark.layouts
def test_the_answer_to_a_commit_is_lost_while_stale_rows_are_written(site, v2, proxy):
    run(proxy)
    site.execute("UPDATE documents SET body = 'changed ' || id WHERE id % 2 = 0")
    site.server.requests.clear()
    proxy.lose_answers = 2
    assert run(proxy).why == "done"
    assert proxy.lose_answers == 0
    assert site.problems(v2) == []
    assert site.repeated() == 0
    assert len(site.texts()) == ROWS // 2


@pytest.mark.layouts
def test_a_commit_never_arrives(site, v2, proxy):
    proxy.lose_commits = 2
    assert run(proxy).why == "done"
    assert proxy.lose_commits == 0
    assert site.problems(v2) == []
    assert site.repeated() <= 2 * BATCH
    assert counted(site) == ROWS


def test_a_line_that_stalls_for_a_while(site, v2, proxy):
    site.server.latency = 0.02
    with Background(lambda: run(proxy)) as working:
        wait_until(lambda: site.embedded() > 0)
        with proxy.stalled():
            time.sleep(0.3)  # what is under way by now arrives
            before = site.embedded()
            time.sleep(1)
            assert site.embedded() == before
        assert working.join().why == "done"
    assert site.problems(v2) == []
    assert site.repeated() == 0


def test_a_server_that_does_not_come_back_ends_the_run(site, v2, proxy, monkeypatch):
    monkeypatch.setattr(supervision, "SHORT_SERIES", 1.0)
    site.server.on_request = lambda _: setattr(proxy, "refusing", True) or proxy.cut()
    with pytest.raises(DatabaseError, match=r"the connection was lost, and for \d+ s no other was") as failure:
        run(proxy)
    assert failure.value.next_step.startswith(
        "see that the primary runs (pg_isready), then run this again; with --follow"
    )
    assert site.embedded() < ROWS
    site.server.on_request = None
    assert site.run().why == "done"  # when the leases of the lost one are over
    assert site.problems(v2) == []


def test_a_server_that_was_never_there_is_an_error_at_once(site, v2, proxy):
    proxy.refusing = True
    began = time.monotonic()
    with pytest.raises(DatabaseError, match="no connection to PostgreSQL"):
        run(proxy, follow=True)
    assert time.monotonic() - began < supervision.SHORT_SERIES / 2


def test_following_goes_on_when_the_server_is_back(site, v2, proxy, monkeypatch):
    monkeypatch.setattr(supervision, "SHORT_SERIES", 0.2)  # --follow does not keep to it
    said = []
    stop = threading.Event()
    with Background(lambda: run(proxy, follow=True, stop=stop, report=said.append)) as following:
        wait_until(lambda: site.embedded() == ROWS)
        with proxy.refused():
            wait_until(lambda: any(at.waiting and "connecting again in" in at.waiting for at in said))
            site.execute("UPDATE documents SET body = 'changed meanwhile' WHERE id <= 10")
            time.sleep(1)
        wait_until(lambda: site.stale() == 0)
        assert [at.counters.written for at in said][-1] >= ROWS  # what was done before counts on
        stop.set()
        result = following.join()
    assert (result.why, result.versions["documents v2"].written) == ("signal", ROWS + 10)
    assert site.run().why == "done"  # also the closing look, where the first was stopped in it
    assert site.problems(v2) == []


def test_the_time_limit_holds_while_the_server_is_away(site, v2, proxy):
    site.server.on_request = lambda _: setattr(proxy, "refusing", True) or proxy.cut()
    result = run(proxy, follow=True, max_time=3)
    assert result.why == "time"
    assert 2.5 < result.seconds < 20
    site.server.on_request = None


@pytest.mark.pg16
def test_another_cluster_behind_the_address_is_refused(site, v2, proxy, servers):
    try:
        other = servers.get(18)
    except UnavailableError as error:
        pytest.skip(str(error))
    with psycopg.connect(other.conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {site.database.name}")
    try:
        dsn = other.dsn(site.database.name)
        add_vector(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            install(connection)
        parts = conninfo_to_dict(dsn)
        site.server.on_request = lambda _: move(proxy, parts["host"], int(parts["port"]))
        with pytest.raises(ConflictError, match="the server is another cluster now") as failure:
            run(proxy, follow=True)
        assert failure.value.next_step == "check where --dsn leads, and start the worker again"
    finally:
        with psycopg.connect(other.conninfo, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {site.database.name} WITH (FORCE)")


def move(proxy, host, port):
    proxy.target = (host, port)
    proxy.cut()

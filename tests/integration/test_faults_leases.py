"""Leases that run out while their worker lives, and clocks that step."""

import random
import threading
import time

import pytest
from backfilling import Background, wait_until

from pgvmig.backfill import companion

ROWS = 200
BATCH = 16


@pytest.fixture
def v2(site, one_by_one):
    """One request at a time, so that it is known what is asked for twice."""
    site.documents(ROWS)
    return site.version()


@pytest.fixture
def nobody_renews(monkeypatch):
    """A process that gets no time to look after its leases."""
    monkeypatch.setattr(companion.Companion, "_renew", lambda self: None)


@pytest.mark.layouts
@pytest.mark.parametrize("stale", [False, True], ids=["walk", "log"])
def test_a_worker_takes_nothing_from_itself(site, v2, nobody_renews, stale):
    if stale:
        site.run()
        site.execute("UPDATE documents SET body = 'changed ' || id")
        site.server.requests.clear()
    slow(site, 1.3)
    assert site.run(lease=1.0, batch_size=BATCH).why == "done"
    assert site.repeated() == 0
    assert site.problems(v2) == []


def slow(site, seconds):
    """Let the first request take longer than a lease."""
    waited = []

    def wait(_):
        if not waited:
            waited.append(time.sleep(seconds))

    site.server.on_request = wait


@pytest.mark.layouts
@pytest.mark.parametrize("stale", [False, True], ids=["walk", "log"])
def test_a_second_worker_has_taken_over(site, v2, nobody_renews, stale):
    """The first one's answers come when the second has written the same rows, or is about to."""
    if stale:
        site.run()
        site.execute("UPDATE documents SET body = 'changed ' || id")
        site.server.requests.clear()
    second = threading.Event()
    arrived = threading.Event()

    def hold(_):
        if not arrived.is_set():
            arrived.set()
            second.wait(30)

    site.server.on_request = hold
    with Background(lambda: site.run(lease=1.0, batch_size=BATCH)) as slow:
        arrived.wait(30)
        site.execute("UPDATE documents SET body = 'meanwhile ' || id WHERE id % 40 = 0")
        wait_until(lambda: site.value("SELECT bool_and(until < clock_timestamp()) FROM pgvmig.lease"))
        assert site.run(lease=1.0, batch_size=BATCH).why == "done"
        second.set()
        assert slow.join().why == "done"
    assert site.run().why == "done"
    assert site.problems(v2) == []
    assert site.repeated() <= BATCH
    assert site.value("SELECT count(*) FROM documents_v2") == ROWS


def test_the_workers_wall_clock_does_not_count(site, v2, monkeypatch):
    """Leases, the horizon of a run and its statistics are told by the database's clock, waits by a monotonic one."""
    generator = random.Random(1)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + generator.choice([-86_400, 0, 86_400]))
    with Background(lambda: site.run(lease=1.0)) as one, Background(lambda: site.run(lease=1.0)) as other:
        assert {one.join().why, other.join().why} == {"done"}
    assert site.repeated() == 0
    assert site.problems(v2) == []
    assert site.value("SELECT bool_and(ended_at BETWEEN started_at AND clock_timestamp()) FROM pgvmig.backfill_run")

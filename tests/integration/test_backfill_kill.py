"""Worker processes that are killed: nothing finished is lost or repeated, and the next worker ends the work."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from backfilling import wait_until

from pgvmig.backfill import faults

pytestmark = pytest.mark.kill

ROWS = 400
BATCH = 32
LEASE = 1.0


@pytest.fixture
def v2(site, one_by_one):
    """One request at a time, so that it is known what a killed worker had paid for."""
    site.documents(ROWS)
    return site.version()


@contextmanager
def worker(site, *options, kill_at=None):
    """A worker as cron starts it; it does not outlive the block."""
    command = [sys.executable, "-m", "pgvmig", "backfill", "documents", "v2"]
    command += ["--dsn", site.database.dsn, "--lease", f"{LEASE:g}s", "--batch-size", str(BATCH), *options]
    environment = os.environ | ({faults.VARIABLE: kill_at} if kill_at else {})
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(site, v2):
    """Let another worker end the work, and say how many texts were embedded more than once."""
    assert site.run(lease=LEASE, batch_size=BATCH).why == "done"
    assert site.problems(v2) == []
    assert site.state(v2) == "ready"
    assert len(set(site.texts())) == site.value("SELECT count(*) FROM documents")
    return site.repeated()


# In the one layout at the first time, in the other at a later one: a process takes longer to start than to work.
@pytest.mark.parametrize(
    ("layout", "point", "repeated"),
    [
        ("column", "after-claim", 0),
        ("table", "after-claim:2", 0),
        ("table", "during-request", BATCH),
        ("column", "during-request:4", BATCH),
        ("column", "before-commit", BATCH),
        ("table", "before-commit:3", BATCH),
        ("table", "after-commit", 0),
        ("column", "after-commit:5", 0),
    ],
)
def test_killed_at(site, v2, point, repeated):
    site.server.latency = 0.15 if point.startswith("during") else 0.0
    with worker(site, kill_at=point) as process:
        assert process.wait(60) == -signal.SIGKILL
    site.server.latency = 0.0
    assert finish(site, v2) <= repeated


@pytest.mark.layouts
@pytest.mark.parametrize("point", ["after-claim", "during-request", "before-commit", "after-commit"])
def test_killed_with_stale_rows(site, v2, point):
    site.run()
    site.server.requests.clear()
    site.execute("UPDATE documents SET body = 'changed ' || id")
    site.server.latency = 0.15 if point.startswith("during") else 0.0
    with worker(site, kill_at=f"{point}:2") as process:
        assert process.wait(60) == -signal.SIGKILL
    site.server.latency = 0.0
    assert finish(site, v2) <= BATCH


@pytest.mark.layouts
def test_killed_at_random_moments_with_an_application_at_work(site, v2):
    generator = random.Random(7)
    kills = 3
    site.server.latency = 0.02
    for number in range(kills):
        before = len(site.server.requests)
        with worker(site) as process:
            wait_until(lambda before=before: len(site.server.requests) > before)
            site.execute("UPDATE documents SET body = %s || id WHERE id %% 50 = %s", f"round {number} ", number)
            site.execute("INSERT INTO documents (body) VALUES (%s)", f"new in round {number}")
            time.sleep(generator.random() * 0.3)
            process.send_signal(signal.SIGKILL)
    assert site.run(lease=LEASE, batch_size=BATCH).why == "done"
    assert site.problems(v2) == []
    assert site.repeated() <= kills * BATCH


def test_killed_beside_another_worker(site, v2):
    site.server.latency = 0.1
    with worker(site) as survivor:
        with worker(site) as victim:
            wait_until(lambda: len(site.server.requests) > 4)
            victim.send_signal(signal.SIGKILL)
        site.server.latency = 0.0
        assert survivor.wait(60) == 0
    assert site.problems(v2) == []
    assert site.repeated() <= BATCH


def test_sigterm_ends_it_while_the_provider_is_slow(site, v2):
    site.server.latency = 60.0
    with worker(site) as process:
        wait_until(lambda: site.server.requests)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 3
    assert time.monotonic() - began < 20
    assert site.value("SELECT count(*) FROM pgvmig.lease WHERE until > clock_timestamp()") == 0
    assert site.value("SELECT ended_why FROM pgvmig.backfill_run") == "signal"

"""A standby that replays slowly: a paced run keeps it near, an unpaced one leaves it behind.

The lag is sampled by us: how long ago the primary wrote what the standby replays now, asked of both directly.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import psycopg

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target
from bench.provider import Provider
from bench.stage import Stage
from bench.tables import Documents
from pgvmig import embedded
from pgvmig.catalog import standbys
from pgvmig.embedded import Server
from pgvmig.pacing.limits import DEFAULTS

_NAME = "slow"
# The standby's startup process runs for the first and is stopped for the second, in seconds.
_RUNS, _STANDS = 0.005, 0.245
_INTERVAL = 0.05


@dataclass
class Lag:
    """Seconds that the standby was behind, sample by sample."""

    samples: list[float] = field(default_factory=lambda: [0.0])

    @property
    def peak(self) -> float:
        """The worst."""
        return max(self.samples)


def run(stage: Stage) -> list[Figure]:
    """Write with default limits, and with none, to a primary whose standby is slow."""
    documents = Documents(stage.pick(60_000, 500), characters=400, dimensions=0)
    limit = DEFAULTS.max_lag.total_seconds()
    paced, unpaced = list[float](), list[float]()
    with provider.spawned(384) as served, embedded.standby(stage.server, _NAME) as standby:
        for number in stage.rounds:
            paced.append(_peak(stage, documents, served, standby, declared=True) / limit)
            unpaced.append(_peak(stage, documents, served, standby, declared=False) / limit)
            stage.say(f"round {number + 1}: peak {paced[-1]:.2f} of the limit paced, {unpaced[-1]:.2f} unpaced")
    return [
        Figure(f"peak lag over the limit of {limit:g} s, paced", TIMES, tuple(paced), Target(at_most=2)),
        Figure("the same, unpaced", TIMES, tuple(unpaced), Target(at_least=5)),
    ]


def _peak(stage: Stage, documents: Documents, served: Provider, standby: Server, *, declared: bool) -> float:
    """Return the worst lag of a run, in seconds."""
    seconds = stage.pick(20, 3)
    with stage.database(documents) as dsn:
        worker.prepare(dsn, adopted=0)
        if declared:
            with psycopg.connect(dsn, autocommit=True) as conn:
                standbys.add(conn, _NAME)
        _wait_for_replay(dsn, standby)
        with _slowed(standby), _sampled(dsn, standby) as lag:
            with worker.started(dsn, served, "--max-time", f"{seconds}s") as started:
                started.wait()
            time.sleep(_INTERVAL)
    return lag.peak


@contextmanager
def _slowed(standby: Server) -> Iterator[None]:
    """Stop the standby's startup process most of the time, by its process id."""
    (startup,) = (child for child in psutil.Process(standby.pid).children() if "startup" in " ".join(child.cmdline()))
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.is_set():
            os.kill(startup.pid, signal.SIGSTOP)
            over.wait(_STANDS)
            os.kill(startup.pid, signal.SIGCONT)
            over.wait(_RUNS)

    thread = threading.Thread(target=stop_and_go, name="slow-standby")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _sampled(dsn: str, standby: Server) -> Iterator[Lag]:
    """Sample the lag until the block ends."""
    lag, over = Lag(), threading.Event()

    def sample() -> None:
        written: deque[tuple[float, int]] = deque()
        with (
            psycopg.connect(dsn, autocommit=True) as primary,
            psycopg.connect(standby.dsn(), autocommit=True) as replica,
        ):
            while not over.wait(_INTERVAL):
                now = time.monotonic()
                written.append((now, _lsn(primary, "pg_current_wal_lsn()")))
                replayed = _lsn(replica, "pg_last_wal_replay_lsn()")
                while written and written[0][1] <= replayed:
                    written.popleft()
                lag.samples.append(now - written[0][0] if written else 0.0)

    thread = threading.Thread(target=sample, name="lag")
    thread.start()
    try:
        yield lag
    finally:
        over.set()
        thread.join()


def _wait_for_replay(dsn: str, standby: Server) -> None:
    """Wait until the standby has all that was written to make the table."""
    with psycopg.connect(dsn, autocommit=True) as primary, psycopg.connect(standby.dsn(), autocommit=True) as replica:
        target = _lsn(primary, "pg_current_wal_lsn()")
        while _lsn(replica, "pg_last_wal_replay_lsn()") < target:
            time.sleep(_INTERVAL)


def _lsn(conn: psycopg.Connection[tuple[object, ...]], function: str) -> int:
    (position,) = conn.execute(f"SELECT ({function} - '0/0')::bigint").fetchone() or (0,)
    return int(str(position))


MEASUREMENT = Measurement("lag", "peak lag of a standby that replays slowly", run)

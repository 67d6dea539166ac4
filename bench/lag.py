"""A standby that replays less than an unpaced run writes: a paced run keeps it near, an unpaced one leaves it behind.

The lag is sampled by us: how long ago the primary wrote what the standby replays now, asked of both directly. While a
standby works a backlog off, that age goes on growing although nobody writes any more: a run that stopped at the limit
would peak at the limit over the standby's share, 2.5 times it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

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
# What the standby replays of what an unpaced run writes.
_SHARE = 0.4
# How long an allowance to replay may be saved up, and how often it is looked at, in seconds.
_SAVED, _LOOK = 0.25, 0.01
_INTERVAL = 0.05


def run(stage: Stage) -> list[Figure]:
    """Write with default limits, and with none, to a primary whose standby is slow."""
    documents = Documents(stage.pick(300_000, 2_000), texts="hashed", dimensions=0)
    limit = DEFAULTS.max_lag.total_seconds()
    paced, unpaced = list[float](), list[float]()
    with provider.spawned(384) as served, embedded.standby(stage.server, _NAME) as standby:
        speed = _SHARE * _bytes_per_second(stage, documents, served)
        stage.say(f"the standby replays {speed / 2**20:.1f} MiB/s")
        for number in stage.rounds:
            paced.append(_peak(stage, documents, served, standby, speed, ()) / limit)
            unpaced.append(_peak(stage, documents, served, standby, speed, worker.UNPACED) / limit)
            stage.say(f"round {number + 1}: peak {paced[-1]:.2f} of the limit paced, {unpaced[-1]:.2f} unpaced")
    return [
        Figure("what the standby replays in a second", "MiB", (speed / 2**20,)),
        Figure(f"peak lag over the limit of {limit:g} s, paced", TIMES, tuple(paced), Target(at_most=2)),
        Figure("the same, unpaced", TIMES, tuple(unpaced), Target(at_least=5)),
    ]


def _bytes_per_second(stage: Stage, documents: Documents, served: Provider) -> float:
    """Return how much WAL an unpaced run writes."""
    with stage.database(documents) as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        worker.prepare(dsn, adopted=0)
        standbys.add(conn, _NAME)
        served.counts(reset=True)
        before = _lsn(conn, "pg_current_wal_lsn()")
        with worker.started(dsn, served, "--max-time", f"{stage.pick(8, 2)}s", *worker.UNPACED) as started:
            started.wait()
        counts = served.counts()
        return float((_lsn(conn, "pg_current_wal_lsn()") - before) / (counts["last"] - counts["first"]))


def _peak(  # noqa: PLR0917
    stage: Stage, documents: Documents, served: Provider, standby: Server, speed: float, arguments: Sequence[str]
) -> float:
    """Return the worst lag of a run, in seconds."""
    with stage.database(documents) as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        worker.prepare(dsn, adopted=0)
        standbys.add(conn, _NAME)
        _wait_for_replay(conn, standby)
        with _slowed(standby, speed), _sampled(dsn, standby) as lags:
            with worker.started(dsn, served, "--max-time", f"{stage.pick(25, 2)}s", *arguments) as started:
                started.wait()
            time.sleep(2 * _INTERVAL)
    return max(lags)


@contextmanager
def _slowed(standby: Server, speed: float) -> Iterator[None]:
    """Let the standby replay so many bytes a second: its startup process is stopped, by its id, while it is ahead."""
    startup = _startup(standby)

    def replay(over: threading.Event) -> None:
        with psycopg.connect(standby.dsn(), autocommit=True) as conn:
            last, before = _lsn(conn, "pg_last_wal_replay_lsn()"), time.monotonic()
            allowance = 0.0
            while not over.wait(_LOOK):
                now, replayed = time.monotonic(), _lsn(conn, "pg_last_wal_replay_lsn()")
                earned = speed * (now - before)
                allowance = min(allowance + earned, speed * _SAVED) - (replayed - last)
                last, before = replayed, now
                os.kill(startup, signal.SIGCONT if allowance > 0 else signal.SIGSTOP)

    try:
        with _beside(replay):
            yield
    finally:
        os.kill(startup, signal.SIGCONT)


def _startup(standby: Server) -> int:
    for child in psutil.Process(standby.pid).children():
        # a backend that has just ended has no command line any more
        with suppress(psutil.NoSuchProcess):
            if "startup" in " ".join(child.cmdline()):
                return int(child.pid)
    raise RuntimeError(f"the standby of process {standby.pid} has no startup process")


@contextmanager
def _sampled(dsn: str, standby: Server) -> Iterator[list[float]]:
    """Sample the lag until the block ends, in seconds."""
    lags = [0.0]

    def sample(over: threading.Event) -> None:
        written: deque[tuple[float, int]] = deque()
        replica = psycopg.connect(standby.dsn(), autocommit=True)
        with replica, psycopg.connect(dsn, autocommit=True) as primary:
            while not over.wait(_INTERVAL):
                now = time.monotonic()
                written.append((now, _lsn(primary, "pg_current_wal_lsn()")))
                replayed = _lsn(replica, "pg_last_wal_replay_lsn()")
                while written and written[0][1] <= replayed:
                    written.popleft()
                lags.append(now - written[0][0] if written else 0.0)

    with _beside(sample):
        yield lags


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do something in a thread while the block runs; it is told when that is over."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), name="bench-lag")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _wait_for_replay(primary: psycopg.Connection[tuple[object, ...]], standby: Server) -> None:
    """Wait until the standby has all that was written to make the table."""
    target = _lsn(primary, "pg_current_wal_lsn()")
    with psycopg.connect(standby.dsn(), autocommit=True) as replica:
        while _lsn(replica, "pg_last_wal_replay_lsn()") < target:
            time.sleep(_INTERVAL)


def _lsn(conn: psycopg.Connection[tuple[object, ...]], function: str) -> int:
    (position,) = conn.execute(f"SELECT ({function} - '0/0')::bigint").fetchone() or (0,)
    return int(str(position))


MEASUREMENT = Measurement("lag", "peak lag of a standby that replays slowly", run)

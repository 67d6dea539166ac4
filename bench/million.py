"""A million rows: the last tenth is as fast as the first, and the worker's memory does not grow with the table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import psycopg

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target
from bench.provider import Provider
from bench.stage import Stage
from bench.tables import Documents
from bench.worker import Worker

# Short texts and few dimensions: what is looked for grows with the number of rows, not with their size.
_DIMENSIONS = 16
_BATCH = 512
_INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a run was at a moment, and the worker's resident memory in MiB."""

    at: float
    rows: int
    memory: float


def run(stage: Stage) -> list[Figure]:
    """Embed the table once: a run of this length is its own repetition, sampled twice a second."""
    documents = Documents(stage.pick(stage.rows, 3_000), "hashed", dimensions=0)
    with provider.spawned(_DIMENSIONS) as served, stage.database(documents) as dsn:
        worker.prepare(dsn, dimensions=_DIMENSIONS, layout="table", adopted=0)
        samples = _watched(stage, dsn, served, documents.rows)
    first, last = _tenth(samples, documents.rows, 0), _tenth(samples, documents.rows, 9)
    speeds = _speed(first), _speed(last)
    memory = [statistics.median(sample.memory for sample in part) for part in (first, last)]
    named = f"{documents.rows:,} rows of 64 characters, {_DIMENSIONS}-d, table layout"
    return [
        Figure(f"{named}: first tenth", "rows/s", (speeds[0],)),
        Figure("last tenth", "rows/s", (speeds[1],)),
        Figure("last tenth over first", TIMES, (speeds[1] / speeds[0],), Target(at_least=0.8)),
        Figure("worker's memory in the first tenth", "MiB", (memory[0],)),
        Figure(
            "growth of its memory until the last tenth", "%", (100 * (memory[1] / memory[0] - 1),), Target(at_most=10)
        ),
    ]


def _watched(stage: Stage, dsn: str, served: Provider, rows: int) -> list[Sample]:
    """Run a worker to its end and return where it was all the time, beginning with its first batch."""
    settings = {"batch_size": _BATCH, "concurrency": 4}
    samples: list[Sample] = []
    with worker.started(dsn, served, settings=settings) as started, psycopg.connect(dsn, autocommit=True) as conn:
        while started.process.poll() is None:
            sample = _sample(conn, started)
            if sample is not None and sample.rows and sample.rows != (samples[-1].rows if samples else 0):
                samples.append(sample)
            if len(samples) % 20 == 1:
                stage.say(f"{samples[-1].rows:,} of {rows:,} rows")
            time.sleep(_INTERVAL if not stage.quick else 0.02)
        started.wait()
    return samples


def _sample(conn: psycopg.Connection[tuple[int]], started: Worker) -> Sample | None:
    (rows,) = conn.execute("SELECT coalesce(sum(rows_written), 0)::bigint FROM pgvmig.backfill_run").fetchone() or (0,)
    try:
        memory = psutil.Process(started.process.pid).memory_info().rss
    except psutil.NoSuchProcess:
        return None
    return Sample(time.monotonic(), int(rows), memory / 2**20)


def _tenth(samples: Sequence[Sample], rows: int, number: int) -> list[Sample]:
    """Return the samples of a tenth of the work, with at least one before and after its middle."""
    low, high = rows * number / 10, rows * (number + 1) / 10
    inside = [sample for sample in samples if low <= sample.rows <= high]
    return inside if len(inside) > 1 else list(samples)


def _speed(samples: Sequence[Sample]) -> float:
    return (samples[-1].rows - samples[0].rows) / (samples[-1].at - samples[0].at)


MEASUREMENT = Measurement("million", "a million rows: is the last tenth as fast as the first", run)

"""What the application feels: p95 of a rate-limited mix of reads, searches and writes, with and without a backfill.

pgbench starts transactions by a schedule (--rate) and counts the time from when each was due, so that a stall is not
hidden by the clients that wait for it.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.provider import Provider
from bench.stage import Stage
from bench.tables import Documents

# A provider is never nearer than this.
_LATENCY = 0.05
_CLIENTS, _RATE = 4, 150
_ID = "\\set id random(1, :rows)\n"
# Name, weight, statement: lookups, searches through the old index, updates of another column and of the text.
_MIX = (
    ("read", 70, "SELECT title, body FROM documents WHERE id = :id;"),
    (
        "search",
        10,
        "SELECT id FROM documents ORDER BY embedding <=> (SELECT embedding FROM documents WHERE id = :id) LIMIT 10;",
    ),
    ("write", 15, "UPDATE documents SET title = 'Document ' || :id WHERE id = :id;"),
    ("edit", 5, "UPDATE documents SET body = left(body, -1) || '!' WHERE id = :id;"),
)


@dataclass(frozen=True, slots=True)
class Served:
    """A transaction of the application: when it ended, and how long after it was due, in ms."""

    ended: float
    took: float


def run(stage: Stage) -> list[Figure]:
    """Measure the mix alone, with a worker at its default limits, and with one that has none."""
    documents = Documents(stage.pick(50_000, 500), texts="realistic")
    alone, paced, unpaced = list[float](), list[float](), list[float]()
    with provider.spawned(384, _LATENCY) as served:
        for number in stage.rounds:
            alone.append(_p95(stage, documents))
            paced.append(_p95(stage, documents, served, ()))
            unpaced.append(_p95(stage, documents, served, worker.UNPACED))
            stage.say(f"round {number + 1}: p95 {alone[-1]:.1f} ms, {paced[-1]:.1f} paced, {unpaced[-1]:.1f} unpaced")
    return [
        Figure("p95 without a backfill", "ms", tuple(alone)),
        Figure("with one, default limits", "ms", tuple(paced)),
        Figure("with one, no limits", "ms", tuple(unpaced)),
        Figure("default limits over none running", TIMES, ratios(paced, alone), Target(at_most=1.3)),
        Figure("no limits over none running", TIMES, ratios(unpaced, alone)),
    ]


def _p95(stage: Stage, documents: Documents, served: Provider | None = None, arguments: Sequence[str] = ()) -> float:
    """Return the 95th percentile of what ended while the backfill ran."""
    seconds = stage.pick(15, 2)
    with stage.database(documents) as dsn:
        worker.prepare(dsn)
        with _application(stage, dsn, documents.rows, seconds) as log:
            began = time.time()
            if served is not None:
                with worker.started(dsn, served, "--max-time", f"{seconds}s", *arguments) as started:
                    started.wait()
            else:
                time.sleep(seconds)
            over = time.time()
    took = [transaction.took for transaction in log if began + 0.5 <= transaction.ended <= over]
    return statistics.quantiles(took or [t.took for t in log], n=20)[-1]


@contextmanager
def _application(stage: Stage, dsn: str, rows: int, seconds: int) -> Iterator[list[Served]]:
    """Run pgbench in the block, for a little longer than that; the list is filled when it has ended."""
    served: list[Served] = []
    with tempfile.TemporaryDirectory(prefix="pgvmig-bench-") as folder:
        scripts = []
        for name, weight, statement in _MIX:
            (Path(folder) / f"{name}.sql").write_text(_ID + statement + "\n", encoding="utf-8")
            scripts += ["--file", f"{folder}/{name}.sql@{weight}"]
        command = [stage.server.bin("pgbench"), "--no-vacuum", "--log", f"--log-prefix={folder}/log"]
        command += [f"--client={_CLIENTS}", f"--rate={_RATE}", f"--time={seconds + 2}", f"--define=rows={rows}"]
        with subprocess.Popen(
            [*command, "--random-seed=1", "--protocol=prepared", *scripts, dsn],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        ) as process:
            try:
                time.sleep(1)
                yield served
                if process.wait():
                    raise AssertionError(f"pgbench ended with {process.returncode}")
            finally:
                process.kill()
        served += _read(Path(folder))


def _read(folder: Path) -> Iterator[Served]:
    """Read pgbench's log: client, number, µs, script, epoch, µs of it, lag."""
    for file in folder.glob("log*"):
        for line in file.read_text(encoding="utf-8").splitlines():
            _, _, took, _, epoch, fraction, *_ = line.split()
            yield Served(int(epoch) + int(fraction) / 1e6, int(took) / 1e3)


MEASUREMENT = Measurement("foreground", "the application's p95 while a backfill runs", run)

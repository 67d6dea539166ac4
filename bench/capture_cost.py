"""What following a table costs the application: pgbench's single-row updates with and without the capture triggers.

Updates that change the text leave an entry in the stale log; the others only find out that they did not.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from bench import worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.stage import Stage
from bench.tables import Documents

_ROWS = 20_000
_DIMENSIONS = 8
# A disk's flushes differ from one second to the next by as much as is looked for: more rounds, each in another order.
_ROUNDS = 9
_UPDATES = {
    "text": "UPDATE documents SET body = repeat(md5(random()::text) || ' ', 24) WHERE id = :id;",
    "other": "UPDATE documents SET clicks = clicks + 1 WHERE id = :id;",
}
# What worker.prepare() is told; None: nothing is installed.
_FOLLOWED: dict[str, dict[str, Any] | None] = {
    "not followed": None,
    "v2": {"adopted": 0},
    "v2 as a table": {"adopted": 0, "layout": "table"},
    "adopted v1 and v2": {"adopted": _DIMENSIONS},
}
_LEAST = {"text": Target(at_least=0.75), "other": Target(at_least=0.9)}


def run(stage: Stage) -> list[Figure]:
    """Update with one client and with several, all ways by turns; the share of the throughput that is left."""
    samples: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    rows, seconds, many = stage.pick(_ROWS, 500), stage.pick(2, 1), (1,) if stage.quick else (1, 4)
    with ExitStack() as stack:
        databases = {name: stack.enter_context(_database(stage, rows, follow)) for name, follow in _FOLLOWED.items()}
        order = deque(databases.items())
        for number in range(stage.pick(_ROUNDS, 1)):
            for clients in many:
                for kind, update in _UPDATES.items():
                    for name, dsn in order:
                        script = f"\\set id random(1, {rows})\n{update}\n"
                        rate = _pgbench(
                            [stage.server.bin("pgbench"), "-c", str(clients), "-T", str(seconds), dsn], script
                        )
                        samples[clients, kind, name].append(rate)
            order.rotate()
            stage.say(f"round {number + 1} is over")
    return [figure for clients in many for kind in _UPDATES for figure in _figures(samples, clients, kind)]


def _figures(samples: dict[tuple[int, str, str], list[float]], clients: int, kind: str) -> list[Figure]:
    what = f"{kind} updates, {clients} client{'s' * (clients > 1)}"
    bare = samples[clients, kind, "not followed"]
    left = [
        Figure(f"{what}: {name} over not followed", TIMES, ratios(samples[clients, kind, name], bare), _LEAST[kind])
        for name in _FOLLOWED
        if name != "not followed"
    ]
    return [Figure(f"{what}, not followed", "updates/s", tuple(bare)), *left]


@contextmanager
def _database(stage: Stage, rows: int, follow: dict[str, Any] | None) -> Iterator[str]:
    # half-full pages: every update stays on its page, in all databases, however many went before
    documents = Documents(rows, dimensions=_DIMENSIONS, fillfactor=50)
    with stage.database(documents) as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("DROP INDEX documents_embedding")
            conn.execute("ALTER TABLE documents ADD clicks bigint NOT NULL DEFAULT 0")
            if follow is not None and not follow["adopted"]:
                conn.execute("ALTER TABLE documents RENAME embedding TO vectors")
        if follow is not None:
            worker.prepare(dsn, **follow)
        yield dsn


def _pgbench(command: list[str], script: str) -> float:
    """Return the updates per second."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        program, *arguments, dsn = command
        whole = [program, "-n", "-M", "prepared", *arguments, "-f", file.name, dsn]
        done = subprocess.run(whole, capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if found is None:
        raise RuntimeError(done.stdout + done.stderr)
    return float(found[1])


MEASUREMENT = Measurement("capture-cost", "single-row updates of a table that is followed", run)

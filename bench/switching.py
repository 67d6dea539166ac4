"""What a service feels of a switch: eight clients and pgbench on the primary, as many on a standby.

Both versions have 384 dimensions and the second's vectors are the first's turned around: a search that is ranked in the
wrong space finds the farthest rows without any error, and the vectors that it shows give it away.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench import readers, worker
from bench.figures import Figure, Measurement, Target
from bench.readers import Seen
from bench.stage import Stage
from bench.tables import Documents
from pgvmig import embedded, indexing, switch
from pgvmig.address import address
from pgvmig.catalog import standbys
from pgvmig.checks import gates
from pgvmig.embedded import Server
from pgvmig.errors import SignalError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

_NAME = "switching"
_CLIENTS, _RATE = 2, 100
# pgbench writes its log some seconds late, and what is not written when it is ended is lost.
_BUFFERED = 2.0
_V2 = address("documents", "v2")
_TURN = """
UPDATE documents AS d SET embedding_v2 = d.embedding * array_fill(-1::real, ARRAY[384])::vector,
    embedding_v2_version_id = v.version_id, embedding_v2_embedded_at = now(),
    embedding_v2_source_hash = pgvmig.source_hash(pgvmig.documents_v2_input(d.*))
FROM pgvmig.version AS v WHERE v.version = 'v2'
"""
_SCRIPTS = {
    "primary": "SELECT id, embedding FROM documents_current WHERE id = :id;\n"
    "UPDATE documents SET title = 'Document ' || :id WHERE id = :id;\n",
    "standby": "SELECT id, embedding FROM documents_current WHERE id = :id;\n",
}


@dataclass
class Side:
    """One server in one round: what its clients saw; when its pgbench's transactions ended, and how long they took."""

    seen: Seen = field(default_factory=Seen)
    transactions: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0

    @property
    def errors(self) -> int:
        """Errors of any client."""
        return len(self.seen.errors) + self.seen.unanswered + self.failed

    def longest(self, began: float, ended: float) -> float:
        """Return the longest query that ran between the two, in ms."""
        took = [seconds for start, seconds in self.seen.searches if start < ended and start + seconds > began]
        took += [seconds for end, seconds in self.transactions if end > began and end - seconds < ended]
        return max(took, default=0.0) * 1000


@dataclass
class Round:
    """One round: both servers, the two stretches of time, and how long each switch took, in ms."""

    sides: dict[str, Side]
    calm: tuple[float, float] = (0.0, 0.0)
    stormy: tuple[float, float] = (0.0, 0.0)
    switches: list[float] = field(default_factory=list)
    postponed: int = 0

    def pause(self, side: str) -> float:
        """Return how much longer the longest query took while there were switches, in ms."""
        return max(self.sides[side].longest(*self.stormy) - self.sides[side].longest(*self.calm), 0.0)


def run(stage: Stage) -> list[Figure]:
    """Measure some calm seconds, then 30 switches there and 30 back."""
    documents = Documents(stage.pick(5_000, 300), texts="uniform", characters=200)
    rounds = []
    with embedded.standby(stage.server, _NAME) as standby:
        for number in stage.rounds:
            with stage.database(documents) as dsn:
                rounds.append(_round(stage, documents, dsn, standby))
            last = rounds[-1]
            stage.say(
                f"round {number + 1}: {len(last.switches)} switches, pause {last.pause('primary'):.0f} ms, "
                f"{last.pause('standby'):.0f} on the standby; {last.postponed} postponed"
            )
    sides = [side for measured in rounds for side in measured.sides.values()]
    for error in dict.fromkeys(error for side in sides for error in side.seen.errors):
        stage.say(error)
    pause = "longest query beyond the longest without a switch"
    return [
        Figure("searches under switches", "", (float(sum(len(side.seen.searches) for side in sides)),)),
        Figure("errors", "", (float(sum(side.errors for side in sides)),), Target(at_most=0)),
        Figure("ranked in the wrong space", "", (float(sum(side.seen.wrong for side in sides)),), Target(at_most=0)),
        Figure(pause, "ms", tuple(r.pause("primary") for r in rounds), Target(at_most=250)),
        Figure("the same on the standby", "ms", tuple(r.pause("standby") for r in rounds), Target(at_most=250)),
        Figure("a switch, gates included", "ms", tuple(statistics.median(r.switches) for r in rounds)),
    ]


def _round(stage: Stage, documents: Documents, dsn: str, standby: Server) -> Round:
    seconds, there_and_back = stage.pick(10, 1), stage.pick(30, 2)
    replica = standby.dsn(str(conninfo_to_dict(dsn)["dbname"]))
    found = Round({"primary": Side(), "standby": Side()})
    terms = _prepare(dsn, replica)
    with ExitStack() as stack:
        conn = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        for name, where in (("primary", dsn), ("standby", replica)):
            side = found.sides[name]
            stack.enter_context(_transactions(stage, side, where, _SCRIPTS[name], documents.rows))
            side.seen = stack.enter_context(readers.reading(where, stage.pick(8, 2)))
        time.sleep(1)
        began = time.monotonic()
        time.sleep(seconds)
        found.calm = (began, time.monotonic())
        for _ in range(there_and_back):
            for verb in ("cut_over", "roll_back"):
                time.sleep(0.15)
                _switch(ConnectionRunner(conn, "cli"), verb, terms, dsn, found)
        found.stormy = (found.calm[1], time.monotonic())
        time.sleep(_BUFFERED)
    return found


def _switch(run: ConnectionRunner, verb: str, terms: Terms, dsn: str, found: Round) -> None:
    """Switch as the command line does; a standby that is behind at the moment is waited for."""
    while True:
        began = time.monotonic()
        try:
            outcome = getattr(switch, verb)(run, _V2, terms, beside=dsn)
        except SignalError:
            found.postponed += 1
            time.sleep(0.1)
            continue
        found.switches.append((time.monotonic() - began) * 1000)
        if not outcome["changed"]:
            raise AssertionError(outcome)
        return


def _prepare(dsn: str, replica: str) -> Terms:
    """Adopt v1, add v2 with its vectors and index; return terms that skip the gates that ask for a provider."""
    worker.prepare(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        standbys.add(conn, _NAME, replica)
        conn.execute(_TURN)
        conn.execute("DELETE FROM pgvmig.stale_row")
        conn.execute("VACUUM ANALYZE documents")
        run = ConnectionRunner(conn)
        indexing.build(run, _V2)
        conn.execute(
            "SELECT pgvmig.cut_over('documents', 'v2', skip => %s, reason => 'a measurement')", [_failing(conn, "v2")]
        )
        conn.execute(
            "SELECT pgvmig.roll_back('documents', skip => %s, reason => 'a measurement')", [_failing(conn, "v1")]
        )
        skip = sorted({*_failing(conn, "v1"), *_failing(conn, "v2")})
        target = conn.execute("SELECT pg_current_wal_lsn()").fetchone()
    with psycopg.connect(replica, autocommit=True) as conn:
        while conn.execute("SELECT pg_last_wal_replay_lsn() < %s", target).fetchone() == (True,):
            time.sleep(0.05)
    return Terms(skip=skip, reason="a measurement")


def _failing(conn: psycopg.Connection[tuple[object, ...]], version: str) -> list[str]:
    (number,) = conn.execute("SELECT version_id FROM pgvmig.version WHERE version = %s", [version]).fetchone() or (0,)
    found = gates.check(ConnectionRunner(conn), int(str(number)))
    return [gate.gate for gate in found if not gate.passed]


@contextmanager
def _transactions(stage: Stage, side: Side, dsn: str, script: str, rows: int) -> Iterator[None]:
    """Run pgbench while the block runs."""
    with tempfile.TemporaryDirectory(prefix="pgvmig-bench-") as folder:
        path = Path(folder) / "script.sql"
        path.write_text(f"\\set id random(1, :rows)\n{script}", encoding="utf-8")
        command = [stage.server.bin("pgbench"), "--no-vacuum", "--log", f"--log-prefix={folder}/log"]
        command += [f"--client={_CLIENTS}", f"--rate={_RATE}", "--time=600", f"--define=rows={rows}"]
        command += ["--random-seed=1", "--protocol=prepared", f"--file={path}", dsn]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder
        ) as process:
            try:
                yield
            finally:
                ended = process.poll()
                process.kill()
                _, said = process.communicate()
        side.failed += (ended is not None) + len(re.findall(r"aborted|ERROR", said or ""))
        side.transactions += _logged(Path(folder))


def _logged(folder: Path) -> Iterator[tuple[float, float]]:
    """Read pgbench's log: when transactions ended (monotonic clock), and their seconds without the schedule's lag."""
    offset = time.monotonic() - time.time()
    for file in folder.glob("log*"):
        lines = file.read_text(encoding="utf-8").split("\n")
        for line in lines[:-1]:  # the last one was cut off when pgbench was ended
            _, _, took, _, epoch, fraction, lag = line.split()
            yield int(epoch) + int(fraction) / 1e6 + offset, (int(took) - int(lag)) / 1e6


MEASUREMENT = Measurement("switching", "what clients with prepared statements feel of 60 switches", run)

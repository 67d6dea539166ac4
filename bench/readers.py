"""A service under a switch: threads that search the current view with prepared statements and never look away.

`python -m bench.readers CONNINFO THREADS` searches until a line comes in on its standard input, then prints what each
search saw, as JSON. A process of its own: what is measured must not wait for whoever switches.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

_THINKS = 0.02
# So much of a vector's text tells whose it is.
_MARK = 60
_SPACE = "SELECT version FROM pgvmig.active_space('documents')"
_SEARCH = """
SELECT id, embedding FROM documents_current
WHERE embedding_space = %s ORDER BY embedding <=> %s::vector LIMIT 10
"""
_OWN = "SELECT id, embedding FROM documents_{} ORDER BY id"


@dataclass
class Seen:
    """What the threads saw: `searches` are (began, seconds) by the machine's monotonic clock."""

    searches: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    unanswered: int = 0


class _Readers:
    def __init__(self, dsn: str) -> None:
        self.seen = Seen()
        self._dsn = dsn
        self._stop = threading.Event()
        with psycopg.connect(dsn, autocommit=True) as conn:
            own = {version: conn.execute(_OWN.format(version)).fetchall() for version in ("v1", "v2")}
        self._queries = {version: [vector for _, vector in rows[:200]] for version, rows in own.items()}
        self._marks = {version: {key: vector[:_MARK] for key, vector in rows} for version, rows in own.items()}

    def run(self, threads: int) -> Seen:
        """Search until somebody says that it is enough."""
        running = [threading.Thread(target=self._search, args=[number]) for number in range(threads)]
        for thread in running:
            thread.start()
        print("ready", flush=True)
        sys.stdin.readline()
        self._stop.set()
        for thread in running:
            thread.join()
        return self.seen

    def _search(self, number: int) -> None:
        choose = random.Random(number)  # noqa: S311
        with psycopg.connect(self._dsn, autocommit=True, prepare_threshold=0) as conn:
            version = self._space(conn)
            while not self._stop.wait(choose.uniform(0, 2 * _THINKS)):
                try:
                    version = self._once(conn, version, choose)
                except psycopg.Error as error:
                    self.seen.errors.append(f"{type(error).__name__}: {error}")

    def _once(self, conn: psycopg.Connection[Any], version: str, choose: random.Random) -> str:
        began = time.monotonic()
        for _ in range(3):  # when the guard shuts, another version is active
            query = choose.choice(self._queries[version])
            rows = conn.execute(_SEARCH, [version, query]).fetchall()
            if rows:
                break
            version = self._space(conn)
        else:
            self.seen.unanswered += 1
        self.seen.searches.append((began, time.monotonic() - began))
        self.seen.wrong += any(self._marks[version][key] != vector[:_MARK] for key, vector in rows)
        return version

    def _space(self, conn: psycopg.Connection[Any]) -> str:
        (version,) = conn.execute(_SPACE).fetchone() or ("",)
        return str(version)


@contextmanager
def reading(dsn: str, threads: int) -> Iterator[Seen]:
    """Let a process search while the block runs; what it saw is there afterwards."""
    seen = Seen()
    command = [sys.executable, "-m", "bench.readers", dsn, str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise AssertionError(f"the readers ended with {process.wait()}")
            yield seen
            out, _ = process.communicate("enough\n")
            for name, value in json.loads(out).items():
                setattr(seen, name, value)
        finally:
            process.kill()


if __name__ == "__main__":
    print(json.dumps(vars(_Readers(sys.argv[1]).run(int(sys.argv[2])))))

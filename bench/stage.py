"""What every measurement stands on: PostgreSQL with pgvector, tables of a fixed seed, and copies of them.

A table is made once and copied for every repetition (CREATE DATABASE … TEMPLATE, which ends in a checkpoint), so that
all begin with the same pages on disk and the same distance to the next checkpoint.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import psycopg
from psycopg import sql

from bench.tables import Documents
from pgvmig import embedded
from pgvmig.embedded import Server

# A small production server's: what is measured is not its checkpoints, and every commit is flushed.
SETTINGS: dict[str, str] = {
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "maintenance_work_mem": "256MB",
    "random_page_cost": "1.1",
    "wal_level": "replica",
    "max_connections": "60",
    "track_commit_timestamp": "on",  # how the clock of the last commit is known; see bench/timing.py
}

REPETITIONS = 3
ROWS = 1_000_000


@dataclass
class Stage:
    """The server, and how big and how often to measure. `rows` are the biggest table's.

    `quick`: tiny sizes, once, only to see that it works.
    """

    server: Server
    quick: bool = False
    repetitions: int = REPETITIONS
    rows: int = ROWS
    _began: float = field(default_factory=time.monotonic)
    _templates: dict[Documents, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def pick(self, full: int, quick: int) -> int:
        """Return the size that this run is to measure with."""
        return quick if self.quick else full

    @property
    def rounds(self) -> range:
        """The repetitions."""
        return range(1 if self.quick else self.repetitions)

    @property
    def options(self) -> str:
        """What of this is not as it comes, as one writes it on the command line."""
        given = {"repetitions": (self.repetitions, REPETITIONS), "rows": (self.rows, ROWS)}
        return "".join(f" --{name} {value}" for name, (value, usual) in given.items() if value != usual)

    def say(self, text: str) -> None:
        """Tell how far the run is."""
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", file=sys.stderr, flush=True)

    @contextmanager
    def database(self, documents: Documents) -> Iterator[str]:
        """Copy a table into a database of its own and yield its DSN; it is dropped at the end."""
        name = f"bench_{next(self._numbers)}"
        template = self._template(documents)
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        with psycopg.connect(self.server.dsn(), autocommit=True) as conn:
            conn.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield self.server.dsn(name)
        finally:
            with psycopg.connect(self.server.dsn(), autocommit=True) as conn:
                conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _template(self, documents: Documents) -> str:
        if documents not in self._templates:
            name = f"template_{next(self._numbers)}"
            with psycopg.connect(self.server.dsn(), autocommit=True) as conn:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            self.say(f"makes a table of {documents}")
            with psycopg.connect(self.server.dsn(name), autocommit=True) as conn:
                documents.create(conn)
            self._templates[documents] = name
        return self._templates[documents]


@contextmanager
def opened(*, quick: bool = False, repetitions: int = REPETITIONS, rows: int = ROWS) -> Iterator[Stage]:
    """Start a server for measurements; it is stopped and removed at the end."""
    with embedded.running(18, settings=SETTINGS) as server:
        yield Stage(server, quick=quick, repetitions=repetitions, rows=rows)

"""The demo's surroundings: PostgreSQL with a standby, the models' server, an Alembic project, a cron for workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from pgvmig import embedded
from pgvmig.demo import model_process
from pgvmig.demo.measured import DemoFailedError
from pgvmig.demo.project import Project
from pgvmig.pacing.pacer import Pacer

# provider entry -> the model that it serves
MODELS = {"old": "wordllama", "new": "all-MiniLM-L6-v2"}
KEY = "demo-key"
STANDBY = "standby1"
# The planner's idea of an SSD, as production has it; at the default a table of this size is rather read whole.
_SETTINGS = {"random_page_cost": "1.1"}
# cron has a resolution of a minute; the demo has not so much time
_CRON_RUNS, _CRON_PAUSES = "15s", 0.5
_WORK_LEFT = 3
BLOCKED = 4


@dataclass
class Lag:
    """The worst replication lag seen."""

    seconds: float = 0.0
    bytes: int = 0


@dataclass
class Stage:
    """What the journey takes place on."""

    dsn: str
    standby_dsn: str
    models: Any
    project: Project
    environment: Mapping[str, str]
    lag: Lag = field(default_factory=Lag)
    _cron_error: str | None = None

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection in autocommit mode."""
        return psycopg.connect(self.dsn, autocommit=True, application_name="demo")

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        with self.connect() as conn:
            return conn.execute(query, parameters or None).fetchall()

    def pgvmig(self, *arguments: str) -> int:
        """Run the command line as a process of its own and return its exit code, 0 or 3.

        Raises DemoFailedError with what it printed.
        """
        return self._run(*arguments).returncode

    def answer(self, *arguments: str, codes: Sequence[int] = (0,)) -> Any:
        """Run the command line with --json and return what it printed. Raises as `pgvmig`, but for the given codes."""
        return json.loads(self._run(*arguments, "--json", codes=codes).stdout)

    def _run(self, *arguments: str, codes: Sequence[int] = (0, _WORK_LEFT)) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "pgvmig", *arguments],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode not in codes:
            raise DemoFailedError(
                f"pgvmig {' '.join(arguments)} exited {done.returncode}: {done.stderr or done.stdout}"
            )
        return done

    @contextmanager
    def cron(self) -> Iterator[None]:
        """Start workers again and again, as a crontab does, until the block ends."""
        over = threading.Event()

        def start_workers() -> None:
            while not over.is_set():
                try:
                    self.pgvmig("backfill", "--max-time", _CRON_RUNS, "--json")
                except DemoFailedError as error:
                    self._cron_error = error.found
                    return
                over.wait(_CRON_PAUSES)

        thread = threading.Thread(target=start_workers, name="cron")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        self.raise_for_cron()

    def raise_for_cron(self) -> None:
        """Raise DemoFailedError when a worker that cron started has failed."""
        if self._cron_error:
            raise DemoFailedError(self._cron_error)

    @contextmanager
    def lag_sampled(self) -> Iterator[None]:
        """Read the standby's lag four times a second until the block ends; `lag` keeps the worst."""
        over = threading.Event()

        def sample() -> None:
            with Pacer.open(self.dsn) as pacer:
                while not over.wait(0.25):
                    pacer.check()
                self.lag.seconds = pacer.peak_lag.total_seconds() if pacer.peak_lag else 0.0
                self.lag.bytes = pacer.peak_lag_bytes or 0

        thread = threading.Thread(target=sample, name="lag")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def enter(stack: ExitStack) -> Stage:
    """Start everything on `stack`, which stops it."""
    primary = stack.enter_context(embedded.running(18, settings=_SETTINGS))
    standby = stack.enter_context(embedded.standby(primary, STANDBY))
    models = stack.enter_context(model_process.spawned(MODELS, key=KEY))
    dsn = primary.url("postgres", driver="postgresql")
    environment = dict(os.environ) | {"PGVMIG_DSN": dsn}
    for provider in MODELS:
        environment[f"PGVMIG_{provider.upper()}_BASE_URL"] = models.base_url(provider)
        environment[f"PGVMIG_{provider.upper()}_API_KEY"] = KEY
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgvmig-demo-")), "migrations")
    return Stage(dsn, standby.dsn(), models, Project(folder, dsn), environment)

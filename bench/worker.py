"""pgvmig as its users run it: versions added by the code that revisions run, workers as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench import timing
from bench.provider import MODEL, Provider
from pgvmig import adding
from pgvmig.address import address
from pgvmig.catalog import schema, standbys, versions
from pgvmig.catalog.versions import Version
from pgvmig.runner import ConnectionRunner

PROVIDER = "bench"
_WORK_LEFT = 3
# Every limit that a run can be without.
UNPACED = (
    *("--max-batch-size", "10000", "--target-time", "1h", "--max-lag", "1h", "--max-lag-bytes", "1TB"),
    *("--max-slot-wal", "off", "--max-sync-wait", "off", "--max-archive-backlog", "off"),
    *("--max-blocking", "off", "--max-horizon-age", "off", "--stop-horizon-age", "off"),
)


class WorkerFailedError(Exception):
    """A worker ended with an error; the message is what it said."""


def contract(dimensions: int, **more: Any) -> dict[str, Any]:
    """Return the new version's contract."""
    return {
        "provider": PROVIDER,
        "model": MODEL,
        "model_version": "1",
        "dimensions": dimensions,
        "input": "body",
    } | more


def prepare(dsn: str, *, dimensions: int = 384, layout: str = "column", adopted: int = 384) -> None:
    """Install pgvmig, adopt v1 as the application's (its dimensions in `adopted`, 0: there is none), and add v2."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        run = ConnectionRunner(conn)
        with conn.transaction():
            schema.install(run)
        standbys.none(conn)
        with conn.transaction():
            if adopted:
                old = contract(adopted, model="the-old-model")
                adding.adopt(run, address("documents", "v1"), "embedding", old)
            adding.add(run, address("documents", "v2"), contract(dimensions), layout=layout)


@dataclass
class Worker:
    """A `pgvmig backfill documents v2` process. `result` is what it printed as JSON, once it has ended."""

    process: subprocess.Popen[str]
    result: dict[str, Any] = field(default_factory=dict)

    def wait(self) -> dict[str, Any]:
        """Wait for its end and return what it printed. Raises WorkerFailedError."""
        out, err = self.process.communicate()
        if self.process.returncode not in (0, _WORK_LEFT):
            raise WorkerFailedError(err.strip() or out.strip())
        self.result = json.loads(out)
        return self.result


@contextmanager
def started(
    dsn: str, provider: Provider, *arguments: str, settings: Mapping[str, Any] | None = None
) -> Iterator[Worker]:
    """Start a worker; `settings` are the provider's. It is killed when the block ends before it does."""
    with tempfile.TemporaryDirectory(prefix="pgvmig-bench-") as folder:
        lines = [f"{name} = {json.dumps(value)}" for name, value in (settings or {}).items()]
        text = "\n".join([f"[providers.{PROVIDER}]", f'base_url = "{provider.base_url}"', *lines])
        (Path(folder) / "pgvmig.toml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pgvmig", "backfill", "documents", "v2", "--json", *arguments]
        with subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PGVMIG_DSN": dsn},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield Worker(process)
            finally:
                process.kill()


def version(dsn: str, name: str = "v2") -> Version:
    """Return a version of documents as the catalog has it."""
    with psycopg.connect(dsn) as conn:
        return next(found for found in versions.all_versions(conn) if found.version == name)


def rate(dsn: str, provider: Provider) -> float:
    """Return the rows per second that were embedded for v2; see `timing.rows_per_second`."""
    found = version(dsn)
    relation = sql.Identifier(found.vector_table_schema, found.vector_table_name)
    return timing.rows_per_second(dsn, relation, found.vector_column, provider)

"""vecshift: the new column beside the old one, filled by its command line from a job file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from psycopg import sql

from bench import timing
from bench.peers.environment import Environment, installed
from bench.provider import MODEL, Provider
from bench.stage import Stage

REQUIREMENTS = ("vecshift==0.4.*",)


def install(stage: Stage) -> Environment:
    """Return its environment."""
    return installed(stage, "vecshift", *REQUIREMENTS)


def rate(environment: Environment, dsn: str, served: Provider, *, batch: int) -> float:
    """Embed the table with so many texts a request (it keeps four in flight) and return its rows per second.

    Without the index, which pgvmig builds afterwards as well.
    """
    job = {
        "version": 1,
        "name": "bench",
        "source": {"table": "documents", "vector_column": "embedding", "text_column": "body"},
        "target": {"column": "embedding_v2", "index": "none"},
        "model": f"compat/{MODEL},url={served.base_url},dims=384,price=0,batch={batch}",
    }
    served.counts(reset=True)
    with tempfile.TemporaryDirectory(prefix="pgvmig-bench-") as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(json.dumps(job), encoding="utf-8")  # JSON is YAML
        command = ("vecshift", "--no-env-file", "apply", path, "--yes", "--no-index", "--json")
        environment.run(*command, environment={"VECSHIFT_DSN": dsn}, cwd=Path(folder))
    return timing.rows_per_second(dsn, sql.Identifier("documents"), "embedding_v2", served)

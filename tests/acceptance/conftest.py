"""What the tests of the docs are given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Reader

from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel


@pytest.fixture
def reader(tmp_path: Path, database) -> Iterator[Reader]:
    """Return a reader with a provider that serves the models the docs name."""
    models = {"openai": HashModel("text-embedding-ada-002", 1536), "local": HashModel("all-MiniLM-L6-v2", 384)}
    with serving(models) as server:
        base = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DATABASE_URL": database.url.replace("postgresql+psycopg://", "postgresql://"),
            "OPENAI_API_KEY": "test",
            "OPENAI_BASE_URL": server.base_url("openai"),
            "LOCAL_API_KEY": "test",
            "LOCAL_BASE_URL": server.base_url("local"),
        }
        base.pop("PGVMIG_DSN", None)
        yield Reader(tmp_path, database.dsn, base)

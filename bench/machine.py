"""What the figures were measured on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import psycopg

from bench.stage import SETTINGS, Stage

_GIB = 1024**3


def shape(stage: Stage) -> dict[str, str]:
    """Return what a reader needs to know of the machine and the server."""
    with psycopg.connect(stage.server.dsn()) as conn:
        (version,) = conn.execute("SHOW server_version").fetchone() or ("?",)
        available = conn.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    memory = psutil.virtual_memory().total / _GIB
    return {
        "cores": f"{len(os.sched_getaffinity(0))} ({_processor()})",
        "memory": f"{memory:.0f} GiB",
        "PostgreSQL": f"{version}, pgvector {available[0] if available else '?'}",
        "Python": platform.python_version(),
        "settings": ", ".join(f"{name} = {value}" for name, value in SETTINGS.items()),
        "provider": "an OpenAI-compatible server on the same machine with its vectors at hand",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())

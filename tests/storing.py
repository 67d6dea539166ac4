"""The libraries whose tables are adopted, each in a process of .venv-stores that stays: importing one takes seconds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-stores" / "bin" / "python"


class Library:
    """A program of tests/stores/, which does what it is asked."""

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [PYTHON, ROOT / "tests" / "stores" / f"{name}_store.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def __call__(self, do: str, **given: Any) -> Any:
        self._process.stdin.write(json.dumps({"do": do, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{do}: the library's process ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["answer"]


def library(name: str):
    """Return a fixture of a module: the library, or a skip that says how to get it (a failure where CI forbids it)."""

    @pytest.fixture(scope="module", name=name)
    def opened():
        if not PYTHON.exists():
            pytest.skip("the libraries are not installed. Next: make stores")
        with Library(name) as running:
            yield running

    return opened

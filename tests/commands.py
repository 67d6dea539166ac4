"""Run `pgvmig` and `alembic` in this process, as their scripts do."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from pgvmig.cli import cli, output


class Done(NamedTuple):
    """What a command left behind: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def checks(self) -> dict[str, Any]:
        """What `pgvmig adopt --json` looked at, by name."""
        return {check["check"]: check for check in self.json["checks"]}


def runner(dsn: str, monkeypatch: Any, capsys: Any) -> Callable[..., Done]:
    """Return what runs `pgvmig` with arguments on a database."""
    monkeypatch.setenv("PGVMIG_DSN", dsn)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["pgvmig", *arguments])
        code = output.run(cli)
        return Done(code, *capsys.readouterr())

    return run


@contextlib.contextmanager
def shell(folder: Path, command: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Be where a command would be that somebody types in a folder, and leave this process as it was."""
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "path", [*sys.path]),
        # the env.py of `alembic init` calls it, and every logger of this process would be silent from then on
        mock.patch("logging.config.fileConfig"),
    ):
        # the models of this folder as they are now, and not those of the last one
        sys.modules.pop("models", None)
        sys.path_importer_cache.pop(".", None)
        importlib.invalidate_caches()
        yield

"""Run `pgvmig` in this process, as its script does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

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

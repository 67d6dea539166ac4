"""What tests of `pgvmig adopt` share: a table whose application has filled its vector column, and the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backfilling import Site

from pgvmig.cli import cli, output

WHO = ("--provider", "new", "--model", "hash", "--model-version", "1", "--input", "body")


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def checks(self) -> dict[str, Any]:
        return {check["check"]: check for check in self.json["checks"]}


def runner(site: Site, monkeypatch: Any, capsys: Any) -> Callable[..., Done]:
    """Return what runs `pgvmig` with arguments, as its script does."""
    monkeypatch.setenv("PGVMIG_DSN", site.database.dsn)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["pgvmig", *arguments])
        code = output.run(cli)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run


def literal(site: Site, provider: str, text: str, factor: float = 1.0) -> str:
    """Return what a provider's model makes of a text, as PostgreSQL reads it."""
    (vector,) = site.server.models[provider].embed([text])
    return str([float(component) * factor for component in vector])


def fill(
    site: Site, rows: range, provider: str = "new", column: str = "embedding", factor: float = 1.0, **more: Any
) -> None:
    """Insert rows as an application does that embeds by itself."""
    names = ", ".join(["id", "body", column, *more])
    places = ", ".join(["%s"] * (3 + len(more)))
    for number in rows:
        vector = literal(site, provider, f"text {number}", factor)
        values = [value(number) if callable(value) else value for value in more.values()]
        site.execute(f"INSERT INTO documents ({names}) VALUES ({places})", number, f"text {number}", vector, *values)


def versions(site: Site) -> list[tuple[Any, ...]]:
    """Return the versions that there are."""
    return site.execute("SELECT version, state, writer, vector_column FROM pgvmig.version ORDER BY 1").fetchall()

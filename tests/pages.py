"""Whoever reads a page of the docs and does what it says: its blocks are carried out, one after the other."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
from alembic.config import CommandLine
from commands import shell

from pgvmig.cli import cli, output

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Reader:
    """Somebody who does what a page says, in a folder and a database of their own."""

    folder: Path
    dsn: str
    environment: dict[str, str]

    def follow(self, page: Path) -> int:
        """Carry out every block of the page, in order, and return how many there were."""
        blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
        for kind, text in blocks:
            if kind != "text":
                getattr(self, kind)(text)
        return len(blocks)

    def sql(self, text: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute(text)

    def ini(self, text: str) -> None:
        self.save(text)

    def toml(self, text: str) -> None:
        # the page's port is the reader's own server's
        self.save(text.replace("http://localhost:8080/v1", self.environment["LOCAL_BASE_URL"]))

    def python(self, text: str) -> None:
        if text.startswith("# ") and text.split("\n", 1)[0].endswith(".py"):
            self.save(text)
        else:
            self.run([sys.executable, "-c", text])

    def console(self, text: str) -> None:
        for line in text.splitlines():
            command = line.removeprefix("$ ")
            plain = command.startswith(("pgvmig ", "alembic ")) and not re.search(r"[|&;<>$`]", command)
            self.run(shlex.split(command, comments=True) if plain else ["bash", "-c", command])

    def save(self, text: str) -> None:
        path = self.folder / text.split("\n", 1)[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, command: list[str]) -> str:
        if command[0] in ("pgvmig", "alembic"):
            return getattr(self, command[0])(command)
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pgvmig(self, command: list[str]) -> str:
        """Run a command as its script does, in this process: a page has dozens, and each would import everything."""
        with (
            shell(self.folder, command, self.environment),
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            code = output.run(cli)
        assert code == 0, f"{command}\n{out.getvalue()}\n{err.getvalue()}"
        return out.getvalue()

    def alembic(self, command: list[str]) -> str:
        """Run a command as its script does, in this process."""
        with shell(self.folder, command, self.environment), contextlib.redirect_stdout(io.StringIO()) as out:
            CommandLine(prog="alembic").main(argv=command[1:])
        return out.getvalue()


def blocks(page: str, kind: str) -> list[str]:
    """Return the page's blocks of one kind."""
    return [text for found, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if found == kind]

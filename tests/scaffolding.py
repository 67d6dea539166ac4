"""A user's Alembic project as `alembic init` makes it, and the two command lines in its folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.config import CommandLine
from commands import shell

from pgvmig.cli import cli, output

MODELS = """
from sqlalchemy import MetaData, Column, Integer, Table, Text
from pgvmig.sqlalchemy import Embedding

metadata = MetaData()
documents = Table(
    "documents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("body", Text),
    Embedding(provider="new", model="hash", model_version="1", dimensions=8, input="body"),
)
"""


@dataclass
class UserProject:
    """A folder with alembic.ini or pyproject.toml, migrations/ and models.py."""

    folder: Path
    url: str
    template: str = "generic"

    def init(self) -> None:
        """Run `alembic init`, and do what its output asks for: the URL and the metadata."""
        self.alembic("init", "-t", self.template, "migrations")
        (self.folder / "models.py").write_text(MODELS)
        self.connect_there()
        env = self.env.read_text()
        self.env.write_text(env.replace("target_metadata = None", "import models\ntarget_metadata = models.metadata"))

    def connect_there(self) -> None:
        """Write the URL into alembic.ini."""
        self.configure(f"sqlalchemy.url = {self.url.replace('%', '%%')}")

    def configure(self, *settings: str) -> None:
        """Write settings, in place of what is there, into alembic.ini."""
        ini = self.folder / "alembic.ini"
        names = tuple(setting.split(" = ")[0] for setting in settings)
        lines = [line for line in ini.read_text().splitlines() if not line.startswith(names)]
        where = lines.index("[alembic]") + 1
        ini.write_text("\n".join([*lines[:where], *settings, *lines[where:]]))

    def new_revision(self, message: str, *arguments: str) -> Path:
        """Run `alembic revision` and return the file that it wrote."""
        before = {*self.folder.rglob("*.py")}
        self.alembic("revision", "-m", message, *arguments)
        (written,) = {*self.folder.rglob("*.py")} - before
        return written

    @property
    def env(self) -> Path:
        return self.folder / "migrations" / "env.py"

    def files(self) -> list[str]:
        """Return the names of the revisions' files."""
        return sorted(path.name for path in (self.folder / "migrations" / "versions").glob("*.py"))

    def revision_of(self, message: str) -> str:
        """Return the id of the revision with that message, as it is in the name of its file."""
        (found,) = [name for name in self.files() if name.split("_", 1)[1] == f"{message}.py"]
        return found.split("_", 1)[0]

    def alembic(self, *arguments: str) -> str:
        """Run `alembic`; returns what it printed, raises RuntimeError with it."""
        line = CommandLine(prog="alembic")
        with self._here(["alembic", *arguments]), captured() as printed:
            try:
                line.main(argv=[*arguments])
            except SystemExit as stopped:
                raise RuntimeError(printed.getvalue()) from stopped
        return printed.getvalue()

    def pgvmig(self, *arguments: str) -> str:
        """Run `pgvmig`; returns what it printed, raises RuntimeError with it."""
        with self._here(["pgvmig", *arguments]), captured() as printed:
            code = output.run(cli)
        if code:
            raise RuntimeError(printed.getvalue())
        return printed.getvalue()

    def scaffold(self, *arguments: str) -> dict[str, Any]:
        """Run `pgvmig scaffold --json`."""
        return json.loads(self.pgvmig("scaffold", *arguments, "--json"))

    def _here(self, command: list[str]) -> contextlib.AbstractContextManager[None]:
        dsn = self.url.replace("+psycopg_async", "").replace("+asyncpg", "").replace("+psycopg", "")
        environment = os.environ | {"PGVMIG_DSN": dsn}
        environment.pop("ALEMBIC_CONFIG", None)
        return shell(self.folder, command, environment)


@contextlib.contextmanager
def captured():
    """Catch what is printed, to either stream."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed

"""Alembic projects for tests: the demo's `migrations/`, or a user's own in a temporary folder."""

from __future__ import annotations

import argparse
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from alembic import command
from alembic.config import Config

ROOT = Path(__file__).parent.parent

OWN_ENV = """
from alembic import context
from sqlalchemy import create_engine, pool

config = context.config
OPTIONS = dict(version_table="my_revisions", {options})
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()
"""


@dataclass
class Project:
    """An Alembic project and the database that it migrates; without an URL only `sql` works."""

    url: str | None
    folder: Path = ROOT / "migrations"

    def upgrade(self, to: str = "head", *told: str) -> None:
        """Run `alembic upgrade`; `told` are values of -x."""
        with self._environment():
            command.upgrade(self._config(*told), to)

    def downgrade(self, to: str, *told: str) -> None:
        """Run `alembic downgrade`."""
        with self._environment():
            command.downgrade(self._config(*told), to)

    def sql(self, revisions: str = "head", *told: str) -> str:
        """Return what `alembic upgrade --sql` prints; a range from newer to older downgrades."""
        config = self._config(*told)
        config.output_buffer = io.StringIO()
        begin, _, end = revisions.rpartition(":")
        down = end == "base" or end < begin
        with self._environment():
            (command.downgrade if down else command.upgrade)(config, revisions, sql=True)
        return config.output_buffer.getvalue()

    def _config(self, *told: str) -> Config:
        config = Config(cmd_opts=argparse.Namespace(x=[*told]))
        config.set_main_option("script_location", str(self.folder))
        if self.url:
            config.set_main_option("sqlalchemy.url", self.url.replace("%", "%%"))
        return config

    def _environment(self):
        kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "PGVMIG_DSN")}
        return mock.patch.dict(os.environ, kept | ({"DATABASE_URL": self.url} if self.url else {}), clear=True)


@dataclass
class OwnProject(Project):
    """A user's project: its own env.py and version table, revisions written by the test."""

    options: str = "transaction_per_migration=True"
    env: str = OWN_ENV
    revisions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "versions").mkdir(parents=True)
        (self.folder / "env.py").write_text(self.env.replace("{options}", self.options))
        (self.folder / "script.py.mako").write_text((ROOT / "migrations" / "script.py.mako").read_text())

    def revision(self, upgrade: str, downgrade: str = "pass") -> str:
        """Add a revision after the last one; both are Python with `op` and `CONTRACT` in sight. Returns its id."""
        before = self.revisions[-1] if self.revisions else None
        name = f"r{len(self.revisions) + 1}"
        (self.folder / "versions" / f"{name}.py").write_text(
            f"from alembic import op\nimport sqlalchemy as sa\nfrom lifecycle import CONTRACT\n\n"
            f"revision = {name!r}\ndown_revision = {before!r}\n\n\n"
            f"def upgrade():\n    {upgrade}\n\n\ndef downgrade():\n    {downgrade}\n"
        )
        self.revisions.append(name)
        return name

    def done(self, connection: psycopg.Connection[Any]) -> list[str]:
        """Return the revisions that the database is at."""
        if connection.execute("SELECT to_regclass('my_revisions')").fetchone() == (None,):
            return []
        return [row[0] for row in connection.execute("SELECT version_num FROM my_revisions")]

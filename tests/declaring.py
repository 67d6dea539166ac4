"""An Alembic project whose revisions autogenerate writes from a test's models."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from lifecycle import CONTRACT
from migrating import OwnProject
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, create_engine, pool

from pgvmig.alembic_plugin.notice import NoticeOp
from pgvmig.sqlalchemy import Embedding

PLUGINS = ["alembic.autogenerate.*", "pgvmig.*"]
OPTIONS = f"""**({{
    "target_metadata": config.attributes.get("metadata"),
    "transaction_per_migration": True,
    "autogenerate_plugins": {PLUGINS},
}} | config.attributes.get("options", {{}}))"""
SCRIPT = """# ${message}
${imports if imports else ""}
import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
"""


@dataclass
class ModelProject(OwnProject):
    """`metadata` are the models, `settings` more options of context.configure()."""

    options: str = OPTIONS
    metadata: Any = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.folder / "script.py.mako").write_text(SCRIPT)

    def autogenerate(self, **options: Any) -> str:
        """Write the next revision and return its text."""
        name = f"a{len(self.revisions) + 1}"
        with self._environment():
            script = command.revision(self._config(), autogenerate=True, rev_id=name, message="models", **options)
        self.revisions.append(name)
        return Path(script.path).read_text(encoding="utf-8")

    def difference(self, metadata: Any, **settings: Any) -> Difference:
        """Return what a revision would say of these models, without writing one."""
        engine = create_engine(self.url or "", poolclass=pool.NullPool)
        options = {"autogenerate_plugins": PLUGINS, "version_table": "my_revisions"} | self.settings | settings
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            script = produce_migrations(context, metadata)
            up, down = (
                _statements(render_python_code(ops, migration_context=context).splitlines())
                for ops in (script.upgrade_ops, script.downgrade_ops)
            )
        return Difference(up, down, list(script.upgrade_ops.ops))

    def check(self) -> None:
        """Run `alembic check`."""
        config = self._config()
        config.stdout = io.StringIO()
        with self._environment():
            command.check(config)

    def _config(self, *told: str) -> Any:
        config = super()._config(*told)
        config.attributes.update(metadata=self.metadata, options=self.settings)
        return config


def documents(*items: Any, metadata: MetaData | None = None, name: str = "documents", **options: Any) -> MetaData:
    """Return metadata with a table of documents and what else stands in it, as its embeddings."""
    metadata = MetaData() if metadata is None else metadata
    columns = (Column("id", BigInteger, primary_key=True), Column("title", Text), Column("body", Text))
    Table(name, metadata, *columns, *items, **options)
    return metadata


def embedding(**changed: Any) -> Embedding:
    """Return a declaration: CONTRACT, and what a test changes of it."""
    return Embedding(**(CONTRACT | changed))


@dataclass
class Difference:
    """The statements of both directions, and the operations of the upgrade."""

    up: str
    down: str
    operations: list[Any]

    @property
    def calls(self) -> list[str]:
        """The names of the operations that the upgrade calls."""
        return calls(self.up)

    @property
    def notices(self) -> list[Any]:
        """The notices, alone or before what they are about."""
        return [operation for operation in self.operations if isinstance(operation, NoticeOp)]


def calls(statements: str) -> list[str]:
    """Return the names of the operations that are called."""
    return re.findall(r"^op\.(\w+)", statements, re.MULTILINE)


def body(revision: str, function: str = "upgrade") -> str:
    """Return the statements of a revision's function, without Alembic's own comments and indentation."""
    text = revision.partition(f"def {function}()")[2].partition("\n\n\n")[0]
    return _statements(text.splitlines()[1:])


def _statements(lines: list[str]) -> str:
    return "\n".join(line.removeprefix("    ") for line in lines if "# ###" not in line).strip()

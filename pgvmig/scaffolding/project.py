"""A user's Alembic project: its lines of revisions, and which of them does what to embeddings.

The main line is the application's own. Cutovers and retirements are on a line beside it, labelled `embeddings`, which
has no revision in common with it: they depend on revisions of the main line, never the other way round. So nothing
that the application deploys waits for a backfill.
"""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from pgvmig.catalog.versions import Version
from pgvmig.errors import ConfigError, UsageError
from pgvmig.names import DEFAULT_SLOT

LABEL = "embeddings"
MAIN_LABEL = "main"


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of one of our operations in the upgrade of a revision."""

    revision: Script
    name: str
    table: str | None
    version: str | None
    schema: str | None
    slot: str

    def concerns(self, version: Version) -> bool:
        """Whether it is about this very version; a revision that names no schema leaves it to the search_path."""
        return (self.table, self.version, self.slot) == (
            version.table_name,
            version.version,
            version.slot,
        ) and self.schema in (None, version.table_schema)


class Project:
    """The revisions of one Alembic configuration. Raises ConfigError when there is none."""

    def __init__(self, config: Config) -> None:
        self.config = config
        try:
            self.script = ScriptDirectory.from_config(config)
            self.script.get_heads()  # reads the revisions
        except CommandError as error:
            raise ConfigError(
                f"Alembic finds no project here: {error}",
                next_step="alembic init migrations, or pgvmig scaffold --config path/to/alembic.ini",
            ) from error

    @property
    def env(self) -> Path:
        """Where env.py is."""
        return Path(self.script.env_py_location)

    def revisions(self) -> list[Script]:
        """Return all revisions, the first ones first."""
        return [*self.script.walk_revisions()][::-1]

    def branch_head(self) -> Script | None:
        """Return the last revision of the line `embeddings`, None as long as there is none."""
        heads = [head for head in self._heads() if LABEL in head.branch_labels]
        if len(heads) > 1:
            raise _several(f"the line {LABEL}", heads)
        return heads[0] if heads else None

    def main_head(self, named: str | None = None) -> Script | None:
        """Return the last revision of the main line, None in a project without revisions. Raises UsageError."""
        heads = [head for head in self._heads() if LABEL not in head.branch_labels]
        if named is not None:
            heads = [head for head in heads if head.revision == named or named in head.branch_labels]
            if not heads:
                raise UsageError(f"there is no line {named}", next_step="alembic heads shows their labels")
        if len(heads) > 1:
            raise _several("the main line", heads)
        return heads[0] if heads else None

    def main_target(self, head: Script) -> str:
        """Return what a deploy upgrades to: the main line's own head, by its label or its first revision."""
        labels = sorted(head.branch_labels)
        return f"{labels[0] if labels else self._first(head).revision}@head"

    def location(self, near: Script | None) -> Path | None:
        """Return the folder for a revision that continues no line, None where Alembic has only one."""
        folders = [Path(folder) for folder in self.script._version_locations]  # noqa: SLF001  # public only as configuration text
        if len(folders) < 2 or near is None:  # noqa: PLR2004
            return None
        return next(folder for folder in folders if Path(near.path).is_relative_to(folder.absolute()))

    def operations(self) -> Iterator[Operation]:
        """Yield the calls of operations on versions and on the control schema in upgrades, as revisions follow."""
        for revision in self.revisions():
            tree = ast.parse(Path(revision.path).read_bytes())
            for function in tree.body:
                if isinstance(function, ast.FunctionDef) and function.name == "upgrade":
                    yield from (_operation(revision, call) for call in ast.walk(function) if _is_ours(call))

    def _heads(self) -> list[Script]:
        return [found for head in self.script.get_heads() if (found := self.script.get_revision(head))]

    def _first(self, revision: Script) -> Script:
        while revision.down_revision:
            before = revision.down_revision
            found = self.script.get_revision(before if isinstance(before, str) else before[0])
            assert found is not None  # noqa: S101  # the map of revisions is whole, or Alembic would not have read it
            revision = found
        return revision


def configuration(given: str | None = None, section: str = "alembic") -> Config:
    """Return the configuration that `alembic` itself would use: --config, ALEMBIC_CONFIG, alembic.ini, pyproject.toml.

    Raises ConfigError.
    """
    named = given or os.environ.get("ALEMBIC_CONFIG") or "alembic.ini"
    if given and not Path(given).exists():
        raise ConfigError(f"there is no {given}", next_step="--config names an alembic.ini or a pyproject.toml")
    toml = named if Path(named).name == "pyproject.toml" else "pyproject.toml"
    # what it says of its own accord would stand in the midst of our JSON
    quiet = argparse.Namespace(quiet=True)
    return Config("alembic.ini" if named == toml else named, toml_file=toml, ini_section=section, cmd_opts=quiet)


def _several(line: str, heads: list[Script]) -> UsageError:
    names = ", ".join(head.revision for head in heads)
    return UsageError(
        f"{line} has {len(heads)} heads: {names}",
        hazard="A revision after the wrong one would wait for what it has nothing to do with",
        next_step=f"merge them (alembic merge), or name one: --head {heads[0].revision}",
    )


def _is_ours(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "op"
        and node.func.attr.endswith(("_embedding", "_embedding_index", "_embedding_search", "_pgvmig"))
    )


def _operation(revision: Script, call: ast.AST) -> Operation:
    assert isinstance(call, ast.Call)  # noqa: S101  # _is_ours has looked
    assert isinstance(call.func, ast.Attribute)  # noqa: S101
    named = {keyword.arg: _text(keyword.value) for keyword in call.keywords}
    placed = [_text(argument) for argument in call.args]
    return Operation(
        revision=revision,
        name=call.func.attr,
        table=named.get("table") or next(iter(placed), None),
        version=named.get("version") or next(iter(placed[1:]), None),
        schema=named.get("schema"),
        slot=named.get("slot") or DEFAULT_SLOT,
    )


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None

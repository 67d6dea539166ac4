"""A project's env.py: does it give `context.configure()` what pgvmig needs, and the edit after which it does."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pgvmig.errors import ConfigError

TRANSACTION, PLUGINS = "transaction_per_migration", "autogenerate_plugins"
WANTED = {TRANSACTION: "True", PLUGINS: '["alembic.autogenerate.*", "pgvmig.*"]'}
LINES = ", ".join(f"{name}={value}" for name, value in WANTED.items())
_WHY = (
    "Without the first all revisions share one transaction, which a gate that fails would undo; without the second "
    "autogenerate knows nothing of embeddings"
)
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Edit:
    """An env.py as it is and as it should be."""

    path: Path
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return self.before != self.after

    @property
    def diff(self) -> str:
        """The change as a unified diff."""
        now, then = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(now, then, f"{self.path} (now)", str(self.path)))

    def write(self) -> Path:
        """Write the file, and leave what it was beside it. Returns where that is."""
        backup = next(path for path in _backups(self.path) if not path.exists())
        backup.write_bytes(self.before.encode())
        self.path.write_bytes(self.after.encode())
        return backup

    @property
    def without_metadata(self) -> bool:
        """Whether `target_metadata = None` is still what Alembic's template says: nothing to compare."""
        return re.search(r"^target_metadata\s*=\s*None\b", self.before, re.MULTILINE) is not None


def plan(path: Path) -> Edit:
    """Return the edit that the file needs, which may be none.

    Raises ConfigError, with the lines to add by hand, for a file that is not understood.
    """
    before = path.read_bytes().decode()
    try:
        tree = ast.parse(before)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}", next_step="mend it, then pgvmig scaffold") from error
    _refuse_own_transaction(path, tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is(node, "configure", "context")]
    if not calls:
        raise _not_understood(f"{path} does not call context.configure()")
    source = _Source(before.encode())
    for call in calls:
        _mend(path, tree, call, source)
    after = source.mended()
    try:
        ast.parse(after)
    except SyntaxError as error:
        raise _not_understood(f"{path} has a context.configure() in an unusual form") from error
    return Edit(path, before, after)


class _Source:
    """A file's bytes, as ast counts them, and what is to be put in place of some of them."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0, *(match.end() for match in re.finditer(rb"\r\n|\r|\n", source))]
        # calls may share an argument: what is to be done to it is done once
        self._edits: set[tuple[int, int, str]] = set()
        self._newline = "\r\n" if b"\r\n" in source else "\n"

    def start(self, node: ast.expr | ast.keyword) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.keyword) -> int:
        return self._lines[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)

    def indent(self, node: ast.expr) -> str:
        """Return the white space that the node's line begins with."""
        match = re.compile(rb"[ \t]*").match(self._source, self._lines[node.lineno - 1])
        return match[0].decode() if match else ""

    def replace(self, start: int, end: int, text: str) -> None:
        self._edits.add((start, end, text.replace("\n", self._newline)))

    def mended(self) -> str:
        result = self._source
        for start, end, text in sorted(self._edits, reverse=True):
            result = result[:start] + text.encode() + result[end:]
        return result.decode()


def _backups(path: Path) -> Iterator[Path]:
    yield path.with_name(f"{path.name}.bak")
    for number in count(2):
        yield path.with_name(f"{path.name}.bak{number}")


def _is(call: ast.Call, method: str, owner: str | None = None) -> bool:
    """Whether it is `owner.method(...)` or `anything.owner.method(...)`; anybody's method without an owner."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != method:
        return False
    value = call.func.value
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else None
    return owner in (None, name)


def _refuse_own_transaction(path: Path, tree: ast.Module) -> None:
    """Alembic leaves a transaction alone that it finds begun, and runs all revisions in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (_is(node, "begin") or _is(node, "begin_twophase")):
            raise ConfigError(
                f"{path}:{node.lineno} begins a transaction of its own",
                hazard="Alembic then runs all revisions in it, transaction_per_migration or not: a gate that fails in "
                "the last would undo the first, and no index could be built CONCURRENTLY",
                next_step="connect() instead of begin(), `with context.begin_transaction():` around "
                f"context.run_migrations(), context.configure(..., {LINES}); then pgvmig scaffold",
            )


def _mend(path: Path, tree: ast.Module, call: ast.Call, source: _Source) -> None:
    """Add what one call lacks."""
    given: dict[str, ast.expr] = {}
    unseen = None
    for keyword in call.keywords:
        if keyword.arg is not None:
            given[keyword.arg] = keyword.value
        elif (held := _dictionary(tree, keyword.value)) is not None:
            given |= held
        else:
            unseen = ast.unparse(keyword.value)
    missing = [name for name in WANTED if name not in given]
    if missing and unseen is not None:
        raise _not_understood(f"{path}:{call.lineno}: nobody can see whether **{unseen} has {' and '.join(missing)}")
    if TRANSACTION in given and ast.unparse(given[TRANSACTION]) == "False":
        raise _not_understood(f"{path}:{given[TRANSACTION].lineno} says {TRANSACTION}=False")
    if PLUGINS in given:
        _add_plugin(path, given[PLUGINS], source)
    if missing:
        _add_arguments(path, call, missing, source)


def _dictionary(tree: ast.Module, value: ast.expr) -> dict[str, ast.expr] | None:
    """Return what a `**NAME` holds: a dictionary that the file writes down once. None for anything else."""
    assigned = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(value, ast.Name) and isinstance(target, ast.Name) and target.id == value.id
    ]
    if len(assigned) != 1 or not isinstance(assigned[0], ast.Dict):
        return None
    keys = [key.value if isinstance(key, ast.Constant) else None for key in assigned[0].keys]
    if not all(isinstance(key, str) for key in keys):
        return None
    return dict(zip(map(str, keys), assigned[0].values, strict=True))


def _add_plugin(path: Path, value: ast.expr, source: _Source) -> None:
    listed = value.elts if isinstance(value, ast.List) else []
    names = [element.value for element in listed if isinstance(element, ast.Constant)]
    if any(isinstance(name, str) and name.startswith("pgvmig") for name in names):
        return
    if not listed:
        raise _not_understood(f"{path}:{value.lineno}: {PLUGINS}={ast.unparse(value)} does not name pgvmig")
    source.replace(source.end(listed[-1]), source.end(listed[-1]), ', "pgvmig.*"')


def _add_arguments(path: Path, call: ast.Call, missing: list[str], source: _Source) -> None:
    arguments: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
    arguments.sort(key=source.start)
    if not call.keywords:
        raise _not_understood(f"{path}:{call.lineno}: {ast.unparse(call)}")
    lines = [f"{name}={WANTED[name]}," for name in missing]
    if call.lineno != call.end_lineno:
        # before the first one that has a name: what stands behind the last may be a comment, or no comma
        first = min(call.keywords, key=source.start)
        indent = " " * first.col_offset
        source.replace(source.start(first), source.start(first), "".join(f"{line}\n{indent}" for line in lines))
        return
    outer = source.indent(call)
    inner = f"\n{outer}{_INDENT}"
    # on one line there are no comments: a line for each argument
    positions = [source.end(call.func) + 1, *map(source.end, arguments)]
    for position, argument in zip(positions, arguments, strict=False):
        source.replace(position, source.start(argument), inner if position == positions[0] else f",{inner}")
    source.replace(
        positions[-1], source.end(call) - 1, "".join(f",{inner}{line[:-1]}" for line in lines) + f",\n{outer}"
    )


def _not_understood(found: str) -> ConfigError:
    return ConfigError(found, hazard=_WHY, next_step=f"write it by hand: context.configure(..., {LINES})")

"""The operations in docs/alembic.md, in their words: `python -m pgvmig.alembic_plugin.reference docs/alembic.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from alembic.operations import MigrateOperation, Operations

from pgvmig.alembic_plugin import change_ops, ops, role_ops, schema_ops, switch_ops

_MARKED = re.compile(r"(<!-- operations, written by `make docs` -->\n).*?(<!-- end -->)", re.DOTALL)
_MODULES = (schema_ops, ops, switch_ops, change_ops, role_ops)
_WIDTH = 118


def operations() -> dict[str, type[MigrateOperation]]:
    """Return every operation of ours by the name that revisions call."""
    return {name: kind for module in _MODULES for name, kind in _registered(module)}


def _registered(module: ModuleType) -> Iterator[tuple[str, type[MigrateOperation]]]:
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, MigrateOperation) and kind.__module__ == module.__name__:
            yield from ((name, kind) for name in vars(kind) if not name.startswith("_") and name in vars(Operations))


def render(text: str) -> str:
    """Return the page with its reference written anew."""
    sections = "\n\n".join(_section(name, kind) for name, kind in operations().items())
    return _MARKED.sub(lambda match: f"{match[1]}\n{sections}\n\n{match[2]}", text)


def _section(name: str, kind: type[MigrateOperation]) -> str:
    # Alembic moves the words to the method that it makes from ours
    words = inspect.getdoc(getattr(Operations, name))
    return f"### `op.{name}`\n\n```text\n{_call(name, getattr(kind, name))}\n```\n\n{words}"


def _call(name: str, method: object) -> str:
    parameters = list(inspect.signature(method).parameters.values())[1:]  # type: ignore[arg-type]
    arguments = [
        each.name if each.default is each.empty else f"{each.name}={each.default!r}".replace("'", '"')
        for each in parameters
    ]
    line = f"op.{name}({', '.join(arguments)})"
    return line if len(line) <= _WIDTH else "op.{}(\n    {},\n)".format(name, ",\n    ".join(arguments))


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")

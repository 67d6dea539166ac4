"""How operations stand in a revision: with literals only, so that it means the same when the models have changed."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import alembic.autogenerate.render as alembic_render
from alembic.operations import MigrateOperation

from pgvmig.alembic_plugin import change_ops, role_ops, schema_ops, switch_ops
from pgvmig.alembic_plugin.consequences import AtDowngrade
from pgvmig.alembic_plugin.embedding_op import EmbeddingOp
from pgvmig.alembic_plugin.notice import NoticeOp
from pgvmig.contract import Contract

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

# Alembic indents what we return by four.
_WIDTH = 96


_KINDS = (
    EmbeddingOp,
    change_ops.RefreshEmbeddingViewsOp,
    change_ops.TableChangeOp,
    role_ops.CreateRolesOp,
    role_ops.DropRolesOp,
    schema_ops.InstallOp,
    schema_ops.UninstallOp,
)


def register() -> None:
    """Tell Alembic how to render our operations; it keeps one list of renderers for all plugins."""
    renderers = alembic_render.renderers
    for kind in _KINDS:
        renderers.dispatch_for(kind, replace=True)(operation)
    renderers.dispatch_for(switch_ops.RollBackEmbeddingOp, replace=True)(roll_back)
    renderers.dispatch_for(AtDowngrade, replace=True)(lambda *_: [])
    renderers.dispatch_for(NoticeOp, replace=True)(notice)


def operation(context: AutogenContext, op: MigrateOperation) -> str:
    """Return the call of an operation, on a line where it fits."""
    prefix = context.opts.get("alembic_module_prefix") or ""
    name, given, named = _call(op)
    arguments = [*map(_literal, given), *(f"{key}={_literal(value)}" for key, value in named.items())]
    line = f"{prefix}{name}({', '.join(arguments)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    body = textwrap.indent(",\n".join(arguments), "    ")
    return f"{prefix}{name}(\n{body},\n)"


def roll_back(context: AutogenContext, op: switch_ops.RollBackEmbeddingOp) -> list[str]:
    """Return the call, and which revision it must follow: Alembic runs those of two lines in any order."""
    after = f"Revision {op.after} cut over. Write this on its line, after it: alembic revision --head ..."
    return [*(_comment(after) if op.after else []), operation(context, op)]


def notice(_context: AutogenContext, op: NoticeOp) -> list[str]:
    """Return a comment; a body needs a statement beside it."""
    return [*(_comment(f"WARNING: pgvmig: {op.text}") if op.text else []), *(["pass"] if op.alone else [])]


def _comment(text: str) -> list[str]:
    """Return the text as comments; names in it may hold line breaks, which become spaces."""
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False)]


def _call(op: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """Return the operation's name, and its arguments by its own signature: what has a default only where it differs."""
    name = op.to_diff_tuple()[0]
    given, named = [], {}
    for parameter in list(inspect.signature(getattr(type(op), name)).parameters.values())[1:]:
        value = getattr(op, parameter.name)
        if parameter.default is parameter.empty:
            given.append(value)
        elif value != parameter.default:
            named[parameter.name] = value
    return name, given, named


def _literal(value: Any) -> str:
    """Return a value as Python source, over several lines where it is long."""
    if isinstance(value, Contract):
        value = value.as_dict()
    if isinstance(value, Mapping):
        parts, brackets = [f"{key!r}: {_literal(part)}" for key, part in value.items()], "{}"
    elif isinstance(value, (list, tuple)):
        parts, brackets = [_literal(part) for part in value], "[]"
    else:
        return repr(str(value)) if isinstance(value, str) else repr(value)
    line = f"{brackets[0]}{', '.join(parts)}{brackets[1]}"
    if len(line) <= _WIDTH - 16:
        return line
    return "{}\n{},\n{}".format(brackets[0], textwrap.indent(",\n".join(parts), "    "), brackets[1])

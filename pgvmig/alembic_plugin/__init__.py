"""The Alembic plugin: operations of the lifecycle as data (*ops.py), executed (*impl.py), found by autogenerate
(autogenerate.py, compare.py) and written into revisions (render.py).

Alembic loads this while it is being imported, so siblings are imported inside `setup()`. Whoever imports us first has
Alembic imported at the end, when `setup()` is there for it to call. The package above must not import Alembic, which
would cost every command half a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin


def setup(plugin: Plugin) -> None:
    """Register the operations as `op.add_embedding` and so on, and the comparators.

    They are there under two names, because `autogenerate_plugins=["pgvmig.*"]` does not match the name `pgvmig`.
    """
    from pgvmig.alembic_plugin import autogenerate, change_impl, ops, role_ops, schema_ops, switch_ops, toimpl  # noqa: F401

    autogenerate.setup(plugin)
    type(plugin).setup_plugin_from_module(autogenerate, f"{plugin.name}.autogenerate")


import alembic as _alembic  # noqa: E402, F401

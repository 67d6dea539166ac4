"""The Alembic plugin: operations of the lifecycle, as data (ops.py) and as execution (toimpl.py).

Alembic loads this while it is being imported, so siblings are imported inside `setup()`. Whoever imports us first has
Alembic imported at the end, when `setup()` is there for it to call. The package above must not import Alembic, which
would cost every command half a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin


def setup(plugin: Plugin) -> None:  # noqa: ARG001  # comparators for autogenerate will be registered on it
    """Register the operations as `op.add_embedding` and so on."""
    from pgvmig.alembic_plugin import ops, schema_ops, toimpl  # noqa: F401


import alembic as _alembic  # noqa: E402, F401

"""What the operations on a table's slot have in common; see ops.py."""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation


class EmbeddingOp(MigrateOperation):
    """Base: an operation on a table's slot."""

    name = ""

    def __init__(self, table: str, version: str, schema: str | None, slot: str) -> None:
        self.table = table
        self.version = version
        self.schema = schema
        self.slot = slot
        # the downgrade, where the operation itself does not say it
        self.opposite: MigrateOperation | None = None

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return (self.name, self.schema, self.table, self.slot, self.version, *self.details())

    def details(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows besides the version."""
        return ()

    def reverse(self) -> MigrateOperation:
        """Return the downgrade. Raises ValueError where it is not known, as Alembic's own operations do."""
        if self.opposite is None:
            raise ValueError(f"{self.name} cannot be reversed: it does not say what was there before")
        return self.opposite

    def undone_by(self, other: EmbeddingOp) -> EmbeddingOp:
        """Let each be the other's downgrade, and return the other."""
        self.opposite, other.opposite = other, self
        return other

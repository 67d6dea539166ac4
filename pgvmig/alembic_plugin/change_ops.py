"""The operations around a change of a table and after one, as data; see ops.py."""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations


class TableChangeOp(MigrateOperation):
    """Base: one end of a change."""

    name = ""

    def __init__(self, table: str, schema: str | None = None) -> None:
        self.table = table
        self.schema = schema

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return (self.name, self.schema, self.table)


@Operations.register_operation("begin_table_change")
class BeginTableChangeOp(TableChangeOp):
    """Begin a change."""

    name = "begin_table_change"

    @classmethod
    def begin_table_change(cls, operations: Operations, table: str, schema: str | None = None) -> None:
        """Before a column is dropped or retyped that the table's versions show, embed or have as their key: take their
        views, functions and triggers away, with those views of yours that show them. `op.end_table_change` puts them
        back, with their owners and grants; the transaction cannot be committed without it. Meanwhile no row can be
        written. Nothing is embedded anew but rows whose text became another.
        """
        operations.invoke(cls(table, schema))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade: a change is undone between the same two."""
        return EndTableChangeOp(self.table, schema=self.schema)


@Operations.register_operation("end_table_change")
class EndTableChangeOp(TableChangeOp):
    """End a change."""

    name = "end_table_change"

    def __init__(self, table: str, key: list[str] | None = None, schema: str | None = None) -> None:
        super().__init__(table, schema)
        self.key = key

    @classmethod
    def end_table_change(
        cls, operations: Operations, table: str, key: list[str] | None = None, schema: str | None = None
    ) -> None:
        """End what `op.begin_table_change` began: the views without the columns that were dropped, the functions and
        queues with the types that the columns have now. `key` names the table's key when other columns are it now.
        """
        operations.invoke(cls(table, key, schema))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade."""
        return BeginTableChangeOp(self.table, self.schema)


@Operations.register_operation("refresh_embedding_views")
class RefreshEmbeddingViewsOp(MigrateOperation):
    """Show columns that the application added."""

    name = "refresh_embedding_views"

    def __init__(self, table: str, schema: str | None = None, slot: str = "embedding") -> None:
        self.table = table
        self.schema = schema
        self.slot = slot
        self.opposite: MigrateOperation = self

    @classmethod
    def refresh_embedding_views(
        cls, operations: Operations, table: str, schema: str | None = None, slot: str = "embedding"
    ) -> None:
        """Append columns that the application added to its table to all views of the slot. Downgrading does nothing:
        PostgreSQL lets a view's columns only grow.
        """
        operations.invoke(cls(table, schema, slot))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade: it finds nothing to append, unless autogenerate knows what it is to make room for."""
        return self.opposite

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return ("refresh_embedding_views", self.schema, self.table, self.slot)

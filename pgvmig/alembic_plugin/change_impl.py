"""Execute the operations around a change of a table."""

from __future__ import annotations

from alembic.operations import Operations

from pgvmig import adding, table_change
from pgvmig.address import Table
from pgvmig.alembic_plugin import change_ops
from pgvmig.alembic_plugin.migration_runner import begin
from pgvmig.alembic_plugin.toimpl import implementation_for


@implementation_for(change_ops.BeginTableChangeOp)
def begin_change(operations: Operations, operation: change_ops.BeginTableChangeOp) -> None:
    """Begin it."""
    table_change.begin(begin(operations), Table(operation.schema, operation.table))


@implementation_for(change_ops.EndTableChangeOp)
def end_change(operations: Operations, operation: change_ops.EndTableChangeOp) -> None:
    """End it."""
    table_change.end(begin(operations), Table(operation.schema, operation.table), operation.key)


@implementation_for(change_ops.RefreshEmbeddingViewsOp)
def refresh(operations: Operations, operation: change_ops.RefreshEmbeddingViewsOp) -> None:
    """Refresh the views."""
    adding.refresh_views(begin(operations), operation.table, operation.schema, operation.slot)

"""The operations that gates guard, as data: a version becomes the active one, is left, is retired."""

from __future__ import annotations

from alembic.operations import MigrateOperation, Operations

from pgvmig.alembic_plugin.embedding_op import EmbeddingOp


class SwitchOp(EmbeddingOp):
    """Base: an operation that gates guard and `force` may pass."""

    def __init__(
        self,
        table: str,
        version: str,
        force: str | None = None,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        super().__init__(table, version, schema, slot)
        self.force = force


@Operations.register_operation("cut_over_embedding")
class CutOverEmbeddingOp(SwitchOp):
    """Make a version the active one."""

    name = "cut_over_embedding"

    @classmethod
    def cut_over_embedding(
        cls,
        operations: Operations,
        table: str,
        version: str,
        force: str | None = None,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        """Make the version the active one, if the gates pass. `force="gate: why"` skips a gate and keeps the reason.

        What takes minutes or the provider is not measured here: `pgvmig verify` must have found it good before.

        Refused while a declared standby is behind, or a long transaction there or here holds the current view
        (`force="standbys: why"`, or `alembic -x pgvmig_calm=off`). From vector to halfvec, or back, the view is made
        anew with all its grants: prepared statements that return the vector must be prepared again.
        """
        operations.invoke(cls(table, version, force, schema, slot))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade."""
        return RollBackEmbeddingOp(self.table, self.version, None, self.schema, self.slot)


@Operations.register_operation("roll_back_embedding")
class RollBackEmbeddingOp(SwitchOp):
    """Undo cut_over_embedding. `after`: the revision that cut over, which a rollback must follow on every database."""

    name = "roll_back_embedding"
    after: str | None = None

    @classmethod
    def roll_back_embedding(
        cls,
        operations: Operations,
        table: str,
        version: str,
        force: str | None = None,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        """Leave the version for the one that was active before it; `version` stays, and its backfill is paused."""
        operations.invoke(cls(table, version, force, schema, slot))

    def reverse(self) -> MigrateOperation:
        """Return the upgrade."""
        return CutOverEmbeddingOp(self.table, self.version, None, self.schema, self.slot)


@Operations.register_operation("retire_embedding")
class RetireEmbeddingOp(SwitchOp):
    """Drop a version's vectors."""

    name = "retire_embedding"

    def __init__(
        self,
        table: str,
        version: str,
        soak: str | None = None,
        force: str | None = None,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        super().__init__(table, version, force, schema, slot)
        self.soak = soak

    @classmethod
    def retire_embedding(
        cls,
        operations: Operations,
        table: str,
        version: str,
        soak: str | None = None,
        force: str | None = None,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        """Drop the version's index, view, triggers and columns; its contract and events stay. The downgrade is
        `add_embedding` with the same contract: empty, to be backfilled.

        Refused until the version was left, and nobody has read it, for `soak` (`"24h"` when left out; for one run,
        `-x pgvmig_soak=documents.v1:1h`). `force="soak,unused: why"` skips one of these gates, or both, and keeps the
        reason.
        """
        operations.invoke(cls(table, version, soak, force, schema, slot))

"""The operations on the control schema itself, as data; see ops.py."""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations


@Operations.register_operation("install_pgvmig")
class InstallOp(MigrateOperation):
    """Install the control schema."""

    name = "install_pgvmig"

    def __init__(self, version: int | None = None) -> None:
        self.version = version

    @classmethod
    def install_pgvmig(cls, operations: Operations, version: int | None = None) -> None:
        """Install the control schema `pgvmig`, and pgvector where it is missing.

        `version` is the schema version that the revisions after this one need at least.
        """
        operations.invoke(cls(version))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade."""
        return UninstallOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return ("install_pgvmig", self.version)


@Operations.register_operation("upgrade_pgvmig")
class UpgradeOp(InstallOp):
    """Upgrade the control schema."""

    name = "upgrade_pgvmig"

    @classmethod
    def upgrade_pgvmig(cls, operations: Operations, version: int) -> None:
        """Upgrade the control schema to this toolkit's, which must be `version` or newer. Its downgrade does nothing:
        an older control schema cannot hold what a newer one has recorded.
        """
        operations.invoke(cls(version))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade, which finds nothing to upgrade."""
        return self

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return ("upgrade_pgvmig", self.version)


@Operations.register_operation("uninstall_pgvmig")
class UninstallOp(MigrateOperation):
    """Drop the control schema."""

    name = "uninstall_pgvmig"

    @classmethod
    def uninstall_pgvmig(cls, operations: Operations) -> None:
        """Drop the control schema; refused while it looks after versions."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        """Return the upgrade."""
        return InstallOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return ("uninstall_pgvmig",)

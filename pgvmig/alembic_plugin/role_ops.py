"""The operations on roles, as data, and what executes them."""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations

from pgvmig.alembic_plugin.migration_runner import begin
from pgvmig.alembic_plugin.toimpl import implementation_for, log
from pgvmig.catalog import roles


@Operations.register_operation("create_pgvmig_roles")
class CreateRolesOp(MigrateOperation):
    """Create the roles and grant their rights."""

    def __init__(self, prefix: str = "pgvmig", owner: str | None = None, allow_superuser: bool = False) -> None:
        self.prefix = prefix
        self.owner = owner
        self.allow_superuser = allow_superuser

    @classmethod
    def create_pgvmig_roles(
        cls,
        operations: Operations,
        prefix: str = "pgvmig",
        owner: str | None = None,
        allow_superuser: bool = False,
    ) -> None:
        """Create the group roles `<prefix>_reader`, `_worker`, `_operator` and `_admin`, and grant what each needs.

        Versions that are added later grant theirs by themselves. `owner` is a role that the control schema is given to
        first, a member of the tables' owners: operators switch with its rights. While that is a superuser this is
        refused, unless `allow_superuser`. Roles that are there already are taken as they are.
        """
        operations.invoke(cls(prefix, owner, allow_superuser))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade."""
        return DropRolesOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return ("create_pgvmig_roles", self.prefix)


@Operations.register_operation("drop_pgvmig_roles")
class DropRolesOp(MigrateOperation):
    """Take the roles' rights away."""

    @classmethod
    def drop_pgvmig_roles(cls, operations: Operations) -> None:
        """Take away what was granted in this database, and drop those roles that nothing else needs."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        """Return the upgrade."""
        return CreateRolesOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return ("drop_pgvmig_roles",)


@implementation_for(CreateRolesOp)
def create(operations: Operations, operation: CreateRolesOp) -> None:
    """Create the roles."""
    outcome = roles.create(
        begin(operations), operation.prefix, owner=operation.owner, allow_superuser=operation.allow_superuser
    )
    for warning in outcome.get("warnings", []):
        log.warning("%s", warning)


@implementation_for(DropRolesOp)
def drop(operations: Operations, _operation: DropRolesOp) -> None:
    """Drop the roles."""
    for name, why in roles.drop(begin(operations)).get("kept", {}).items():
        log.warning("role %s stays, without rights in this database: %s", name, why)

"""What autogenerate has to say where no operation can: a comment in the revision, a difference for `alembic check`."""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation


class NoticeOp(MigrateOperation):
    """A hazard that somebody must look at. `alone`: the revision has nothing else, so it needs a statement."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.alone = False

    def reverse(self) -> MigrateOperation:
        """Return what the downgrade says: nothing."""
        return NoticeOp("")

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` shows."""
        return ("pgvmig", self.text)

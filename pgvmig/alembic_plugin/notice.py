"""What autogenerate has to say where no operation can: a comment in the revision, a difference for `alembic check`."""

from __future__ import annotations

import logging
from typing import Any

from alembic.operations import MigrateOperation

# Alembic's own configuration prints what its loggers say; one of ours would need a line in everybody's alembic.ini.
log = logging.getLogger("alembic.autogenerate.pgvmig")


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


def noticed(text: str) -> NoticeOp:
    """Say it now as well: who runs autogenerate reads the revision later, and `alembic check` shows one line."""
    log.warning("%s", text)
    return NoticeOp(text)

"""Before a big index is built: wait until all pacing signals are well. A build cannot be slowed down once it runs."""

from __future__ import annotations

from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.errors import SignalError
from pgvmig.pacing.calm import require_calm
from pgvmig.pacing.configured import configured
from pgvmig.pacing.signals import Subject
from pgvmig.runner import Runner

# What is smaller is built before anybody notices.
BIG = 100 * 1024 * 1024


def require_calm_for(run: Runner, where: Address, home: Table, dsn: str, *, anyway: str) -> None:
    """Wait until every signal is OK, unless the table is small. `anyway`: how to build without waiting.

    Raises SignalError after the configured patience.
    """
    (found,) = run.run(files.query("pace", "to_build", relation=where.table.relation, home=home.relation))
    if (found["bytes"] or 0) < BIG:
        return
    subject = Subject(relation=found["relation"], slot=where.slot, version=where.version)
    try:
        require_calm(dsn, configured().limits, subject)
    except SignalError as error:
        raise SignalError(
            f"the index of {where.label} is not begun: {error.found}",
            hazard="A build reads the whole table, writes as much WAL as the index is large, and cannot be slowed down",
            next_step=f"{error.next_step or 'pgvmig signals'}; {anyway}",
            **error.data,
        ) from error

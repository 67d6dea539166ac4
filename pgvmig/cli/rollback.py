"""`pgvmig rollback`."""

from __future__ import annotations

from datetime import timedelta

import click

from pgvmig import switch
from pgvmig.catalog import versions
from pgvmig.cli import output, switching
from pgvmig.errors import NotFoundError
from pgvmig.lifecycle import State
from pgvmig.runner import ConnectionRunner


@click.command("rollback")
@click.argument("target")
@switching.options
@output.options
def command(
    target: str,
    max_stale_age: timedelta,
    max_evidence_age: timedelta,
    skip: tuple[str, ...],
    reason: str | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Make the version active again that was active before: a switch, not a rebuild.

    The version that is left stays and is kept fresh, so that it can be cut over to again. The same gates hold as for
    the way there. `alembic downgrade -1` after the cutover's revision does the same.

    \b
    JSON: {"changed": true, "version": "v1", "previous": "v2", "skipped": [], "gates": {...}}
    """
    terms = switching.terms(max_stale_age, max_evidence_age, skip, reason)
    with output.connect(dsn) as conn:
        active = [v for v in versions.select(conn, target) if v.state == State.ACTIVE]
        if not active:
            raise NotFoundError(f"{target} has no active version to leave", next_step=f"pgvmig status {target}")
        if active[0].activated_from is None:
            raise NotFoundError(
                f"{active[0].name} is the first version: there is none before it to go back to",
                hazard="Leaving it would take the current view away from whoever searches there",
                next_step="alembic downgrade, if that is what you want",
            )
        outcome = switch.roll_back(ConnectionRunner(conn, "cli"), switching.address(active[0]), terms)
    if as_json:
        output.print_json(outcome)
    else:
        output.say(f"{active[0].label}: {outcome['previous']} -> {outcome['version'] or 'nothing'}")
        output.say(f"To go forward again: pgvmig cutover {active[0].label} {outcome['previous']}")

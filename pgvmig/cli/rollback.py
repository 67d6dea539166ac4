"""`pgvmig rollback`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from pgvmig import config, switch
from pgvmig.catalog import versions
from pgvmig.cli import output, switching
from pgvmig.errors import NotFoundError
from pgvmig.lifecycle import State
from pgvmig.runner import ConnectionRunner


@click.command("rollback")
@click.argument("target")
@switching.reader_option
@switching.options
@output.options
def command(
    target: str,
    max_reader_age: timedelta,
    max_stale_age: timedelta,
    max_evidence_age: timedelta,
    skip: tuple[str, ...],
    reason: str | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Make the version active again that was active before: a switch, not a rebuild.

    The version that is left stays, serves no key any more, and its backfill is paused; `pgvmig cutover` goes there
    again. The same gates hold as for the way there. Then the smoke queries of TARGET run (`pgvmig smoke`): what they
    find is printed and does not change the exit code, the rollback has happened. `alembic downgrade -1` after the
    cutover's revision rolls back in the same way, without smoke queries.

    \b
    JSON: {"changed": true, "version": "v1", "previous": "v2", "paused": "v2", "missing": 3,
           "retyped": null | {"from": "halfvec", "to": "vector"}, "skipped": [], "gates": {...},
           "smoke": [{"text", "expect_key", "found", "as_expected", "milliseconds", "version", "error"}]};
           where they could not be run at all also "smoke_error": why
    """
    terms = switching.terms(max_stale_age, max_evidence_age, skip, reason, max_reader_age)
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
        run, where = ConnectionRunner(conn, "cli"), switching.address(active[0])
        outcome = switch.roll_back(run, where, terms, beside=config.dsn(dsn), tell=switching.tell(as_json=as_json))
        if not as_json:
            _show(outcome, active[0].label)
        switching.smoke_after(conn, active[0].label, outcome, as_json=as_json)
    if as_json:
        output.print_json(outcome)


def _show(outcome: dict[str, Any], label: str) -> None:
    if not outcome["changed"]:  # somebody else was faster
        output.say(f"{label} has been rolled back already: {outcome['version'] or 'nothing'} is active.")
        return
    output.say(f"{label}: {outcome['previous']} -> {outcome['version'] or 'nothing'}")
    if outcome["missing"]:
        version = f"{label} {outcome['version']}"
        output.say(
            f"Rows whose present text was not embedded yet at the switch: {outcome['missing']:,}. "
            f"Next: pgvmig backfill {version}"
        )
    forward = f"pgvmig cutover {label} {outcome['previous']}"
    if outcome["paused"]:
        left = f"{label} {outcome['paused']}"
        output.say(f"The backfill of {outcome['paused']} is paused: its rows fall behind.")
        output.say(f"To go forward again: pgvmig resume {left}, pgvmig backfill {left}, then {forward}")
    else:
        output.say(f"To go forward again: {forward}")

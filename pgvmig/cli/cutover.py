"""`pgvmig cutover`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from pgvmig import config, switch
from pgvmig.catalog import versions
from pgvmig.catalog.versions import Version
from pgvmig.checks import gates
from pgvmig.cli import gate_table, output, switching
from pgvmig.runner import ConnectionRunner


@click.command("cutover")
@click.argument("target")
@click.argument("version")
@click.option("--check", is_flag=True, help="Only ask the gates and say what they found: exit 0 or 4.")
@switching.reader_option
@switching.options
@output.options
def command(
    target: str,
    version: str,
    check: bool,
    max_reader_age: timedelta,
    max_stale_age: timedelta,
    max_evidence_age: timedelta,
    skip: tuple[str, ...],
    reason: str | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Make VERSION the active version of TARGET: the current view and the route, in one transaction.

    The gates run first; when one fails nothing has changed and the exit code is 4. What takes minutes or the provider
    must have been measured before: `pgvmig verify TARGET VERSION` stores it, and a switch takes it while it is not
    older than --max-evidence-age. The version that was active is retained and kept fresh, so `pgvmig rollback TARGET`
    loses nothing. A revision with op.cut_over_embedding() does the same; run afterwards, it finds nothing to do.

    Before it locks the current view it asks the standbys and looks for transactions that hold that view: where one is
    behind or open for longer than --max-reader-age, nothing has changed and the exit code is 4. Afterwards the smoke
    queries of TARGET run (`pgvmig smoke`); what they find does not change the exit code.

    \b
    JSON: {"changed": true, "version": "v2", "previous": "v1", "missing": 3,
           "retyped": null | {"from": "vector", "to": "halfvec"}, "resumed": false, "skipped": [],
           "gates": {"coverage": {...}, ...}, "smoke": as `pgvmig rollback`}
    With --check: {"passed": false, "gates": [{"gate", "passed", "found", "wanted", "next", "measured"}],
           "retyping": null | {"view", "from", "to", "dependents": [...], "obstacles": [...]}}
    """
    terms = switching.terms(max_stale_age, max_evidence_age, skip, reason, max_reader_age)
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version)
        run, where = ConnectionRunner(conn, "cli"), switching.address(found)
        if check:
            facts = switch.expected(run, where)
            results = gates.check(run, found.version_id, terms)
            results += switching.moment(run, facts, config.dsn(dsn), terms)
            if not as_json and (said := switch.warning(facts["retyping"])):
                output.say(said)
            gate_table.tell(results, found.name, as_json=as_json, retyping=facts["retyping"])
            return
        outcome = switch.cut_over(run, where, terms, beside=config.dsn(dsn), tell=switching.tell(as_json=as_json))
        if not as_json:
            _show(found, outcome)
        switching.smoke_after(conn, found.label, outcome, as_json=as_json)
    if as_json:
        output.print_json(outcome)


def _show(found: Version, outcome: dict[str, Any]) -> None:
    if not outcome["changed"]:
        output.say(f"{found.name} is active already.")
        return
    output.say(f"{found.label}: {outcome['previous'] or 'nothing'} -> {found.version}")
    output.say(f"Rows whose present text was not embedded yet at the switch: {outcome['missing']:,}")
    if outcome["previous"]:
        output.say(f"The way back: pgvmig rollback {found.label}")

"""`pgvmig retire`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from pgvmig import retiring
from pgvmig.address import Address
from pgvmig.catalog import versions
from pgvmig.catalog.versions import Version
from pgvmig.checks.gates import GateResult
from pgvmig.cli import output, switching
from pgvmig.errors import BlockedError, UsageError
from pgvmig.pacing.units import size
from pgvmig.runner import ConnectionRunner

REVOKE, RESTORE, CHECK = "revoke", "restore", "check"


class Soak(click.ParamType[timedelta]):
    """A time span such as 90s, 30m, 24h or 7d, as a timedelta."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the text."""
        try:
            return retiring.span(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


@click.command("retire")
@click.argument("target")
@click.argument("version")
@click.option(
    "--soak",
    type=Soak(),
    default="24h",
    show_default=True,
    help="So long it must have been left, and unread: 90s, 24h, 7d.",
)
@click.option("--check", "what", flag_value=CHECK, help="Only say what the gates find; exit 4 when one fails.")
@click.option("--revoke", "what", flag_value=REVOKE, help="Only take the right to read it away, for a soak.")
@click.option("--restore", "what", flag_value=RESTORE, help="Only give that right back.")
@click.option("--skip", metavar="GATE", multiple=True, help="Retire though this gate fails: soak, unused.")
@click.option("--reason", help="Why; kept with the event. Needed with --skip.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where nobody can be asked.")
@output.options
def command(
    target: str,
    version: str,
    soak: timedelta,
    what: str | None,
    skip: tuple[str, ...],
    reason: str | None,
    yes: bool,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Drop VERSION's index, view, triggers and the columns or the table that pgvmig made. Cannot be undone.

    Refused while it is active, serves a share of the keys, or another view or function depends on it; and, when it has
    been active, by two gates. `soak`: it was left at least --soak ago. `unused`: in that time nobody but pgvmig scanned
    its index, on the primary and on every standby with a DSN, nor called a query that names its view where
    pg_stat_statements counts them. Where nobody can tell, --revoke takes SELECT on its view from everybody but the
    owner; who misses it gets it back with --restore, or by a rollback. docs/retire.md has more.

    Its contract and events stay, and so does a column that was adopted: it is the application's own. Stopped in the
    middle, it goes on when it is run again.

    \b
    JSON: {"changed": true, "version": "v1", "index_bytes": 812345, "table_bytes": 0, "held_bytes": 401234,
           "whole_bytes": 2412345, "kept_column": null, "soak_seconds": 86400, "skipped": [], "gates": {...}}
    with --check: {"version": "v1", "passed": true, "gates":
                   [{"gate", "passed", "found", "wanted", "next", "measured"}]}
    with --revoke: {"changed": true, "version": "v1", "revoked": ["PUBLIC"], "readers_left": ["postgres"]}
    with --restore: {"changed": true, "version": "v1", "restored": 1, "gone": []}
    """
    if skip and not reason:
        raise UsageError(
            f"gate {', '.join(skip)} is to be skipped and no reason is given",
            hazard="What is dropped cannot be had back, and somebody will ask",
            next_step="add --reason '...'",
        )
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version)
        run, where = ConnectionRunner(conn, "cli"), switching.address(found)
        if what == CHECK:
            return _check(run, where, found, soak, as_json=as_json)
        if what in (REVOKE, RESTORE):
            _reading_right(run, where, found.name, what, reason, as_json=as_json)
            return 0
        terms = retiring.RetireTerms(soak=soak, skip=list(skip), reason=reason)
        if not yes and found.captured:
            _confirm(run, where, found.name, terms)
        outcome = retiring.retire(run, where, terms)
    if as_json:
        output.print_json(outcome)
    else:
        _tell(found.name, found.label, where, outcome)
    return 0


def _check(run: ConnectionRunner, where: Address, found: Version, soak: timedelta, *, as_json: bool) -> int:
    gates = retiring.check(run, where, soak) if found.captured else []
    passed = all(gate.passed for gate in gates)
    if as_json:
        output.print_json({"version": where.version, "passed": passed, "gates": [asdict(gate) for gate in gates]})
    elif found.unfinished:
        output.say(f"{found.name} is being retired. Next: pgvmig retire {found.name} goes on with it")
    elif not found.captured:
        output.say(f"{found.name} is retired already.")
    elif not gates:
        output.say(f"{found.name} needs no soak: searches were never on it, or its table is empty.")
    else:
        for gate in gates:
            output.say(f"{'passed' if gate.passed else 'FAILED'} {gate.gate}: {gate.found} (wanted: {gate.wanted})")
            if not gate.passed and gate.next:
                output.say(f"       Next: {gate.next}")
    return 0 if passed else BlockedError.exit_code


def _reading_right(
    run: ConnectionRunner, where: Address, name: str, what: str, reason: str | None, *, as_json: bool
) -> None:
    outcome = (retiring.revoke if what == REVOKE else retiring.restore)(run, where, reason)
    if as_json:
        output.print_json(outcome)
    elif what == REVOKE:
        _tell_revoked(name, outcome)
    elif not outcome["changed"]:
        output.say(f"Nothing was taken away from {name}.")
    else:
        output.say(f"Who could read {name} can again.")
        if outcome["gone"]:
            output.say(f"Not so {', '.join(outcome['gone'])}: there is no such role any more.")


def _tell_revoked(name: str, outcome: dict[str, Any]) -> None:
    back = f"pgvmig retire {name} --restore gives it back; a rollback or a cutover to it does so by itself."
    if not outcome["changed"]:
        output.say(f"The right to read {name} is taken away already. {back}")
        return
    output.say(f"{', '.join(outcome['revoked'])} may no longer read {name}. {back}")
    if outcome["readers_left"]:
        output.say(
            f"Who reads it as {', '.join(outcome['readers_left'])} will not notice, as owner, superuser or reader of "
            "all data. Of a service that connects so, this proves nothing."
        )


def _tell(name: str, label: str, where: Address, outcome: dict[str, Any]) -> None:
    if not outcome["changed"]:
        output.say(f"{name} is retired already.")
        return
    freed = outcome["index_bytes"] + outcome["table_bytes"]
    output.say(f"{name} is retired; {size(freed)} are free again.")
    if outcome["held_bytes"]:
        said = retiring.space_left(where.table, outcome)
        output.say(f"{said[:1].upper()}{said[1:]}.")
    if outcome["kept_column"]:
        output.say(
            f"The column {outcome['kept_column']} is your application's and stays, with its vectors and index. To drop "
            f"it: ALTER TABLE {label} DROP COLUMN {outcome['kept_column']}"
        )


def _confirm(run: ConnectionRunner, where: Address, name: str, terms: retiring.RetireTerms) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{name} would be dropped and nobody can be asked",
            hazard="Its vectors cannot be had back",
            next_step="add --yes",
        )
    gates = retiring.check(run, where, terms.soak)
    if any(not gate.passed and gate.gate not in terms.skip for gate in gates):
        return  # it will be refused, with the reason
    _show_skipped(gates)
    loser = retiring.facts(run, where)["way_back_of"]
    lost = f" {loser} loses its way back: `pgvmig rollback` will have nowhere to go." if loser else ""
    click.confirm(f"Drop all vectors of {name}? They cannot be had back.{lost}", abort=True)


def _show_skipped(gates: list[GateResult]) -> None:
    for gate in gates:
        if not gate.passed:
            output.say(f"Skipped gate {gate.gate}: {gate.found}")

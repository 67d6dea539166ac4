"""What `cutover` and `rollback` share: options, the call, and how the outcome is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from textwrap import shorten
from typing import Any

import click
import psycopg

from pgvmig import smoke, switch
from pgvmig.address import Address, Table
from pgvmig.catalog.connection import translate
from pgvmig.catalog.versions import Version
from pgvmig.checks.gates import GateResult
from pgvmig.cli import output
from pgvmig.errors import PgvmigError, UsageError
from pgvmig.runner import Row, Runner
from pgvmig.terms import MAX_EVIDENCE_AGE, MAX_READER_AGE, MAX_STALE_AGE, Terms

_TEXT_SHOWN = 60


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a switch."""
    for option in (
        click.option("--reason", help="Why; kept with the event. Needed with --skip."),
        click.option("--skip", metavar="GATE", multiple=True, help="Switch though this gate fails. May be repeated."),
        click.option(
            "--max-evidence-age",
            type=output.DURATION,
            default=f"{MAX_EVIDENCE_AGE.total_seconds() / 3600:g}h",
            show_default=True,
            help="How old what `pgvmig verify` found may be.",
        ),
        click.option(
            "--max-stale-age",
            type=output.DURATION,
            default=f"{MAX_STALE_AGE.total_seconds():g}s",
            show_default=True,
            help="Rows whose text changed less than this ago do not hold up the switch: a live table always has some.",
        ),
    ):
        command = option(command)
    return command


def reader_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --max-reader-age, for what locks the current view."""
    return click.option(
        "--max-reader-age",
        type=output.DURATION,
        default=f"{MAX_READER_AGE.total_seconds():g}s",
        show_default=True,
        help="How long a transaction may have held the current view, here or on a standby with a DSN.",
    )(command)


def terms(
    max_stale_age: timedelta,
    max_evidence_age: timedelta,
    skip: tuple[str, ...],
    reason: str | None,
    max_reader_age: timedelta = MAX_READER_AGE,
) -> Terms:
    """Return the switch's terms. Raises UsageError for a skipped gate without a reason."""
    if skip and not reason:
        raise UsageError(
            f"gate {', '.join(skip)} is to be skipped and no reason is given",
            hazard="Whoever looks into the wrong answers later must find out why",
            next_step="add --reason '...'",
        )
    return Terms(
        max_stale_age=max_stale_age,
        max_evidence_age=max_evidence_age,
        max_reader_age=max_reader_age,
        skip=list(skip),
        reason=reason,
    )


def address(version: Version) -> Address:
    """Return the address of a version from the catalog."""
    return Address(table=Table(version.table_schema, version.table_name), version=version.version, slot=version.slot)


def moment(run: Runner, facts: Row, dsn: str, terms: Terms) -> list[GateResult]:
    """Return what speaks against a switch at this moment as gates: standbys, long readers, what cannot be made anew."""
    found = []
    verdict = switch.asked(run, facts, dsn, terms)
    if verdict is not None:
        wanted = "no declared standby is behind its limit, and no long transaction holds the current view"
        found.append(GateResult("standbys", verdict.may_write, verdict.reason, wanted, verdict.next_step, {}))
    obstacles = (facts["retyping"] or {}).get("obstacles")
    if obstacles:
        step = "drop them or have them read the table, switch, and make them again over the new view"
        words = f"the view must be made anew, and so must what cannot be: {'; '.join(obstacles)}"
        found.append(GateResult("retyping", False, words, "only plain views show the current view", step, {}))
    return found


def tell(*, as_json: bool) -> Callable[[str], None] | None:
    """Return how to say beforehand what clients must expect; in JSON it is in the outcome."""
    return None if as_json else output.say


def smoke_after(conn: psycopg.Connection[Any], target: str, outcome: dict[str, Any], *, as_json: bool) -> None:
    """Run the target's smoke queries after a switch, and add what they found to its outcome.

    The switch has happened: whatever goes wrong here is said, and changes nothing.
    """
    if not outcome["changed"]:
        return
    outcome["smoke"] = []
    try:
        with output.needs("worker"):
            outcome["smoke"] = smoke.run(conn, target)
    except (PgvmigError, psycopg.Error) as error:
        why = error if isinstance(error, PgvmigError) else translate(error)
        outcome["smoke_error"] = why.found
        if not as_json:
            output.say(f"The smoke queries were not run: {why}")
        return
    if not as_json and outcome["smoke"]:
        show_smoke(outcome["smoke"])


def show_smoke(outcomes: list[smoke.Outcome]) -> None:
    """Print what smoke queries found."""
    rows = [
        (
            "good" if o.as_expected else "BAD",
            None if o.milliseconds is None else f"{o.milliseconds:.1f} ms",
            shorten(o.text, _TEXT_SHOWN, placeholder="..."),
            o.expect_key,
            o.error or (f"{len(o.found)}: {', '.join(o.found[:3])}" if o.found else "nothing"),
        )
        for o in outcomes
    ]
    version = next((o.version for o in outcomes), None)
    output.table(f"Smoke queries through the current view ({version})", ("", "took", "text", "expects", "found"), rows)

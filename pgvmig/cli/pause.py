"""`pgvmig pause`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
import psycopg

from pgvmig.catalog import control
from pgvmig.cli import output


@click.command("pause")
@click.argument("target", required=False)
@click.option("--reason", help="Why; shown to whoever finds a worker waiting.")
@output.options
def command(target: str | None, reason: str | None, dsn: str | None, as_json: bool) -> None:
    """Let workers write nothing to TARGET, or to anything in this database, until `pgvmig resume`.

    Holds for workers that run and for those that start later. A batch that is being written is finished: after half a
    second and one transaction nothing is written any more. A run without --follow waits for 30 seconds and ends with
    exit code 3, a run with --follow waits.

    \b
    JSON: {"changed": true, "pauses": [{"target": "documents", "paused_at": "...", "paused_by": "dba",
           "reason": null, ...}]}; a target of null is everything
    """
    with output.connect(dsn) as conn:
        what = control.scope(conn, target)
        changed = control.pause(conn, what, reason)
        pauses = control.pauses(conn)
    if as_json:
        show_json(changed, pauses)
        return
    said = f"is paused. Next, to go on: pgvmig resume{_argument(what.label)}" if changed else "was paused before."
    output.say(f"{what.label or 'Everything'} {said}")
    for found in pauses:
        output.say(f"  {describe(found)}")


def describe(pause: control.Pause) -> str:
    """Return a line about a pause."""
    why = f": {pause.reason}" if pause.reason else ""
    return f"{pause.target or 'everything'} paused by {pause.paused_by} since {pause.paused_at:%Y-%m-%d %H:%M}{why}"


def show_json(changed: bool, pauses: list[control.Pause]) -> None:
    """Print what `pause` and `resume` have in common."""
    output.print_json({"changed": changed, "pauses": [asdict(pause) for pause in pauses]})


def still_paused(conn: psycopg.Connection[Any], what: control.Scope) -> list[control.Pause]:
    """Return the pauses that keep `what` from being written; of everything, all of them."""
    pauses = control.pauses(conn)
    if what.relation is None:
        return pauses
    return [p for p in pauses if p.relation is None or (p.relation, p.slot) == (what.relation, what.slot)]


def _argument(label: str | None) -> str:
    return f" {label}" if label else ""

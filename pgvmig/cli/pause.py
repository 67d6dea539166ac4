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
@click.argument("version", required=False)
@click.option("--reason", help="Why; shown to whoever finds a worker waiting.")
@output.options
def command(target: str | None, version: str | None, reason: str | None, dsn: str | None, as_json: bool) -> None:
    """Let workers write nothing to TARGET, to one VERSION of it, or to anything in this database.

    Until `pgvmig resume`, for workers that run and for those that start later. A batch that is being written is
    finished: after half a second and one transaction nothing is written any more. A run without --follow waits for 30
    seconds and ends with exit code 3, a run with --follow waits. A rollback pauses the version that it leaves.

    \b
    JSON: {"changed": true, "pauses": [{"target": "documents", "version": null, "paused_at": "...",
           "paused_by": "dba", "reason": null, ...}]}; a target of null is everything, a version of null all
           versions of the target
    """
    with output.connect(dsn) as conn:
        what = control.scope(conn, target, version)
        changed = control.pause(conn, what, reason)
        pauses = control.pauses(conn)
    if as_json:
        show_json(changed, pauses)
        return
    said = f"is paused. Next, to go on: {resuming(what)}" if changed else "was paused before."
    output.say(f"{what.words or 'Everything'} {said}")
    for found in pauses:
        output.say(f"  {describe(found)}")


def describe(pause: control.Pause) -> str:
    """Return a line about a pause."""
    why = f": {pause.reason}" if pause.reason else ""
    return f"{words(pause) or 'everything'} paused by {pause.paused_by} since {pause.paused_at:%Y-%m-%d %H:%M}{why}"


def words(pause: control.Pause) -> str:
    """Return what commands call what is paused: `documents v2`, nothing for everything."""
    return " ".join(word for word in (pause.target, pause.version) if word)


def resuming(what: control.Scope | control.Pause) -> str:
    """Return the command that takes the pause back."""
    return f"pgvmig resume {what.words if isinstance(what, control.Scope) else words(what)}".rstrip()


def show_json(changed: bool, pauses: list[control.Pause]) -> None:
    """Print what `pause` and `resume` have in common."""
    output.print_json({"changed": changed, "pauses": [asdict(pause) for pause in pauses]})


def still_paused(conn: psycopg.Connection[Any], what: control.Scope) -> list[control.Pause]:
    """Return the pauses that keep `what` from being written; of everything, all of them."""
    pauses = control.pauses(conn)
    if what.relation is None:
        return pauses
    of_target = [p for p in pauses if p.relation is None or (p.relation, p.slot) == (what.relation, what.slot)]
    return [p for p in of_target if what.version is None or p.version in {None, what.version}]

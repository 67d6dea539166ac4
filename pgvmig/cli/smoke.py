"""`pgvmig smoke`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from pgvmig import smoke
from pgvmig.cli import output, switching

BLOCKED = 4


@click.group("smoke")
def command() -> None:
    """Searches that must work whatever is active: they run after every cutover and rollback of the command line.

    A smoke query is embedded with the active version's model and searched through the current view. It is good when it
    finds the row that it expects among the first ten, or, without --expect, any row at all.
    """


@command.command("add")
@click.argument("target")
@click.argument("text")
@click.option("--expect", metavar="KEY", help="The key of a row that must be found; of several columns as a,b.")
@output.options
def add(target: str, text: str, expect: str | None, dsn: str | None, as_json: bool) -> None:
    """Add the search for TEXT in TARGET, or change what it expects.

    \b
    JSON: {"changed": true, "queries": [{"text", "expect_key", "added_at", "added_by"}]}
    """
    with output.connect(dsn) as conn:
        changed = smoke.add(conn, target, text, expect)
        stored = smoke.queries(conn, target)
    if as_json:
        output.print_json({"changed": changed, "queries": stored})
    else:
        output.say(f"{_counted(stored)} of {target}. To run: pgvmig smoke run {target}")


@command.command("remove")
@click.argument("target")
@click.argument("text")
@output.options
def remove(target: str, text: str, dsn: str | None, as_json: bool) -> None:
    """Take the search for TEXT away.

    \b
    JSON: as `add`
    """
    with output.connect(dsn) as conn:
        smoke.remove(conn, target, text)
        stored = smoke.queries(conn, target)
    if as_json:
        output.print_json({"changed": True, "queries": stored})
    else:
        output.say(f"{_counted(stored)} of {target}.")


@command.command("list")
@click.argument("target")
@output.options
def show(target: str, dsn: str | None, as_json: bool) -> None:
    """List the smoke queries of TARGET.

    \b
    JSON: {"queries": [{"text", "expect_key", "added_at", "added_by"}]}
    """
    with output.connect(dsn) as conn:
        stored = smoke.queries(conn, target)
    if as_json:
        output.print_json({"queries": stored})
    elif not stored:
        output.say(f'{target} has none. Add one: pgvmig smoke add {target} "how do I ..." --expect 42')
    else:
        rows = [(query.expect_key, query.added_by, query.text) for query in stored]
        output.table(f"Smoke queries of {target}", ("expects", "added by", "text"), rows)


@command.command("run")
@click.argument("target")
@output.options
def run(target: str, dsn: str | None, as_json: bool) -> int:
    """Run the smoke queries of TARGET now: exit 0 when all are good, else 4.

    \b
    JSON: {"passed": true, "queries": [{"text", "expect_key", "found": ["42", ...], "as_expected": true,
           "milliseconds": 3.1, "version": "v2", "error": null}]}
    """
    with output.connect(dsn) as conn, output.needs("worker"):
        outcomes = smoke.run(conn, target)
    passed = all(outcome.as_expected for outcome in outcomes)
    if as_json:
        output.print_json({"passed": passed, "queries": outcomes})
    elif not outcomes:
        output.say(f'{target} has no smoke queries. Add one: pgvmig smoke add {target} "how do I ..." --expect 42')
    else:
        switching.show_smoke(outcomes)
    return 0 if passed else BLOCKED


def _counted(stored: Sequence[smoke.SmokeQuery]) -> str:
    return "1 smoke query" if len(stored) == 1 else f"{len(stored):,} smoke queries"

"""`pgvmig retire`."""

from __future__ import annotations

import sys

import click

from pgvmig import switch
from pgvmig.catalog import versions
from pgvmig.cli import output, switching
from pgvmig.errors import UsageError
from pgvmig.runner import ConnectionRunner


@click.command("retire")
@click.argument("target")
@click.argument("version")
@click.option("--reason", help="Why; kept with the event.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where nobody can be asked.")
@output.options
def command(target: str, version: str, reason: str | None, yes: bool, dsn: str | None, as_json: bool) -> None:
    """Drop VERSION's index, view, triggers and the columns or the table that pgvmig made. Cannot be undone.

    Refused while the version is active or another view depends on its view. Its contract and events stay, and a column
    that was adopted stays with its vectors: it is the application's own.

    \b
    JSON: {"changed": true, "version": "v1", "index_bytes": 812345, "table_bytes": 0, "kept_column": null}
    """
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version)
        if not yes:
            _confirm(found.name)
        outcome = switch.retire(ConnectionRunner(conn, "cli"), switching.address(found), reason)
    if as_json:
        output.print_json(outcome)
    elif not outcome["changed"]:
        output.say(f"{found.name} is retired already.")
    else:
        freed = outcome["index_bytes"] + outcome["table_bytes"]
        output.say(f"{found.name} is retired; {freed:,} bytes are free again.")
        if outcome["kept_column"]:
            output.say(
                f"The column {outcome['kept_column']} is your application's and stays. To drop it: "
                f"ALTER TABLE {found.label} DROP COLUMN {outcome['kept_column']}"
            )


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{name} would be dropped and nobody can be asked",
            hazard="Its vectors cannot be had back",
            next_step="add --yes",
        )
    click.confirm(f"Drop all vectors of {name}? They cannot be had back.", abort=True)

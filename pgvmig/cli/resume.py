"""`pgvmig resume`."""

from __future__ import annotations

import click

from pgvmig.catalog import control
from pgvmig.cli import output
from pgvmig.cli.pause import describe, resuming, show_json, still_paused


@click.command("resume")
@click.argument("target", required=False)
@click.argument("version", required=False)
@output.options
def command(target: str | None, version: str | None, dsn: str | None, as_json: bool) -> None:
    """Take back `pgvmig pause TARGET [VERSION]`, or without TARGET the pause of everything.

    Pauses of everything, of tables and of versions are apart: each is taken back on its own. That of a version which a
    rollback has left is one of them; a cutover to the version takes it back as well.

    \b
    JSON: as `pgvmig pause`, with the pauses that still hold for TARGET
    """
    with output.connect(dsn) as conn:
        what = control.scope(conn, target, version)
        changed = control.resume(conn, what)
        left = still_paused(conn, what)
    if as_json:
        show_json(changed, left)
        return
    name = what.words or "Everything"
    output.say(f"{name} {'goes on' if changed else 'was not paused'}{' but for what follows' if left else ''}.")
    for pause in left:
        output.say(f"Still {describe(pause)}. Next: {resuming(pause)}")

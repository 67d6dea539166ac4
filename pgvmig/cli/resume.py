"""`pgvmig resume`."""

from __future__ import annotations

import click

from pgvmig.catalog import control
from pgvmig.cli import output
from pgvmig.cli.pause import describe, show_json, still_paused


@click.command("resume")
@click.argument("target", required=False)
@output.options
def command(target: str | None, dsn: str | None, as_json: bool) -> None:
    """Take back `pgvmig pause TARGET`, or without TARGET the pause of everything.

    The pause of everything and those of tables are apart: each is taken back on its own.

    \b
    JSON: as `pgvmig pause`, with the pauses that still hold for TARGET
    """
    with output.connect(dsn) as conn:
        what = control.scope(conn, target)
        changed = control.resume(conn, what)
        left = still_paused(conn, what)
    if as_json:
        show_json(changed, left)
        return
    name = what.label or "Everything"
    output.say(f"{name} {'goes on' if changed else 'was not paused'}{' but for what follows' if left else ''}.")
    for pause in left:
        output.say(f"Still {describe(pause)}. Next: pgvmig resume{f' {pause.target}' if pause.target else ''}")

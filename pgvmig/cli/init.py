"""`pgvmig init`."""

from __future__ import annotations

import click

from pgvmig import hazards
from pgvmig.catalog import schema
from pgvmig.cli import output
from pgvmig.runner import ConnectionRunner


@click.command("init")
@output.options
def command(dsn: str | None, as_json: bool) -> None:
    """Install or upgrade the control schema `pgvmig`, and pgvector where it is missing.

    Does what op.install_pgvmig() does in a revision, and nothing when the schema is current.

    \b
    JSON: {"schema_version": 1, "changed": true}
    """
    with output.connect(dsn, check_schema=False) as conn, conn.transaction():
        run = ConnectionRunner(conn)
        changed = schema.install(run)
        mind = hazards.of_the_control_schema(run)
    if as_json:
        output.print_json({"schema_version": schema.newest(), "changed": changed})
    elif changed:
        output.say(f"Control schema version {schema.newest()} installed.")
        output.say("Next: op.add_embedding() in a revision, and `pgvmig standby add NAME` or `pgvmig standby none`")
        if mind:
            output.say(f"Mind: {mind}")
    else:
        output.say(f"Control schema version {schema.newest()} is there already.")

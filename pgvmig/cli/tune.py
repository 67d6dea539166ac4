"""`pgvmig tune`."""

from __future__ import annotations

import json
from typing import Any

import click

from pgvmig import adding
from pgvmig.catalog import versions
from pgvmig.cli import output, switching
from pgvmig.errors import UsageError
from pgvmig.runner import ConnectionRunner
from pgvmig.space import MOST_OVERSAMPLE


@click.command("tune")
@click.argument("target")
@click.argument("version")
@click.option("--ef-search", type=click.IntRange(1, 1000), help="Candidates that HNSW keeps: more find more, slower.")
@click.option("--probes", type=click.IntRange(1, 32768), help="Lists that IVFFlat looks into.")
@click.option(
    "--iterative-scan",
    type=click.Choice(["off", "strict_order", "relaxed_order"]),
    help="Whether a scan goes on until enough rows pass the conditions.",
)
@click.option("--max-scan-tuples", type=click.IntRange(1), help="Where an iterative scan of HNSW gives up.")
@click.option("--max-probes", type=click.IntRange(1, 32768), help="Where an iterative scan of IVFFlat gives up.")
@click.option(
    "--oversample",
    type=click.IntRange(1, MOST_OVERSAMPLE),
    help="Candidates for each result that a binary index is asked for, to be ranked again. [default: 10]",
)
@click.option("--set", "more", metavar="JSON", help='The services\' own, such as \'{"reranker": "bge-2"}\'.')
@click.option("--reset", is_flag=True, help="Forget the other settings.")
@click.option("--reason", help="Why; kept with the event.")
@output.options
def command(
    target: str,
    version: str,
    more: str | None,
    reset: bool,
    reason: str | None,
    dsn: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Change how VERSION of TARGET is searched, or show it: what pgvmig.active_space() hands to services.

    The settings belong to the version and switch with it. The recall that `pgvmig verify` measured was measured with
    the settings of then: run it again. Services that listen on pgvmig_switch hear of a change to the active version.

    \b
    JSON: {"changed": true, "search": {"ef_search": 100, "iterative_scan": "strict_order"}}
    """
    wanted = {name: value for name, value in given.items() if value is not None} | _read(more)
    with output.connect(dsn) as conn, conn.transaction():
        found = versions.find(conn, target, version)
        query = "SELECT search FROM pgvmig.version WHERE version_id = %s FOR UPDATE"
        (present,) = conn.execute(query, [found.version_id]).fetchone() or ({},)
        search = wanted if reset else present | wanted
        changed = False
        if wanted or reset:
            run = ConnectionRunner(conn, "cli")
            changed = bool(adding.set_search(run, switching.address(found), search, reason))
    if as_json:
        output.print_json({"changed": changed, "search": search})
    else:
        output.say(f"{found.name} is searched with {json.dumps(search) if search else 'the defaults'}.")
        if changed:
            output.say(f"Recall was measured with other settings. Next: pgvmig verify {found.name} --only recall")


def _read(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"--set {text} is not a JSON object", next_step='write --set \'{"reranker": "bge-2"}\'')
    return found

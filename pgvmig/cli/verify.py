"""`pgvmig verify`."""

from __future__ import annotations

from datetime import timedelta

import click

from pgvmig.catalog import versions
from pgvmig.cli import gate_table, output
from pgvmig.cli.progress import bars
from pgvmig.errors import IllegalTransitionError
from pgvmig.lifecycle import State
from pgvmig.terms import MAX_STALE_AGE, Terms


@click.command("verify")
@click.argument("target")
@click.argument("version", required=False)
@click.option("--only", metavar="GATE", multiple=True, help="Run this gate only. May be repeated.")
@click.option(
    "--sample",
    type=click.IntRange(1, 10_000),
    default=32,
    show_default=True,
    help="Rows that the provider embeds again, for identity.",
)
@click.option(
    "--queries",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Searches that are compared with exact ones, for recall.",
)
@click.option(
    "--min-recall",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="The share of the ten nearest that the index must find.",
)
@click.option(
    "--max-stale-age",
    type=output.DURATION,
    default=f"{MAX_STALE_AGE.total_seconds():g}s",
    show_default=True,
    help="Rows whose text changed less than this ago do not count: a live table always has some.",
)
@output.options
def command(
    target: str,
    version: str | None,
    only: tuple[str, ...],
    sample: int,
    queries: int,
    min_recall: float,
    max_stale_age: timedelta,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Prove that VERSION of TARGET is ready to be cut over to: run every gate. Without VERSION: the newest.

    Five of them are measured here only, and stored for the switch, which takes them while they are not older than its
    --max-evidence-age (24 h) and nothing that they were about has changed:

    \b
    identity    a sample is embedded again by the provider and compared with the stored vectors
    hashes      the hash of every text, computed by the database, is that of its vector
    health      every vector has its dimensions and length, is finite and not zero
    visibility  each role that reads the current view sees the same rows through the version's
    recall      searches through the version's view and index, compared with exact ones

    All but the sample's texts stays in the database. Tables are read in transactions of half a second, so that vacuum
    is not held up; an exact search takes as long as reading the table once. What could not be measured (the provider
    is down or not configured, there is no index) fails and is not stored: what was found before stays in force.
    `pgvmig cutover TARGET VERSION --check` asks the gates without measuring anything.

    Exit codes: 0 every gate passes, 4 one does not.

    \b
    JSON: {"passed": false, "gates": [{"gate", "passed", "found", "wanted", "next", "measured"}]}
    """
    with output.connect(dsn) as conn, output.needs("worker"):
        from pgvmig.checks.evidence import Options
        from pgvmig.checks.verify import verify

        found = _newest(versions.select(conn, target, version))
        with bars(shown=not as_json) as report:
            results = verify(
                conn,
                found,
                Terms(max_stale_age=max_stale_age),
                Options(sample=sample, queries=queries, min_recall=min_recall),
                report=report,
                only=only,
            )
    gate_table.tell(results, found.name, as_json=as_json)
    if not only and not as_json and found.state in (State.READY, State.RETAINED):
        output.say(f"Next: pgvmig cutover {found.name}, or as a revision: pgvmig scaffold cutover {found.name}")


def _newest(found: list[versions.Version]) -> versions.Version:
    """Return the newest of them that is not retired."""
    there = [version for version in found if version.state != State.RETIRED]
    if not there:
        raise IllegalTransitionError(
            f"{found[-1].name} is retired", next_step="op.add_embedding() adds it again, empty"
        )
    return there[-1]

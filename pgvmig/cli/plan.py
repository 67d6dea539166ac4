"""`pgvmig plan`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from pgvmig.cli import output
from pgvmig.contract import MAX_INDEXED, VECTOR_TYPES, why_halfvec
from pgvmig.planning import subject
from pgvmig.planning.advice import duration, percent, size
from pgvmig.planning.costs import Cost
from pgvmig.planning.plan import Plan
from pgvmig.runner import ConnectionRunner


@click.command("plan")
@click.argument("target")
@click.argument("version")
@click.option("--dimensions", type=click.IntRange(1), help="Of the new model, while VERSION is not there yet.")
@click.option("--vector-type", type=click.Choice(VECTOR_TYPES), help="[default: halfvec above 2,000 dimensions]")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Rows a second that the provider embeds.")
@click.option("--exact", is_flag=True, help="Count the rows, which reads the whole table, and do not estimate.")
@output.options
def command(
    target: str,
    version: str,
    dimensions: int | None,
    vector_type: str | None,
    rate: float | None,
    exact: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Say which layout to choose for VERSION of TARGET, why, and what its backfill costs.

    Before op.add_embedding() give the new model's --dimensions; afterwards the contract has them. A few hundred of the
    table's pages are read, and page-striped batches played through on them: how many updates find room on their own
    page (HOT) and leave the table's indexes alone. WAL, disk and times are estimates. Nothing is changed.

    \b
    JSON: {"target", "version", "recommended": "column", "reasons": [...], "rows", "waiting", "exact", "rate",
           "sample": {"pages", "rows_per_page", "row_bytes", "row_bytes_with_vector", "free_bytes_per_page"},
           "column": {"hot_share": 0.89, "wal_bytes", "table_bytes", "toast_bytes", "index_bytes",
                      "rows_per_second", "seconds"}, "table": {...},
           "churn": [{"index", "method", "bytes", "entries", "entries_per_second"}], "index_memory",
           "triggers": [...], "publications": [...], "warnings": [{"found", "hazard", "next"}]}
    """
    with output.connect(dsn) as conn:
        found = subject.plan(
            ConnectionRunner(conn, "cli"),
            target,
            version,
            dimensions=dimensions,
            vector_type=vector_type,
            exact=exact,
            rate=rate,
        )
    if as_json:
        output.print_json(asdict(found))
    else:
        _show(found)
        if vector_type is None and found.vector_type == "halfvec" and found.dimensions > MAX_INDEXED["vector"]:
            output.say(f"Mind: {why_halfvec(found.dimensions)}.")


def _show(plan: Plan) -> None:
    output.say(f'{plan.target} {plan.version}: choose layout="{plan.recommended}": {"; ".join(plan.reasons)}.')
    sample = plan.sample
    output.say(
        f"{'' if plan.exact else 'About '}{plan.rows:,} rows, {plan.waiting:,} of them to embed. Of {sample.pages} "
        f"sampled pages: {sample.rows_per_page} rows a page, {sample.row_bytes:,} bytes a row, "
        f"{sample.row_bytes_with_vector:,} with its vector."
    )
    output.table("Estimates", ("", "column", "table"), _lines(plan))
    if plan.churn:
        title = "What is not HOT writes into"
        columns = ("index", "method", "size", "entries", "entries/s")
        output.table(
            title, columns, [(c.index, c.method, size(c.bytes), c.entries, c.entries_per_second) for c in plan.churn]
        )
    for warning in plan.warnings:
        output.say(f"Mind: {warning.found}. {warning.hazard}.")
        output.say(f"Next: {warning.next}")


def _lines(plan: Plan) -> list[tuple[Any, ...]]:
    column, table = (_said(cost) for cost in (plan.column, plan.table))
    return [(what, *pair) for what, *pair in zip(_asked(plan), column, table, strict=True)]


def _asked(plan: Plan) -> list[str]:
    return [
        "HOT updates",
        "WAL",
        "table grows, or side table",
        "TOAST",
        "new HNSW index",
        "disk in all",
        "rows/s the database takes",
        "time at that speed" if plan.rate is None else f"time at {plan.rate:g} rows/s embedded",
    ]


def _said(cost: Cost) -> list[str | None]:
    return [
        None if cost.hot_share is None else percent(cost.hot_share),
        size(cost.wal_bytes),
        size(cost.table_bytes),
        size(cost.toast_bytes),
        size(cost.index_bytes),
        size(cost.disk_bytes),
        f"{cost.rows_per_second:,.0f}",
        duration(cost.seconds),
    ]

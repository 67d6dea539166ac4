"""`pgvmig trigger add|list|remove`."""

from __future__ import annotations

from datetime import timedelta

import click

from pgvmig.catalog import versions
from pgvmig.cli import output
from pgvmig.errors import UsageError
from pgvmig.watch import triggers
from pgvmig.watch.judging import DEFAULT_MIN_VALUES, DEFAULT_OVER, Trigger, span
from pgvmig.watch.triggers import Declared


@click.group("trigger")
def command() -> None:
    """Rollback triggers: the figures from production at which to go back, declared before the cutover.

    `pgvmig watch` checks them. The figures come from services, by pgvmig.record_outcome().
    """


@command.command("add")
@click.argument("target")
@click.argument("metric")
@click.option("--above", type=float, help="Trip when the figure is above this.")
@click.option("--below", type=float, help="Trip when the figure is below this.")
@click.option("--relative", is_flag=True, help="The bound is a multiple of what the version before had.")
@click.option("--p95", is_flag=True, help="Compare the 95th percentile instead of the mean.")
@click.option(
    "--over",
    type=output.DURATION,
    default=f"{DEFAULT_OVER.total_seconds() / 60:g}m",
    show_default=True,
    help="Of the values of the last so long, and for --relative of as long before the version before was left.",
)
@click.option(
    "--min-values",
    type=int,
    default=DEFAULT_MIN_VALUES,
    show_default=True,
    help="With fewer values nothing is concluded.",
)
@output.options
def add(
    target: str,
    metric: str,
    above: float | None,
    below: float | None,
    relative: bool,
    p95: bool,
    over: timedelta,
    min_values: int,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Declare when to leave the version that TARGET was switched to: METRIC above or below a bound.

    Of a metric and a side the last declaration counts. While a version is tried on a share of the keys (`pgvmig route`)
    it is judged by the same triggers, against the active version at the same time.

    \b
    pgvmig trigger add documents errors --above 0.05
    pgvmig trigger add documents latency_ms --above 1.5 --relative --p95 --over 10m
    pgvmig trigger add documents clicks --below 0.9 --relative

    \b
    JSON: as `pgvmig trigger list`
    """
    if (above is None) == (below is None):
        raise UsageError(
            "a trigger has one bound", next_step=f"pgvmig trigger add {target} {metric} --above 0.05, or --below 0.3"
        )
    trigger = Trigger(
        metric=metric,
        comparison="above" if below is None else "below",
        bound=above if above is not None else below or 0.0,
        relative=relative,
        statistic="p95" if p95 else "mean",
        over=over,
        min_values=min_values,
    )
    with output.connect(dsn) as conn:
        version = versions.select(conn, target)[0]
        triggers.declare(conn, version, trigger)
        found = triggers.declared(conn, version)
    _show(version.label, found, as_json=as_json)
    if not as_json:
        output.say(f"Next: pgvmig watch {version.label}")


@command.command("list")
@click.argument("target")
@output.options
def show(target: str, dsn: str | None, as_json: bool) -> None:
    """Show the triggers of TARGET.

    \b
    JSON: {"target": "documents", "triggers": [{"metric": "errors", "comparison": "above", "bound": 0.05,
           "relative": false, "statistic": "mean", "over": 300.0, "min_values": 50, "declared_at", "declared_by"}]}
    """
    with output.connect(dsn) as conn:
        version = versions.select(conn, target)[0]
        found = triggers.declared(conn, version)
    _show(version.label, found, as_json=as_json)


@command.command("remove")
@click.argument("target")
@click.argument("metric")
@click.option("--above", "comparison", flag_value="above", help="Only the one above a bound.")
@click.option("--below", "comparison", flag_value="below", help="Only the one below a bound.")
@output.options
def remove(target: str, metric: str, comparison: str | None, dsn: str | None, as_json: bool) -> None:
    """Take the triggers of TARGET on METRIC back.

    \b
    JSON: as `pgvmig trigger list`: those that are left
    """
    with output.connect(dsn) as conn:
        version = versions.select(conn, target)[0]
        triggers.remove(conn, version, metric, comparison)
        found = triggers.declared(conn, version)
    _show(version.label, found, as_json=as_json)


def _show(target: str, found: list[Declared], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"target": target, "triggers": [each.plain() for each in found]})
    elif not found:
        output.say(f"{target} has no triggers. Next: pgvmig trigger add {target} errors --above 0.05")
    else:
        columns = ("trips when", "over", "values", "declared")
        output.table(
            f"Triggers of {target}",
            columns,
            [
                (
                    d.trigger.name,
                    span(d.trigger.over),
                    f"{d.trigger.min_values}+",
                    f"{d.declared_at:%Y-%m-%d} by {d.declared_by}",
                )
                for d in found
            ],
        )

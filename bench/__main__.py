"""`python -m bench`: run measurements and print one table."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from bench import (
    capture_cost,
    column_hot,
    foreground,
    growth,
    lag,
    latency,
    machine,
    million,
    processes,
    stage,
    switching,
    table_write,
)
from bench.figures import Measurement
from bench.peers import compare
from bench.report import Report
from bench.stage import Stage

MEASUREMENTS: tuple[Measurement, ...] = (
    table_write.MEASUREMENT,
    column_hot.MEASUREMENT,
    capture_cost.MEASUREMENT,
    latency.MEASUREMENT,
    million.MEASUREMENT,
    processes.MEASUREMENT,
    foreground.MEASUREMENT,
    lag.MEASUREMENT,
    growth.MEASUREMENT,
    switching.MEASUREMENT,
)
PEERS: tuple[Measurement, ...] = (compare.MEASUREMENT,)


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Measure only this; repeatable. --list names them.")
@click.option("--list", "listed", is_flag=True, help="Name the measurements and end.")
@click.option("--peers", is_flag=True, help="Compare with vecshift and pgai, which are installed beside pgvmig.")
@click.option("--quick", is_flag=True, help="Tiny sizes, once: to see that it works. The figures mean nothing.")
@click.option(
    "--repetitions",
    type=click.IntRange(1),
    default=stage.REPETITIONS,
    show_default=True,
    help="Samples of each figure.",
)
@click.option("--rows", type=click.IntRange(1), default=stage.ROWS, show_default=True, help="Of the biggest table.")
@click.option("--markdown", "form", flag_value="markdown", help="Print the table as Markdown.")
@click.option("--json", "form", flag_value="json", help="Print everything as JSON.")
@click.option("--write", "document", type=click.Path(path_type=Path, exists=True), help="Also put it into a document.")
def main(
    *,
    only: tuple[str, ...],
    listed: bool,
    peers: bool,
    quick: bool,
    repetitions: int,
    rows: int,
    form: str | None,
    document: Path | None,
) -> None:
    """Measure pgvmig on the embedded PostgreSQL, everything in one run on one server.

    Exits 1 when a measurement could not be made; a missed target is in the table only, figures depend on the machine.
    """
    known = PEERS if peers else MEASUREMENTS
    if document is not None and (only or quick):
        raise click.UsageError("--write puts the whole table into a document: without --only and --quick")
    if listed:
        for measurement in known:
            click.echo(f"{measurement.name:<14} {measurement.about}")
        return
    with stage.opened(quick=quick, repetitions=repetitions, rows=rows) as on:
        report, failed = measure(on, chosen(known, only), peers=peers)
    if document is not None and not failed:
        report.write(document)
    _show(report, form)
    sys.exit(bool(failed))


def chosen(known: Sequence[Measurement], only: Sequence[str]) -> list[Measurement]:
    """Return the measurements of these names, all without names. Raises click.BadParameter."""
    unknown = set(only) - {measurement.name for measurement in known}
    if unknown:
        names = ", ".join(measurement.name for measurement in known)
        raise click.BadParameter(f"there is no {min(unknown)}; there are {names}", param_hint="--only")
    return [measurement for measurement in known if not only or measurement.name in only]


def measure(on: Stage, measurements: Sequence[Measurement], *, peers: bool) -> tuple[Report, list[str]]:
    """Make the measurements on one server; one that fails does not take the others with it. Returns its name, too."""
    section = "bench-peers" if peers else "bench"
    options = f"{' --peers' * peers}{' --quick' * on.quick}{on.options}"
    command = f"python -m bench{options}" if on.quick or on.options else f"make {section}"
    report, failed = Report(command, section, machine.shape(on)), []
    for measurement in measurements:
        on.say(f"{measurement.name}: {measurement.about}")
        began = time.monotonic()
        try:
            figures = list(measurement.run(on))
        except Exception:  # noqa: BLE001  # shown at once, and in the exit code
            traceback.print_exc()
            failed.append(measurement.name)
        else:
            report.measured.append((measurement, figures, time.monotonic() - began))
    return report, failed


def _show(report: Report, form: str | None) -> None:
    if form == "json":
        click.echo(report.as_json())
    elif form == "markdown":
        click.echo(report.markdown())
    else:
        report.show()
        if report.missed:
            click.echo(f"{report.missed} target(s) missed.")


if __name__ == "__main__":
    main()

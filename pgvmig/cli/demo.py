"""`pgvmig demo`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pgvmig.cli import output

PASSAGES = 1500


@click.command("demo")
@click.option("--rows", type=click.IntRange(min=50), default=PASSAGES, show_default=True, help="Passages in the table.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to leave the report. [default: a new folder for temporary files]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, see docs/cli.md.")
def command(rows: int, html: Path | None, as_json: bool) -> int:
    """Run one whole migration on an embedded PostgreSQL with a standby, under live traffic.

    Python's own documentation is embedded with one real model while an application writes and searches. Then the model
    that the application declares is changed: `alembic revision --autogenerate` writes the migration, which is filled,
    indexed, cut over, rolled back, cut over again, and the old model retired. Nothing outside this machine is
    used, and nothing stays but the report (`pgvmig report`). Needs `pip install 'pgvmig[demo]'`.

    \b
    JSON: every figure of the table by name, times in seconds, and what was declared and written:
          {"rows", "model_change", "revision", "alembic_checks", "rows_embedded", "batches", "rows_per_second",
           "peak_replication_lag_seconds", "ndcg_at_10_old", "ndcg_at_10_new", "verdict", "searches_failed",
           "searches_wrong_space", "rollback_seconds", "report", ...}
    """
    with output.needs("demo"):
        from pgvmig.demo import journey

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _progress(shown=not as_json) as (report, show):
        measured = journey.run(rows, report, show, html and html.resolve())
    if as_json:
        output.print_json(measured.as_json())
        return 0 if measured.passed else 1
    output.table("One migration, measured", ("what", "how much"), measured.lines())
    measured.check()
    return 0


@contextlib.contextmanager
def _progress(*, shown: bool) -> Iterator[tuple[Callable[[str, int, int | None], None], Callable[[str], None]]]:
    """Show a line for each step, a bar where it is known how much there is to do, and above them what is to be read."""
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, disable=not shown) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                _finish(progress)
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        def show(text: str) -> None:
            if shown:
                progress.console.print(f"{text}\n", markup=False, highlight=False)

        yield report, show
        _finish(progress)


def _finish(progress: Progress) -> None:
    for task in progress.tasks:
        total = task.total or 1
        progress.update(task.id, total=total, completed=total)

"""`pgvmig backfill`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from pgvmig import config
from pgvmig.cli import limits, output
from pgvmig.cli.progress import progress
from pgvmig.cli.stopping import stopping
from pgvmig.pacing.pacer import DEFAULT_CEILING

_WORK_LEFT = {"time", "signal", "locked", "paused"}


@click.command("backfill")
@click.argument("target", required=False)
@click.argument("version", required=False)
@click.option("--max-time", type=output.DURATION, help="End after this long, such as 290s; the next run goes on.")
@click.option(
    "--max-batch-size",
    "--batch-size",
    "batch_size",
    type=click.IntRange(1, 10_000),
    default=DEFAULT_CEILING,
    show_default=True,
    help="Rows in a transaction, at most; how many there are follows --target-time.",
)
@click.option("--follow", is_flag=True, help="Stay, and embed new and changed rows within a second.")
@click.option(
    "--lease",
    type=output.DURATION,
    default="60s",
    show_default=True,
    help="How long a killed worker's rows stay reserved for it.",
)
@limits.options()
@output.options
def command(
    target: str | None,
    version: str | None,
    max_time: timedelta | None,
    batch_size: int,
    follow: bool,
    lease: timedelta,
    dsn: str | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Embed rows that have no vector of their present text: history and stale rows alike.

    Works on VERSION of TARGET, on every version of TARGET, or on all that the worker writes. Start several at once if
    you like: they share the work by leases. Stopped or killed at any moment, nothing finished is lost or repeated. A
    server that restarts or fails over is waited for: half a minute, with --follow for as long as it takes.

    In its table, `outrun` counts rows whose text changed, or that somebody locked, while they were being embedded: they
    stay queued and are done again. `HOT` is the share of updates that left the table's other indexes alone.

    It paces itself: transactions take about --target-time, and nothing is written while a signal (replication lag,
    slots, archiving, ...; see docs/pacing.md) is beyond its limit or cannot be read. A limit comes from `pgvmig
    throttle`, else from here, else from PGVMIG_PACING_<NAME>, else from [pacing] in pgvmig.toml.

    Exit codes: 0 nothing left, 3 work left (--max-time, SIGTERM, rows locked by others, an operator's pause), 4 a
    signal stopped it, or could not be read, for longer than --patience.

    \b
    JSON: {"why": "done", "seconds": 12.3, "waited": 0.0, "peak_lag": 0.02, "peak_lag_bytes": 8192,
           "versions": {"documents v2": {"written": 1500, "empty": 0, "failed": 0, "batches": 24, ...}}}
    """
    with output.needs("worker"):
        from pgvmig.backfill.options import Options
        from pgvmig.backfill.worker import run
    with progress(shown=not as_json) as report, stopping() as stop:
        result = run(
            Options(
                dsn=config.dsn(dsn),
                target=target,
                version=version,
                max_time=max_time.total_seconds() if max_time else None,
                batch_size=batch_size,
                follow=follow,
                limits=limits.effective(values),
                lease=lease.total_seconds(),
                report=report,
                stop=stop,
            )
        )
    if as_json:
        output.print_json(asdict(result))
    else:
        _show(result)
    return output.WORK_LEFT if result.why in _WORK_LEFT else 0


def _show(result: Any) -> None:
    rows = [
        (name, c.written, c.empty, c.failed, c.outrun, c.batches, f"{c.hot / c.updated:.0%}" if c.updated else None)
        for name, c in sorted(result.versions.items())
    ]
    if rows:
        output.table("Embedded", ("version", "written", "empty", "failed", "outrun", "batches", "HOT"), rows)
    said = {
        "done": "Nothing is left.",
        "time": "Time is up, work is left. Next: pgvmig backfill",
        "signal": "Stopped, work may be left. Next: pgvmig backfill",
        "paused": "Paused, work is left. Next: pgvmig status says by whom and why, pgvmig resume takes it back",
        "locked": "Only rows are left that other transactions hold. Next: pgvmig backfill",
    }
    output.say(f"{said[result.why]} ({result.seconds:.1f} s, of which {result.waited.total_seconds():.1f} s waiting)")
    if any(c.failed for c in result.versions.values()):
        output.say("Next: pgvmig failed list")

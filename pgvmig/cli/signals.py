"""`pgvmig signals`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click
import psycopg

from pgvmig import config
from pgvmig.catalog import control
from pgvmig.cli import limits, output
from pgvmig.pacing import calm
from pgvmig.pacing.signals import Reading, Subject, Verdict

BLOCKED = 4


@click.command("signals")
@click.argument("target", required=False)
@click.option("--wait", type=output.DURATION, help="Wait for so long until every signal is OK. [default: not at all]")
@limits.options()
@output.options
def command(target: str | None, wait: timedelta | None, dsn: str | None, as_json: bool, **values: Any) -> int:
    """Show what the pacing signals say of TARGET, or of everything; exit 0 when a worker may write, else 4.

    Before something long that cannot be paced, such as op.index_embedding() on a big table:
    `pgvmig signals documents --wait 10m && alembic upgrade +1`.

    \b
    JSON: {"state": "ok", "may_write": true, "readings": [{"signal": "replication lag of standby1", "kind":
           "replication lag", "state": "ok", "reason": "...", "next_step": null, "pressure": 0.02, "speed": 1.0,
           "lag": 0.03, "lag_bytes": 16384}, ...]}; state: ok, not applicable, stop, unknown
    """
    with output.connect(dsn) as conn:
        subject = subject_of(conn, target)
    chosen = limits.effective(values)
    if wait is None:
        verdict = calm.signals(config.dsn(dsn), chosen, subject)
    else:
        verdict = calm.require_calm(config.dsn(dsn), chosen.changed(patience=wait), subject)
    if as_json:
        output.print_json({"state": verdict.state, "may_write": verdict.may_write, "readings": plain(verdict)})
    else:
        _show(verdict)
    return 0 if verdict.may_write else BLOCKED


def subject_of(conn: psycopg.Connection[Any], target: str | None) -> Subject | None:
    """Return the table's slot that is paced for, None for anything. Raises UsageError, NotFoundError."""
    scope = control.scope(conn, target)
    return None if scope.relation is None else Subject(relation=scope.relation, slot=scope.slot)


def plain(verdict: Verdict) -> list[dict[str, Any]]:
    """Return the readings as JSON has them."""
    return [asdict(reading) | {"state": str(reading.state)} for reading in verdict.readings]


def _show(verdict: Verdict) -> None:
    rows = [(r.signal, str(r.state), _share(r), r.reason) for r in verdict.readings]
    output.table("Signals", ("signal", "state", "of its limit", "reason"), rows)
    if verdict.next_step and not verdict.may_write:
        output.say(f"Next: {verdict.next_step}")


def _share(reading: Reading) -> str | None:
    return None if reading.pressure is None else f"{reading.pressure:.0%}"

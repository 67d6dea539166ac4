"""`pgvmig status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from pgvmig import config
from pgvmig.catalog import standbys, status, versions
from pgvmig.cli import output, standing, workers
from pgvmig.cli.signals import plain, subject_of
from pgvmig.pacing import calm
from pgvmig.pacing.configured import configured
from pgvmig.pacing.signals import PAUSE
from pgvmig.pacing.watch import horizon
from pgvmig.terms import MAX_STALE_AGE


@click.command("status")
@click.argument("target", required=False)
@click.option("--no-count", is_flag=True, help="Do not count rows, which reads each table whole.")
@output.options
def command(target: str | None, no_count: bool, dsn: str | None, as_json: bool) -> None:
    """Show every version of TARGET (or of all): coverage, workers, failures, and the next command.

    Of the way to a switch: who serves which share of the keys, what `pgvmig verify` and `pgvmig evaluate` found last,
    and what services reported in the last hour.

    Of workers: how they go on, since when and why, their speed, and how much is left, estimated from the planner's
    figures. Of signals: those that are not OK, as this command's own role sees them (`pgvmig signals` shows all). Says
    as well when the active version is not the one that the Alembic revisions made active.

    \b
    JSON: {"installation": {...}, "versions": [{"target", "version", "state", "rows": {...}, "workers": [{"state":
           "stopped", "since", "signal", "reason", "next", "rows_per_second", "batch_size", "speed", "rows_updated",
           "rows_hot", "silent": false, "silent_for", ...}], "progress": {"rows_estimate", "rows_left_estimate",
           "eta_seconds", "leases", "leases_free", "leases_over", ...}, "horizon": null, "route": {"percent", "keys",
           "active", "candidate", "way_back", "triggers"}, "searches": 903, "verify": null or {"passed": [...],
           "failed": [{"gate", "found"}], "outdated": [{"gate", "why"}], "missing": [...], "at", "age"}, "evaluation":
           null or {"against", "verdict", "reason", "pilot", "evaluated_at", "age", "required", "satisfied"},
           "metrics": [{"metric", "values", "mean", "p95"}], "paused": false, "unfinished": false, "reading_revoked":
           null or {"at", "by"}, "next", ...}],
           "routes": [{"target", "active", "candidate", "percent", "keys", "changed_at", "triggers",
           "served": {"v1": 903}}], "signals": [...], "pauses": [...], "pacing": [{"at", "state", "signal", "reason",
           "next", ...}], "standbys": [...], "mismatches": [...], "events": [...]}; signals as `pgvmig signals`, pauses
           as `pgvmig pause`
    """
    with output.connect(dsn) as conn:
        selected = versions.select(conn, target)
        found = status.collect(conn, selected, count=not no_count, max_stale_age=MAX_STALE_AGE)
        found["standbys"] = [asdict(standby) for standby in standbys.all_standbys(conn)]
        subject = subject_of(conn, target)
    verdict = calm.signals(config.dsn(dsn), configured().limits, subject)
    found["signals"] = plain(verdict)
    for version in found["versions"]:
        version["next"] = status.next_step(version)
        version["horizon"] = _horizon(version, found["signals"])
    if as_json:
        output.print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    if not found["versions"]:
        output.say("No versions yet. Next: op.add_embedding() in a revision, then alembic upgrade")
    else:
        columns = ("target", "version", "state", "model", "rows", "embedded", "queued", "failed", "index")
        output.table("Versions", columns, [_version_row(v) for v in found["versions"]])
    standing.show(found)
    _show_signals(found)
    workers.show(found)
    _show_standbys(found)
    for mismatch in found["mismatches"]:
        output.say(
            f"Mismatch: {mismatch['target']} has {mismatch['active'] or 'no version'} active since "
            f"{mismatch['since']:%Y-%m-%d %H:%M} (by {mismatch['by']}, {mismatch['source']}), revision "
            f"{mismatch['revision']} says {mismatch['revisions_say']}. Next: {mismatch['next']}"
        )
    for version in found["versions"]:
        if version["last_error"]:
            output.say(f"{version['target']} {version['version']} last error: {version['last_error']}")
        if version["reading_revoked"]:
            name, revoked = f"{version['target']} {version['version']}", version["reading_revoked"]
            output.say(
                f"Only its owner may read {name} since {revoked['at']:%Y-%m-%d %H:%M} (by {revoked['by']}). "
                f"Next, when somebody misses it: pgvmig retire {name} --restore"
            )
        if version["next"]:
            output.say(f"Next: {version['next']}")


def _horizon(version: dict[str, Any], signals: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return what holds back the xmin horizon where that matters: updates that are not HOT, or the signal says so."""
    at_work = [worker for worker in version["workers"] if worker["ended_at"] is None]
    shares = [share for worker in at_work if (share := workers.hot_share(worker)) is not None]
    poor = any(share < workers.POOR_HOT_SHARE for share in shares)
    for reading in signals:
        held = reading["state"] != "ok" or reading["speed"] < 1 or (poor and reading["pressure"])
        if reading["kind"] == horizon.NAME and at_work and held:
            return reading
    return None


def _show_signals(found: dict[str, Any]) -> None:
    for pause in found["pauses"]:
        why = f": {pause['reason']}" if pause["reason"] else ""
        what = " ".join(word for word in (pause["target"], pause["version"]) if word)
        output.say(
            f"{what or 'Everything'} is paused by {pause['paused_by']} since "
            f"{pause['paused_at']:%Y-%m-%d %H:%M}{why}. Next, to go on: {f'pgvmig resume {what}'.rstrip()}"
        )
    for reading in found["signals"]:
        if reading["state"] in ("stop", "unknown") and reading["kind"] != PAUSE:
            step = f". Next: {reading['next_step']}" if reading["next_step"] else ""
            output.say(f"{reading['state'].upper()} {reading['signal']}: {reading['reason']}{step}")


def _version_row(version: dict[str, Any]) -> tuple[Any, ...]:
    rows = version["rows"] or {}
    return (
        version["target"],
        version["version"],
        version["state"] if version["writer"] == "worker" else f"{version['state']} (app)",
        _short(version["model"]),
        rows.get("total"),
        rows.get("embedded"),
        version["stale_entries"],
        version["failed"],
        _index(version["indexes"]),
    )


def _index(indexes: list[dict[str, Any]]) -> str | None:
    if not indexes:
        return None
    return "valid" if any(index["valid"] for index in indexes) else "invalid"


def _short(model: str, width: int = 14) -> str:
    return model if len(model) <= width else model[: width - 1] + "…"


def _show_standbys(found: dict[str, Any]) -> None:
    if found["standbys"]:
        output.table(
            "Standbys",
            ("name", "state", "replay lag", "bytes behind"),
            [(s["name"], _standing(s), _seconds(s["replay_lag"]), s["lag_bytes"]) for s in found["standbys"]],
        )
    elif not found["installation"]["no_standbys"]:
        output.say("No standby is declared. Next: pgvmig standby add NAME, or pgvmig standby none")


def _standing(standby: dict[str, Any]) -> str:
    if standby["pid"] is None:
        return "declared, not connected"
    return f"{standby['state']}" if standby["declared"] else f"{standby['state']}, not declared"


def _seconds(span: timedelta | None) -> str | None:
    return None if span is None else f"{span.total_seconds():.2f} s"

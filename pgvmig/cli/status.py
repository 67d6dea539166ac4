"""`pgvmig status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from pgvmig.catalog import standbys, status, versions
from pgvmig.cli import output
from pgvmig.switch import MAX_STALE_AGE


@click.command("status")
@click.argument("target", required=False)
@click.option("--no-count", is_flag=True, help="Do not count rows, which reads each table whole.")
@output.options
def command(target: str | None, no_count: bool, dsn: str | None, as_json: bool) -> None:
    """Show every version of TARGET (or of all): coverage, workers, failures, and the next command.

    Says as well when the active version is not the one that the Alembic revisions made active.

    \b
    JSON: {"installation": {...}, "versions": [{"target", "version", "state", "rows": {...}, "workers": [...],
           "next", ...}], "standbys": [...], "mismatches": [...], "events": [...]}
    """
    with output.connect(dsn) as conn:
        selected = versions.select(conn, target)
        found = status.collect(conn, selected, count=not no_count, max_stale_age=MAX_STALE_AGE)
        found["standbys"] = [asdict(standby) for standby in standbys.all_standbys(conn)]
    for version in found["versions"]:
        version["next"] = status.next_step(version)
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
    _show_workers(found["versions"])
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
        if version["next"]:
            output.say(f"Next: {version['next']}")


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


def _show_workers(versions_found: list[dict[str, Any]]) -> None:
    rows = [
        (
            f"{version['target']} {version['version']}",
            f"{worker['host']}:{worker['pid']}",
            worker["ended_why"] or ("waits: " + worker["waiting"] if worker["waiting"] else "works"),
            worker["rows_written"],
            worker["batches"],
            worker["rows_outrun"],
            _seconds(worker["peak_lag"]),
        )
        for version in versions_found
        for worker in version["workers"]
    ]
    if rows:
        output.table("Workers", ("version", "process", "state", "written", "batches", "outrun", "peak lag"), rows)


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

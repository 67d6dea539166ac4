"""Everything `pgvmig status` shows, as data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pgvmig import sql as files
from pgvmig.catalog import control, roles, standing
from pgvmig.catalog.versions import Version
from pgvmig.lifecycle import State
from pgvmig.runner import ConnectionRunner

Row = dict[str, Any]

# A worker renews its leases, and is seen, every few seconds; see backfill/companion.py.
SILENT = timedelta(seconds=15)


def collect(conn: psycopg.Connection[Any], versions: list[Version], *, count: bool, max_stale_age: timedelta) -> Row:
    """Return the state of the given versions and of the installation.

    `count` counts every row of every table, which reads them whole; without it, and in a copy of another database that
    nobody has settled, `rows` is None.
    """
    chosen = {version.version_id for version in versions}
    pauses = control.pauses(conn)
    count = count and not control.is_copy(conn)
    found = _versions(conn, versions, count=count, max_stale_age=max_stale_age)
    # who only counts with rights that are lent may not look into samples of the rows
    look = count and not roles.lends(ConnectionRunner(conn), "coverage")
    standings = standing.standings(conn, versions, pauses, look=look)
    for version, row in zip(versions, found, strict=True):
        row.update(standings[version.version_id])
    return {
        "installation": _rows(conn, "installation")[0],
        "versions": found,
        "routes": standing.routes(conn, versions, found),
        "mismatches": _mismatches(conn, versions),
        "pauses": [asdict(pause) for pause in pauses],
        "pacing": [row for row in _rows(conn, "pacing", number=sql.Literal(20)) if row.pop("version_id") in chosen],
        "events": _rows(conn, "events", number=sql.Literal(10)),
    }


def _versions(
    conn: psycopg.Connection[Any], versions: list[Version], *, count: bool, max_stale_age: timedelta
) -> list[Row]:
    queue = _by_version(conn, "queue")
    failures = _by_version(conn, "failures")
    progress = _by_version(conn, "progress")
    revoked = _by_version(conn, "revoked")
    indexes = _rows(conn, "indexes")
    runs = [_worker(row) for row in _rows(conn, "runs")]
    found = []
    for v in versions:
        waiting = queue.get(v.version_id, {})
        failed = failures.get(v.version_id, {})
        workers = [row for row in runs if row["version_id"] == v.version_id]
        found.append(
            {
                "target": v.label,
                "slot": v.slot,
                "version": v.version,
                "state": v.state,
                "unfinished": v.unfinished,
                "reading_revoked": revoked.get(v.version_id),
                "writer": v.writer,
                "adopted": v.adopted,
                "layout": v.layout,
                "provider": v.contract.provider,
                "model": v.contract.model,
                "model_version": v.contract.model_version,
                "dimensions": v.contract.dimensions,
                "metric": v.contract.metric,
                "fingerprint": v.contract.fingerprint,
                "view": v.view_name,
                "rows": _coverage(conn, v, max_stale_age) if count and v.captured else None,
                "stale_entries": waiting.get("entries", 0),
                "oldest_stale": waiting.get("oldest"),
                "failed": failed.get("failed", 0),
                "last_error": failed.get("last_error"),
                "progress": _with_eta(progress.get(v.version_id), workers),
                "indexes": [
                    {key: row[key] for key in ("name", "valid", "method")}
                    for row in indexes
                    if row["version_id"] == v.version_id
                ],
                "workers": workers,
            }
        )
    return found


def _worker(run: Row) -> Row:
    """Return a run with `silent`: it has not ended, and nobody has heard of it for longer than a worker can be busy."""
    return run | {"silent": run["ended_at"] is None and run["silent_for"] > SILENT}


def _with_eta(progress: Row | None, workers: list[Row]) -> Row | None:
    """Add how long the walk will take at the present speed of all workers: an estimate from estimates."""
    if progress is None:
        return None
    speed = sum(run["rows_per_second"] or 0 for run in workers if run["ended_at"] is None and not run["silent"])
    left = progress["rows_left_estimate"]
    return progress | {"eta_seconds": left / speed if left is not None and speed else None}


def _coverage(conn: psycopg.Connection[Any], version: Version, max_stale_age: timedelta) -> Row:
    return _rows(
        conn,
        "coverage",
        function=roles.function(ConnectionRunner(conn), "coverage"),
        version_id=sql.Literal(version.version_id),
        max_stale_age=sql.Literal(max_stale_age),
    )[0]


def _mismatches(conn: psycopg.Connection[Any], versions: list[Version]) -> list[Row]:
    """Return the slots whose active version is not the one that the revisions have made active."""
    found = []
    targets = {v.label for v in versions}
    there = {(v.label, v.version) for v in versions if v.state != State.RETIRED}
    for row in _rows(conn, "activations"):
        target = row["relation"] if row["slot"] == "embedding" else f"{row['relation']}.{row['slot']}"
        if target not in targets or row["by_revisions"] == row["now_active"] or row["revision"] is None:
            continue
        # a downgrade is what fits only where the rollback left what the revisions say
        forward = row["verb"] == "cut over" or row["was_active"] != row["by_revisions"]
        way_back = (target, row["by_revisions"]) in there
        back = f"pgvmig cutover {target} {row['by_revisions']}, or " if way_back else ""
        found.append(
            {
                "target": target,
                "active": row["now_active"],
                "since": row["at"],
                "by": row["who"],
                "source": row["source"],
                "revisions_say": row["by_revisions"],
                "revision": row["revision"],
                "next": f"alembic upgrade, if a revision ahead cuts {target} over to {row['now_active']} (it finds it "
                f"done), else {back}a new revision that says what is"
                if forward
                # of a line that begins with it, `{revision}-1` would be the main line's
                else f"alembic downgrade embeddings@-1 (where cutovers have no line of their own: to before "
                f"{row['revision']}), which finds it done",
            }
        )
    return found


def next_step(version: Row) -> str | None:
    """Return the command that brings a version on, None when nothing is to be done."""
    name = f"{version['target']} {version['version']}"
    rows = version["rows"]
    left = rows is not None and rows["missing"] + rows["outdated"] + rows["missing_recent"] > 0
    if version["unfinished"]:
        return f"pgvmig retire {name} again: it was stopped in the middle, and what is left takes room"
    if version["failed"]:
        return f"pgvmig failed list {name}"
    if version["writer"] == "worker" and (left or version["state"] in (State.ADDED, State.BACKFILLING)):
        # who paused it has a reason, which is shown with the way to go on
        return None if version["paused"] else f"pgvmig backfill {name}"
    if version["state"] == State.READY and not any(index["valid"] for index in version["indexes"]):
        return f"pgvmig index {name}"
    return _step_of_switch(version, name)


def _step_of_switch(version: Row, name: str) -> str | None:
    """Return what comes after the index: proof, the switch, and later the end of the way back."""
    route = version["route"]
    if version["state"] == State.READY:
        return _step_before_switch(version, name)
    if version["state"] == State.ACTIVE and route["triggers"]:
        return f"pgvmig watch {version['target']}"
    if version["state"] == State.RETAINED and route["way_back"]:
        return f"pgvmig retire {name}, when nobody needs the way back any more"
    return None


def _step_before_switch(version: Row, name: str) -> str:
    target, route, evaluation = version["target"], version["route"], version["evaluation"]
    if standing.unproved(version):
        return f"pgvmig verify {name}"
    if evaluation is not None and not evaluation["satisfied"]:
        versions = f"{route['active']} {version['version']}"
        return f"pgvmig evaluate {target} {versions} --queries queries.jsonl --qrels qrels.tsv"
    if route["candidate"] == version["version"]:
        return f"pgvmig cutover {name}, or a greater share first"
    return f"pgvmig cutover {name}, or as a revision: pgvmig scaffold cutover {name}"


def _rows(conn: psycopg.Connection[Any], name: str, **parts: Any) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(files.query("status", name, **parts)).fetchall()


def _by_version(conn: psycopg.Connection[Any], name: str) -> dict[int, Row]:
    return {row.pop("version_id"): row for row in _rows(conn, name)}

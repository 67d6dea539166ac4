"""What `pgvmig index` shows while PostgreSQL builds: asked on a connection of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pgvmig import sql as files
from pgvmig.catalog.connection import connect

_EVERY = 0.5
_MINUTES = 120


@contextlib.contextmanager
def progress(dsn: str, pid: int, *, shown: bool) -> Iterator[None]:
    """Show on stderr how far the build of the session `pid` is. A connection that fails ends the bar, not the build."""
    if not shown:
        yield
        return
    over = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        thread = threading.Thread(target=_follow, args=(dsn, pid, bars, over), name="pgvmig-index", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=5)


def _follow(dsn: str, pid: int, bars: Progress, over: threading.Event) -> None:
    task = bars.add_task("begins", total=None)
    with contextlib.suppress(psycopg.Error), connect(dsn, application_name="pgvmig index") as conn:
        while not over.wait(_EVERY):
            row = (
                conn.cursor(row_factory=dict_row).execute(files.query("indexing", "progress"), {"pid": pid}).fetchone()
            )
            if row is not None:
                done, total = _position(row)
                bars.update(task, description=describe(row), completed=done, total=total)


def describe(row: dict[str, Any]) -> str:
    """Return the phase in PostgreSQL's words, how far it is, and whom it waits for."""
    done, total = _position(row)
    parts = [row["phase"]]
    if total:
        parts.append(f"{done:,} of {total:,}")
    if row["waits_for"]:
        parts.append(f"waits for process {row['waits_for']}, which may hold an old transaction open")
    return ", ".join(parts)


def span(seconds: float) -> str:
    """Return how long it took: `0.4 s`, `12 min`."""
    return f"{seconds:.1f} s" if seconds < _MINUTES else f"{seconds / 60:,.0f} min"


def _position(row: dict[str, Any]) -> tuple[int, int | None]:
    """Return what is done and of how much: rows, or while those are not counted, blocks."""
    if row["tuples_total"]:
        return row["tuples_done"], row["tuples_total"]
    return (row["blocks_done"] or 0), (row["blocks_total"] or None)

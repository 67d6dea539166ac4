"""What a run did, counted: here for its report, and in `pgvmig.backfill_run` for everybody else."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from pgvmig import sql as files
from pgvmig.backfill.batches import Written, sum_known
from pgvmig.backfill.transactions import transaction
from pgvmig.catalog.versions import Version
from pgvmig.pacing.limits import DEFAULTS, Limits, settings, to_json


@dataclass(slots=True)
class Counters:
    """One run's figures for one version.

    `outrun`: embedded, but the text had changed or the row was locked by then. `hot`: so many of the `updated` rows
    stayed on their page, so that the table's other indexes were left alone; None where the table itself is not written.
    """

    batches: int = 0
    written: int = 0
    empty: int = 0
    failed: int = 0
    outrun: int = 0
    updated: int | None = None
    hot: int | None = None

    @property
    def rows(self) -> int:
        """All rows that were dealt with, in whatever way."""
        return self.written + self.empty + self.failed + self.outrun

    def add(self, written: Written) -> None:
        """Count a batch."""
        self.batches += 1
        self.written += written.vectors
        self.empty += written.empty
        self.failed += written.failed
        self.outrun += written.changed
        self.updated = sum_known((self.updated, written.updated))
        self.hot = sum_known((self.hot, written.hot))


class RunLog:
    """The run's rows in `pgvmig.backfill_run`, one for each version; nobody else writes them."""

    def __init__(self, run_id: UUID) -> None:
        self.run_id = run_id

    def begin(self, conn: psycopg.Connection[Any], version: Version, limits: Limits) -> None:
        """Add the row of a version, with the limits that the run was started with."""
        here = {"host": socket.gethostname(), "pid": os.getpid(), "limits": Jsonb(_unusual(limits))}
        with transaction(conn):
            self._run(conn, "begin_run", version_id=version.version_id, **here)

    def count(self, conn: psycopg.Connection[Any], version: Version, written: Written) -> None:
        """Count a batch in the transaction that writes it, and find out which of its updates were HOT."""
        counted = self._run(
            conn,
            "count_batch",
            version_id=version.version_id,
            written=written.vectors,
            empty=written.empty,
            failed=written.failed,
            outrun=written.changed,
        )
        written.updated, written.hot = counted.fetchone() or (None, None)

    def count_outrun(self, conn: psycopg.Connection[Any], version: Version, rows: int) -> None:
        """Count rows that stayed locked."""
        with transaction(conn):
            self._run(conn, "count_outrun", version_id=version.version_id, outrun=rows)

    def end(self, conn: psycopg.Connection[Any], why: str) -> None:
        """Say that the run is over and why."""
        with transaction(conn):
            self._run(conn, "end_run", why=why)

    def _run(self, conn: psycopg.Connection[Any], name: str, **given: Any) -> psycopg.Cursor[Any]:
        return conn.execute(files.query("backfill", name), {"run_id": self.run_id, **given})


def _unusual(limits: Limits) -> dict[str, Any]:
    """Return the limits that are not the defaults; paths and statements are nobody's business in the database."""
    live = (setting.name for setting in settings() if setting.metadata["live"])
    return to_json({name: getattr(limits, name) for name in live if getattr(limits, name) != getattr(DEFAULTS, name)})

"""The worker's own code without a provider: a lane that is worked off with vectors at hand, by one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg

from bench import provider, worker
from pgvmig.backfill.batches import Answer, Batch
from pgvmig.backfill.lane import Lane
from pgvmig.backfill.runs import RunLog
from pgvmig.pacing.limits import DEFAULTS


def lane_of(conn: psycopg.Connection[Any], dsn: str, *, batch: int, striped: bool | None = None) -> Lane:
    """Return a lane on v2 of documents; `striped` overrides in which order its layout would have rows written."""
    version, log = worker.version(dsn), RunLog(uuid4())
    log.begin(conn, version, DEFAULTS)
    lane = Lane(conn, version, log, lease=timedelta(hours=1), batch_size=lambda: batch, stop=lambda: False)
    if striped is not None:
        lane._layout.striped = striped  # noqa: SLF001
    lane.begin(asked=False)
    return lane


@dataclass
class Clock:
    """Works a lane off with vectors at hand; `writing` is the seconds that the write transactions took."""

    lane: Lane
    pool: Any
    writing: float = 0.0

    def run(self) -> None:
        """Work until nothing can be claimed."""
        while not self.lane.caught_up:
            batch = self.lane.next_batch()
            if batch is None:
                self.lane.look()
            elif batch.settled:
                self.lane.settle(batch)
            else:
                self._write(batch)

    def _write(self, batch: Batch) -> None:
        rows, batch.to_embed = batch.to_embed, []
        batch.answers += [Answer(row, "vector", self.pool[i % provider.POOL]) for i, row in enumerate(rows)]
        began = time.perf_counter()
        self.lane.write(batch)
        self.writing += time.perf_counter() - began

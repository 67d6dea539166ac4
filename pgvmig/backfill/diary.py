"""What a run notes about its pace: how it is now, every change of state with its reason, and samples over time.

Nothing of it belongs to a batch: a few small transactions a second at most, and they never wait for a standby.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from pgvmig import sql as files
from pgvmig.catalog.versions import Version
from pgvmig.pacing.controller import Pace
from pgvmig.pacing.pacer import AnyPacer

# How often it is noted how a run is, and how often a sample is kept.
_TELL_SECONDS = 1.0
_SAMPLE_SECONDS = 5.0
# Worth a note is what lasts: a worker near a limit holds and runs by turns.
_LASTING_SECONDS = 1.0
# Changes that are kept of each run, and samples of each version: a day of one worker, in half a megabyte.
_CHANGES = 200
_SAMPLES = 10_000
_TRIM_EVERY = 50


class Diary:
    """The notes of one run about one version."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        run_id: UUID,
        version: Version,
        pacer: AnyPacer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conn = conn
        self._of = {"run_id": run_id, "version_id": version.version_id}
        self._pacer = pacer
        self._clock = clock
        self._noted: Pace | None = None
        self._notes = self._samples = 0
        self._told_at = self._sampled_at = clock() - _SAMPLE_SECONDS
        self._told = timedelta()

    def tell(self, waiting: str | None, waited: timedelta, *, now: bool = False) -> None:
        """Note how it is: what the run waits for, None for nothing, and for how long it has waited altogether.

        Usually nothing is written, because it was not long ago, unless `now`.
        """
        changed = self._changed()
        if not (now or changed or self._clock() - self._told_at >= _TELL_SECONDS):
            return
        with self._conn.transaction():
            self._conn.execute(files.query("pace", "unhurried"))
            self._tell(waiting, waited)
            if changed:
                self._note(self._pacer.pace)
            if self._clock() - self._sampled_at >= _SAMPLE_SECONDS:
                self._sample()

    def _changed(self) -> bool:
        pace, before = self._pacer.pace, self._noted
        if before is None or pace.state is before.state:
            return before is None
        return not (pace.state.writes and before.state.writes) or self._clock() - pace.since >= _LASTING_SECONDS

    def _tell(self, waiting: str | None, waited: timedelta) -> None:
        pacer = self._pacer
        self._run(
            "count_wait",
            waiting=waiting,
            waited=waited - self._told,
            batch_size=pacer.batch_size,
            speed=pacer.speed,
            lag=pacer.peak_lag,
            lag_bytes=pacer.peak_lag_bytes,
        )
        self._told, self._told_at = waited, self._clock()

    def _note(self, pace: Pace) -> None:
        self._run("log_state", state=str(pace.state), signal=pace.signal, reason=pace.reason, next=pace.next_step)
        self._noted = pace
        self._notes += 1
        if self._notes % _TRIM_EVERY == 0:
            self._run("trim_log", keep=_CHANGES)

    def _sample(self) -> None:
        pacer, verdict = self._pacer, self._pacer.verdict
        self._run(
            "sample",
            batch_size=pacer.batch_size,
            state=str(pacer.pace.state),
            lag=verdict and verdict.lag,
            lag_bytes=verdict and verdict.lag_bytes,
            wal_rate=pacer.wal_rate,
        )
        self._sampled_at = self._clock()
        self._samples += 1
        # the first of a run as well: cron's are over before they have taken so many
        if self._samples % _TRIM_EVERY == 1:
            self._run("thin_samples", keep=_SAMPLES)

    def _run(self, name: str, **given: Any) -> None:
        self._conn.execute(files.query("pace", name), self._of | given)

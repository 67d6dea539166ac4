"""Before every batch: wait until the signals let us write, and say so meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

import psycopg

from pgvmig.backfill.lane import Lane
from pgvmig.backfill.options import Progress
from pgvmig.backfill.runs import RunLog
from pgvmig.pacing.signals import Verdict

# How often it is written down that the run waits.
_TELL_SECONDS = 1.0


class Pacer(Protocol):
    """What pacing offers; see pgvmig.pacing.pacer."""

    peak_lag: timedelta | None
    peak_lag_bytes: int | None

    def wait(self, stop: Callable[[], bool], on_wait: Callable[[Verdict], None] | None = None) -> Verdict:
        """Return once everything is well or `stop` says so. Raises SignalError after its patience."""
        ...


class Gate:
    """Asks the pacer and keeps the run's records of what it said."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        pacer: Pacer,
        log: RunLog,
        stop: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> None:
        self.waited = timedelta()
        self._conn = conn
        self._pacer = pacer
        self._log = log
        self._stop = stop
        self._report = report
        self._told_at = -_TELL_SECONDS
        self._told = timedelta()

    def may_write(self, lane: Lane) -> bool:
        """Wait until writing is allowed; false when the run should end before that. Raises SignalError."""
        began, before = time.monotonic(), self.waited
        waiting = False

        def on_wait(verdict: Verdict) -> None:
            nonlocal waiting
            waiting = True
            self.waited = before + timedelta(seconds=time.monotonic() - began)
            self._report(Progress(lane.version, lane.counters, lane.position, verdict.reason))
            self._tell(lane, verdict.reason)

        verdict = self._pacer.wait(self._stop, on_wait)
        if waiting:
            self.waited = before + timedelta(seconds=time.monotonic() - began)
        self._tell(lane, None, now=waiting)
        return verdict.may_write

    def _tell(self, lane: Lane, reason: str | None, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._told_at < _TELL_SECONDS:
            return
        waited = self.waited - self._told
        self._log.waits(
            self._conn,
            lane.version,
            reason=reason,
            waited=waited,
            lag=self._pacer.peak_lag,
            lag_bytes=self._pacer.peak_lag_bytes,
        )
        self._told, self._told_at = self.waited, time.monotonic()

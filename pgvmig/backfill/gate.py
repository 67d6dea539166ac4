"""One version's way to the database: before every batch it waits until the signals allow it, and says so meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from pgvmig.backfill.batches import Batch
from pgvmig.backfill.diary import Diary
from pgvmig.backfill.lane import Lane
from pgvmig.backfill.options import Progress
from pgvmig.pacing.controller import State
from pgvmig.pacing.pacer import AnyPacer
from pgvmig.pacing.signals import Verdict

# How often it is asked whether an operator has ended the pause of a version that was set aside.
_PROBE_SECONDS = 1.0


class Gate:
    """Asks the pacer, learns what batches cost, and keeps the run's notes of both.

    `aside`: an operator has paused this version for longer than we wait; there may be others to work on. `rows` is an
    estimate of the table's.
    """

    def __init__(
        self,
        pacer: AnyPacer,
        diary: Diary,
        stop: Callable[[], bool],
        report: Callable[[Progress], None],
        rows: int | None = None,
    ) -> None:
        self.pacer = pacer
        self.waited = timedelta()
        self.aside = False
        self._diary = diary
        self._stop = stop
        self._report = report
        self._rows = rows
        self._next_probe = 0.0

    def batch_size(self) -> int:
        """Return how many rows the next batch should have."""
        return self.pacer.batch_size

    def may_claim(self) -> bool:
        """Whether to claim rows: not while an operator's pause keeps the version aside."""
        if self.aside and time.monotonic() >= self._next_probe:
            self.aside = self.pacer.look().state is State.PAUSED
            self._next_probe = time.monotonic() + _PROBE_SECONDS
        return not self.aside

    def may_send(self, lane: Lane) -> bool:
        """Whether to have rows embedded: what cannot be written now need not be paid. Waits as `may_write`."""
        looked = self.pacer.verdict is not None
        return (looked and self.pacer.pace.state.writes) or self.may_write(lane)

    def may_write(self, lane: Lane) -> bool:
        """Wait until writing is allowed; false when the run should end, or leave this version, before that.

        Raises SignalError.
        """
        began, before = time.monotonic(), self.waited
        waiting = False

        def on_wait(_: Verdict) -> None:
            nonlocal waiting
            waiting = True
            self.waited = before + timedelta(seconds=time.monotonic() - began)
            self.report(lane)
            self._diary.tell(self.pacer.pace.reason, self.waited)

        self.pacer.wait(self._stop, on_wait)
        if waiting:
            self.waited = before + timedelta(seconds=time.monotonic() - began)
        state = self.pacer.pace.state
        self.aside = state is State.PAUSED
        self._diary.tell(None if state.writes else self.pacer.pace.reason, self.waited, now=waiting)
        return state.writes

    def write(self, lane: Lane, batch: Batch) -> None:
        """Write a batch, and learn from how long it took."""
        before = lane.counters.rows
        began = time.monotonic()
        lane.write(batch)
        self.pacer.wrote(lane.counters.rows - before, time.monotonic() - began)
        self.report(lane)

    def answered(self, batch: Batch) -> None:
        """Learn from how long the provider took."""
        self.pacer.answered(len(batch.answers), batch.answer_seconds)

    def asks_again(self, lane: Lane, trouble: str) -> None:
        """Say that the provider is asked again, and why."""
        self.report(lane, trouble)
        self._diary.tell(trouble, self.waited)

    def report(self, lane: Lane, trouble: str | None = None) -> None:
        """Tell whoever watches how far it is."""
        self._report(
            Progress(
                lane.version,
                lane.counters,
                lane.position,
                waiting=None if self.pacer.pace.state.writes else self.pacer.pace.reason,
                pace=self.pacer.pace,
                batch_size=self.pacer.batch_size,
                rows=self._rows,
                trouble=trouble,
            )
        )

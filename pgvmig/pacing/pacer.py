"""Waits until the signals let the worker write, as the control law has it. Knows no signal's particulars."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol, Self

from pgvmig.errors import PgvmigError, SignalError
from pgvmig.pacing import lag
from pgvmig.pacing.controller import Controller, Pace, State
from pgvmig.pacing.definition import Signal
from pgvmig.pacing.limits import DEFAULTS, Limits
from pgvmig.pacing.registry import SIGNALS, in_force, judge
from pgvmig.pacing.ring import History
from pgvmig.pacing.signals import Reading, Subject, Verdict
from pgvmig.pacing.standbys import Connection, DatabaseReader, Reader

# Rows in a transaction, at most: more than that gains little even where a row costs next to nothing, and so many
# vectors are embedded once more when a worker is killed.
DEFAULT_CEILING = 500
# The first looks after a pause are that much closer together: our samples are old by then, and a standby that keeps up
# shows it within milliseconds.
_FIRST_LOOK = 1 / 16
# A standby that replays a tenth of what is written needs a minute for six seconds of it: from this share of a limit on
# it is looked at that much more often, and how fast it replays is known before it matters.
_NEAR, _WATCHFUL = 0.1, 1 / 5
# How soon a pause after a batch notices that it should stop.
_TICK = 0.1


class AnyPacer(Protocol):
    """What the worker asks: a `Pacer`, or `Unpaced`."""

    pause_patience: float | None
    peak_lag: timedelta | None
    peak_lag_bytes: int | None
    verdict: Verdict | None

    @property
    def wal_rate(self) -> int | None: ...
    @property
    def pace(self) -> Pace: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def speed(self) -> float: ...
    def wait(self, stop: Callable[[], bool], on_wait: Callable[[Verdict], None] | None = None) -> Verdict | None: ...
    def look(self) -> Pace: ...
    def wrote(self, rows: int, seconds: float) -> None: ...
    def answered(self, rows: int, seconds: float) -> None: ...
    def close(self) -> None: ...


class Pacer:
    """Asked before every batch, for one table. Not for several threads at once.

    `limits` are those that the run was started with; what the database says changes them while it runs. `subject` is
    what is paced for, `ceiling` how many rows a transaction may write at most.
    `pause_patience` is how many seconds `wait` waits for an operator's pause to end, None for ever. `verdict` is the
    last one, the peaks are the largest lags that were seen.
    """

    def __init__(
        self,
        reader: Reader,
        limits: Limits = DEFAULTS,
        *,
        subject: Subject | None = None,
        ceiling: int = DEFAULT_CEILING,
        pause_patience: float | None = None,
        signals: Sequence[Signal] = SIGNALS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.pause_patience = pause_patience
        self.peak_lag: timedelta | None = None
        self.peak_lag_bytes: int | None = None
        self.verdict: Verdict | None = None
        self._reader = reader
        self._limits = limits
        self._subject = subject
        self._clock = clock
        self._sleep = sleep
        self._signals = signals
        self._history = History()
        self._controller = Controller(limits, ceiling=ceiling, now=clock())
        self._rest_until = self._good_until = clock()

    @classmethod
    def open(
        cls,
        dsn_or_connect: str | Callable[[], Connection],
        limits: Limits = DEFAULTS,
        *,
        subject: Subject | None = None,
        ceiling: int = DEFAULT_CEILING,
        pause_patience: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Self:
        """Return a pacer with a connection of its own, which the first reading opens."""
        return cls(
            DatabaseReader(dsn_or_connect, clock),
            limits,
            subject=subject,
            ceiling=ceiling,
            pause_patience=pause_patience,
            clock=clock,
            sleep=sleep,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def limits(self) -> Limits:
        """The limits that hold now."""
        return self._controller.limits

    @property
    def wal_rate(self) -> int | None:
        """How many bytes of WAL the cluster writes in a second, None where it is not known."""
        rate = self._history.wal_rate
        return None if rate is None else round(rate)

    @property
    def pace(self) -> Pace:
        """What was decided last."""
        return self._controller.pace

    @property
    def batch_size(self) -> int:
        """How many rows the next transaction should write at most."""
        return self._controller.batch_size

    @property
    def speed(self) -> float:
        """The share of full speed."""
        return self._controller.speed

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()

    def check(self) -> Verdict:
        """Read every signal once. Never raises for what it finds: what cannot be read is UNKNOWN."""
        verdict = Verdict(self._readings())
        self.peak_lag = max((x for x in (self.peak_lag, verdict.lag) if x is not None), default=None)
        self.peak_lag_bytes = max((x for x in (self.peak_lag_bytes, verdict.lag_bytes) if x is not None), default=None)
        return verdict

    def look(self) -> Pace:
        """Read every signal once and decide. Waits for nothing, raises nothing."""
        began = self._clock()
        self.verdict = self._controller.hold_back(self.check())
        pace = self._controller.look(self.verdict, self._clock())
        # What was read counts for one interval: at most that long is written after a signal has turned.
        self._good_until = began + self._good_for() if pace.state.writes else began
        return pace

    def _good_for(self) -> float:
        near = any(r.lag is not None and (r.pressure or 0.0) > _NEAR for r in self._verdict.readings)
        return self._interval * (_WATCHFUL if near else 1)

    def wait(self, stop: Callable[[], bool], on_wait: Callable[[Verdict], None] | None = None) -> Verdict:
        """Return the verdict once it lets the worker write, the pause that the last transaction earned included.

        When `stop()` is true, and when an operator's pause outlasts `pause_patience`, it returns the last verdict as it
        is, within one interval: look at `may_write`. `on_wait` gets each verdict that makes it wait, from the second
        interval on; `pace` says what it means. Raises SignalError after `patience`, when a hibernation did not help,
        and at once for what no waiting cures.
        """
        self._rest(stop)
        if self.verdict is not None and self._clock() < self._good_until:
            return self.verdict
        began = self._clock()
        pause = self._interval * _FIRST_LOOK
        pace = self.look()
        while not (pace.state.writes or stop() or self._given_way()):
            waited = self._controller.waited(self._clock())
            if pace.state is State.FAILED:
                raise _gave_up(self._verdict, waited)
            if on_wait is not None and self._clock() - began >= self._interval:
                on_wait(self._verdict)
            self._sleep(min(pause, max(self._controller.patience_left(self._clock()), 0.0)))
            pause = min(pause * 2, self._interval)
            if not self._hibernates():
                pace = self.look()
        return self._verdict

    def wrote(self, rows: int, seconds: float) -> None:
        """Learn from a transaction, and rest for as long as it has earned before the next `wait` returns."""
        self._controller.wrote(rows, seconds)
        self._rest_until = self._clock() + self._controller.pause_after(seconds)

    def answered(self, rows: int, seconds: float) -> None:
        """Learn how long a provider took for the vectors of a batch."""
        self._controller.answered(rows, seconds)

    @property
    def _interval(self) -> float:
        return self.limits.interval.total_seconds()

    @property
    def _verdict(self) -> Verdict:
        if self.verdict is None:
            raise AssertionError("nobody has looked yet")
        return self.verdict

    def _rest(self, stop: Callable[[], bool]) -> None:
        while (left := self._rest_until - self._clock()) > 0 and not stop():
            self._sleep(min(left, _TICK))

    def _given_way(self) -> bool:
        paused = self.pace.state is State.PAUSED and self.pause_patience is not None
        return paused and self._clock() - self.pace.since >= (self.pause_patience or 0.0)

    def _hibernates(self) -> bool:
        """Whether the cluster is left alone, readings included. Patience ends that as well."""
        now = self._clock()
        return self._controller.rest(now) > 0 and self._controller.patience_left(now) > 0

    def _readings(self) -> tuple[Reading, ...]:
        try:
            snapshot = self._reader.read(self.limits)
        except PgvmigError as error:
            # The next connection may be to another server, after a failover: its LSNs do not compare with ours.
            self._history.clear()
            return lag.unreadable(error.found, error.next_step)
        self._history.add(snapshot.began, snapshot.lsn, snapshot.xid, snapshot.replayed)
        self._controller.limits = in_force(self._limits, snapshot, self._subject)
        return judge(snapshot, self._history, self.limits, self._clock(), subject=self._subject, signals=self._signals)


class Unpaced:
    """Lets everything through, in batches of one size: for benchmarks. The command line does not offer it."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.pause_patience: float | None = None
        self.peak_lag: timedelta | None = None
        self.peak_lag_bytes: int | None = None
        self.verdict: Verdict | None = None
        self.wal_rate: int | None = None
        self.pace = Pace(State.RUNNING, time.monotonic(), reason="unpaced")
        self.speed = 1.0

    def wait(self, stop: Callable[[], bool], on_wait: Callable[[Verdict], None] | None = None) -> None:  # noqa: ARG002
        """Return at once."""
        return

    def look(self) -> Pace:
        """Return that it runs."""
        return self.pace

    def wrote(self, rows: int, seconds: float) -> None:
        """Learn nothing."""

    def answered(self, rows: int, seconds: float) -> None:
        """Learn nothing."""

    def close(self) -> None:
        """Close nothing."""


def _gave_up(verdict: Verdict, waited: float) -> SignalError:
    signals = [reading.signal for reading in verdict.deciding]
    return SignalError(
        f"waited {waited:.0f} s, {', '.join(signals)} is {verdict.state.upper()}: {verdict.reason}",
        hazard="Nothing is written while a signal is not OK: readers of a standby that lags see old rows, "
        "and a standby that cannot be seen may be lost",
        next_step=verdict.next_step,
        signals=signals,
        state=str(verdict.state),
    )

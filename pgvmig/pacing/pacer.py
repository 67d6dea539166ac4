"""Waits until the signals let the worker write, and gives up after a time. Knows no signal's particulars."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Self

from pgvmig.errors import PgvmigError, SignalError
from pgvmig.pacing import lag
from pgvmig.pacing.limits import DEFAULTS, Limits
from pgvmig.pacing.signals import Reading, Verdict
from pgvmig.pacing.standbys import Connection, DatabaseReader, Reader

DEFAULT_PATIENCE_SECONDS = 300.0
DEFAULT_INTERVAL_SECONDS = 0.25
# The first looks after a pause are that much closer together: our samples are old by then, and a standby that keeps up
# shows it within milliseconds.
_FIRST_LOOK = 1 / 16


class Pacer:
    """Asked before every batch. Not for several threads at once.

    `patience` is how many seconds `wait` waits before it gives up, `interval` how many lie between two readings.
    """

    def __init__(
        self,
        reader: Reader,
        limits: Limits,
        *,
        patience: float = DEFAULT_PATIENCE_SECONDS,
        interval: float = DEFAULT_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._patience = patience
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._ring = lag.Ring()
        self.peak_lag: timedelta | None = None
        self.peak_lag_bytes: int | None = None

    @classmethod
    def open(
        cls,
        dsn_or_connect: str | Callable[[], Connection],
        *,
        max_lag: timedelta = DEFAULTS.max_lag,
        max_lag_bytes: int = DEFAULTS.max_lag_bytes,
        patience: float = DEFAULT_PATIENCE_SECONDS,
        interval: float = DEFAULT_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Self:
        """Return a pacer with a connection of its own, which the first reading opens."""
        return cls(
            DatabaseReader(dsn_or_connect, clock),
            Limits(max_lag=max_lag, max_lag_bytes=max_lag_bytes),
            patience=patience,
            interval=interval,
            clock=clock,
            sleep=sleep,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()

    def check(self) -> Verdict:
        """Read every signal once. Never raises for what it finds: what cannot be read is UNKNOWN."""
        verdict = Verdict(self._lag())
        self.peak_lag = max((x for x in (self.peak_lag, verdict.lag) if x is not None), default=None)
        self.peak_lag_bytes = max((x for x in (self.peak_lag_bytes, verdict.lag_bytes) if x is not None), default=None)
        return verdict

    def wait(self, stop: Callable[[], bool], on_wait: Callable[[Verdict], None] | None = None) -> Verdict:
        """Return the verdict once it lets the worker write.

        When `stop()` is true it returns the last verdict as it is, within one interval: look at `may_write`. `on_wait`
        gets each verdict that makes it wait, from the second interval on. Raises SignalError after `patience`, and
        at once for what no waiting cures.
        """
        began = self._clock()
        pause = self._interval * _FIRST_LOOK
        while True:
            verdict = self.check()
            if verdict.may_write or stop():
                return verdict
            waited = self._clock() - began
            if waited >= self._patience or any(reading.lasting for reading in verdict.deciding):
                raise _gave_up(verdict, waited)
            if on_wait is not None and waited >= self._interval:
                on_wait(verdict)
            self._sleep(min(pause, self._patience - waited))
            pause = min(pause * 2, self._interval)

    def _lag(self) -> tuple[Reading, ...]:
        try:
            snapshot = self._reader.read()
        except PgvmigError as error:
            # The next connection may be to another server, after a failover: its LSNs do not compare with ours.
            self._ring.clear()
            return lag.unreadable(error.found, error.next_step)
        if snapshot.lsn is None:
            self._ring.clear()
        else:
            self._ring.add(snapshot.began, snapshot.lsn)
        return lag.judge(snapshot, self._ring, self._limits, self._clock())


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

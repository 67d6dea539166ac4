"""The control law: from what the signals say and how long transactions took, to how fast the worker may go on.

Pure: times are given and nothing is read or waited for, so that recorded readings and a made-up clock test all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import PAUSE, Reading, SignalState, Verdict

# A batch begins small: of a table nobody knows beforehand what a row costs.
FIRST_BATCH = 64
# At most a quarter more a batch: a transaction that is twice as long as the last one surprises nobody.
GROWTH = 1.25
# Brake on what a slow transaction says, speed up on what several fast ones say.
_SLOWER, _FASTER = 0.5, 0.2

# A batch that the provider takes longer for is lost, and paid again, whenever a run ends: nobody waits for it.
ANSWER_SECONDS = 1.0
_ANSWER = 0.3

# A stop halves the speed. It comes back in so many seconds of running for each half; repeated stops find the speed that
# the standbys can take, which would otherwise swing between stopped and full.
AFTER_STOP = 0.5
RECOVERY_SECONDS = 30.0
SLOWEST = 1 / 16

# How long a cluster that is far beyond its limits is left alone before anybody looks again.
HIBERNATION_SECONDS = 60.0
# However slow and however nice, the next batch comes within that.
LONGEST_PAUSE = 10.0


class State(StrEnum):
    """How the worker goes on. Only the first two write."""

    RUNNING = "running"
    HOLDING = "holding"  # within the limits, near one of them: no faster than it is
    STOPPED = "stopped"
    UNKNOWN = "unknown"
    PAUSED = "paused"
    HIBERNATING = "hibernating"
    FAILED = "failed"

    @property
    def writes(self) -> bool:
        """Whether batches are written."""
        return self in {State.RUNNING, State.HOLDING}


@dataclass(frozen=True, slots=True)
class Pace:
    """What was decided: a state, and the signal, reason and next step that explain it. None when nothing is to be said.

    `since` is when the state began, by the clock of whoever asks.
    """

    state: State
    since: float
    signal: str | None = None
    reason: str | None = None
    next_step: str | None = None


class Controller:
    """Decides for one table. `limits` may be replaced at any time, the next decision is made by them.

    `batch_size` is in rows, never above `ceiling`; `speed` is the share of full speed, above 0 and up to 1.
    """

    def __init__(self, limits: Limits, *, ceiling: int, now: float) -> None:
        self.limits = limits
        self.pace = Pace(State.RUNNING, now)
        self._ceiling = ceiling
        self._size = float(min(FIRST_BATCH, ceiling))
        self._cost = _Cost()
        self._answer_per_row = 0.0
        self._held: frozenset[str] = frozenset()
        self._looked = now
        self._waiting_since: float | None = None
        self._hibernates_until: float | None = None
        self._braked = False
        self._recovery = 1.0
        self._allowed = 1.0

    @property
    def batch_size(self) -> int:
        """How many rows the next transaction writes at most."""
        size = self._size
        if self._answer_per_row:
            # Less than the first batch gains nothing: a request takes its time, however few texts are in it.
            size = min(size, max(ANSWER_SECONDS / self._answer_per_row, FIRST_BATCH))
        return max(1, int(size + 1e-6))  # 9.999 is a division's 10

    @property
    def speed(self) -> float:
        """The share of full speed: what signals ask for, and what the last stop left."""
        return max(self._recovery * self._allowed, SLOWEST)

    def hold_back(self, verdict: Verdict) -> Verdict:
        """Return the verdict with hysteresis: a signal that stopped stops until it is at its resume limit.

        Without it a worker at the limit would start and stop with every reading, and each start sends a burst.
        """
        held = Verdict(tuple(self._held_back(reading) for reading in verdict.readings))
        # A signal that cannot be read has not come down, whatever name it goes by then.
        dark = any(reading.state is SignalState.UNKNOWN for reading in held.readings)
        self._held = frozenset(reading.signal for reading in _stops(held)) | (self._held if dark else frozenset())
        return held

    def look(self, verdict: Verdict, now: float) -> Pace:
        """Decide by a verdict that `hold_back` returned."""
        state = self._state(verdict, now)
        self._allowed = verdict.speed
        self._adapt(state, now)
        self.pace = self._explain(state, verdict, now)
        self._looked = now
        return self.pace

    def wrote(self, rows: int, seconds: float) -> None:
        """Learn from a transaction that wrote so many rows in so many seconds."""
        if rows < 1:
            return
        self._cost.add(rows, seconds)
        wanted = self.limits.target_time.total_seconds() / self._cost.per_row
        # A batch that was far from full says nothing about larger ones, and near a limit nothing grows.
        may_grow = self.pace.state is State.RUNNING and rows * 2 >= self.batch_size
        self._size = max(1.0, min(wanted, self._size * (GROWTH if may_grow else 1.0), float(self._ceiling)))

    def answered(self, rows: int, seconds: float) -> None:
        """Learn from a provider that took so many seconds for a batch of so many rows."""
        if rows:
            before = self._answer_per_row or seconds / rows
            self._answer_per_row = before + _ANSWER * (seconds / rows - before)

    def pause_after(self, seconds: float) -> float:
        """Return how long to leave the database alone after a transaction: its own time by the nice ratio and speed.

        At speed 0.5 a transaction and its pause take twice as long together as at full speed.
        """
        return min(seconds * ((1 + self.limits.nice) / self.speed - 1), LONGEST_PAUSE)

    def rest(self, now: float) -> float:
        """Return how many seconds are left of a hibernation, 0 when there is none."""
        return max((self._hibernates_until or now) - now, 0.0)

    def patience_left(self, now: float) -> float:
        """Return how many seconds may yet be waited before the run fails."""
        return self.limits.patience.total_seconds() - self.waited(now)

    def waited(self, now: float) -> float:
        """Return for how long nothing could be written. An operator's pause does not count."""
        return 0.0 if self._waiting_since is None else now - self._waiting_since

    def _held_back(self, reading: Reading) -> Reading:
        resume = self.limits.resume_ratio
        pressure = reading.pressure
        if reading.signal not in self._held or reading.state is not SignalState.OK or pressure is None:
            return reading
        if pressure <= resume:
            return reading
        return replace(
            reading,
            state=SignalState.STOP,
            reason=f"{reading.reason}; it stopped the worker, which goes on at {resume:.0%} of the limit",
        )

    def _state(self, verdict: Verdict, now: float) -> State:
        if verdict.may_write:
            self._waiting_since = self._hibernates_until = None
            near = any((reading.pressure or 0) > self.limits.resume_ratio for reading in verdict.readings)
            return State.HOLDING if near else State.RUNNING
        if verdict.paused:
            self._waiting_since = self._hibernates_until = None
            return State.PAUSED
        if self._waiting_since is None:
            self._waiting_since = now
        if any(reading.lasting for reading in verdict.deciding) or self.patience_left(now) <= 0:
            return State.FAILED
        if self._critical(verdict):
            return self._hibernate(now)
        self._hibernates_until = None
        return State.STOPPED if verdict.state is SignalState.STOP else State.UNKNOWN

    def _critical(self, verdict: Verdict) -> bool:
        return any((reading.pressure or 0) > self.limits.critical_ratio for reading in _stops(verdict))

    def _hibernate(self, now: float) -> State:
        """Leave the cluster alone for a time; when it is no better then, this is beyond a worker."""
        if self._hibernates_until is None:
            self._hibernates_until = now + HIBERNATION_SECONDS
        return State.HIBERNATING if now < self._hibernates_until else State.FAILED

    def _adapt(self, state: State, now: float) -> None:
        if state is State.RUNNING and self.pace.state is State.RUNNING:
            self._recovery = min(1.0, self._recovery + (now - self._looked) * (1 - AFTER_STOP) / RECOVERY_SECONDS)
        if state in {State.STOPPED, State.HIBERNATING} and not self._braked:
            self._recovery = max(self._recovery * AFTER_STOP, SLOWEST)
            self._size = max(1.0, self._size * AFTER_STOP)
            self._braked = True
        self._braked = self._braked and not state.writes

    def _explain(self, state: State, verdict: Verdict, now: float) -> Pace:
        since = self.pace.since if state is self.pace.state else now
        telling = _telling(state, verdict, self.limits)
        if not telling:
            return Pace(state, since)
        steps = dict.fromkeys(reading.next_step for reading in telling if reading.next_step)
        return Pace(
            state,
            since,
            ", ".join(reading.signal for reading in telling),
            "; ".join(reading.reason for reading in telling),
            "; ".join(steps) or None,
        )


class _Cost:
    """Seconds a row, smoothed: both sums fade, so that a large batch counts for more than a small one."""

    def __init__(self) -> None:
        self._rows = self._seconds = 0.0

    @property
    def per_row(self) -> float:
        return max(self._seconds / self._rows, 1e-9)

    def add(self, rows: int, seconds: float) -> None:
        if not self._rows:
            self._rows, self._seconds = float(rows), seconds
            return
        weight = _SLOWER if seconds / rows > self.per_row else _FASTER
        self._rows += weight * (rows - self._rows)
        self._seconds += weight * (seconds - self._seconds)


def _stops(verdict: Verdict) -> tuple[Reading, ...]:
    return tuple(reading for reading in verdict.readings if reading.state is SignalState.STOP)


def _telling(state: State, verdict: Verdict, limits: Limits) -> tuple[Reading, ...]:
    """Return the readings that explain a state."""
    if state is State.RUNNING:
        return tuple(reading for reading in verdict.readings if reading.speed < 1)
    if state is State.HOLDING:
        return tuple(reading for reading in verdict.readings if (reading.pressure or 0) > limits.resume_ratio)
    if state is State.PAUSED:
        return tuple(reading for reading in _stops(verdict) if reading.kind == PAUSE)
    return verdict.deciding

"""What a signal says, as data. Pure.

A signal is one thing that must be well before a batch is written. Reading it, judging it and waiting for it live in
other files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any


class SignalState(StrEnum):
    """What a signal says. Only the last two let anything be written."""

    STOP = "stop"
    UNKNOWN = "unknown"
    OK = "ok"
    NOT_APPLICABLE = "not applicable"  # proven, never assumed: the reason is the proof


# The gravest first: a certain STOP says more than an UNKNOWN beside it.
_GRAVITY = list(SignalState)
# The kind of the readings that an operator's pause gives.
PAUSE = "pause"
_MAY_WRITE = frozenset({SignalState.OK, SignalState.NOT_APPLICABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One signal at one moment.

    `reason` is a sentence without its full stop, `next_step` what somebody can do about it. Lag signals carry their
    figures where they are known; `lag` is what the standby is behind at least. `lasting`: no waiting cures it.
    `pressure` is what was measured as a multiple of its limit, above 1 is STOP; None where nothing is measured.
    `speed`: go on, at this share of the speed. `kind` is the signal's name in pgvmig.pacing.registry; `signal` may say
    of what it is.
    """

    signal: str
    state: SignalState
    reason: str
    next_step: str | None = None
    lag: timedelta | None = None
    lag_bytes: int | None = None
    lasting: bool = False
    pressure: float | None = None
    speed: float = 1.0
    kind: str = ""

    @property
    def gravity(self) -> int:
        """How much it stands in the way: 0 is the gravest."""
        return _GRAVITY.index(self.state)


def ok(signal: str, reason: str, **more: Any) -> Reading:
    """Return a reading that lets the worker write; `more` are Reading's other fields."""
    return Reading(signal=signal, state=SignalState.OK, reason=reason, **more)


def stop(signal: str, reason: str, next_step: str | None = None, **more: Any) -> Reading:
    """Return a reading that is known to be bad."""
    return Reading(signal=signal, state=SignalState.STOP, reason=reason, next_step=next_step, **more)


def unknown(signal: str, reason: str, next_step: str | None = None, **more: Any) -> Reading:
    """Return a reading that is not known, which stops as well."""
    return Reading(signal=signal, state=SignalState.UNKNOWN, reason=reason, next_step=next_step, **more)


def not_applicable(signal: str, proof: str) -> Reading:
    """Return a reading that cannot be bad, with the proof."""
    return Reading(signal=signal, state=SignalState.NOT_APPLICABLE, reason=proof)


def share(measured: Any, limit: Any) -> float:
    """Return what was measured as a multiple of its limit; both are numbers, or both are time spans."""
    if not limit:
        return math.inf if measured else 0.0
    return float(measured / limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is paced for: signals that concern one table look at this one.

    `relation` is the table's OID, `pids` are our own backends. `vector_relation` is where the version's vectors are
    when that is another table; `rewrites`: whether the table's rows are updated, which leaves dead ones behind.
    Without a `version` any of the slot's is meant.
    """

    relation: int
    slot: str | None = None
    version: str | None = None
    pids: frozenset[int] = frozenset()
    vector_relation: int | None = None
    rewrites: bool = True

    @property
    def relations(self) -> frozenset[int]:
        """The tables that are written."""
        return frozenset({self.relation, self.vector_relation or self.relation})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all signals say together: the gravest decides."""

    readings: tuple[Reading, ...]

    def __post_init__(self) -> None:
        if not self.readings:
            raise ValueError("a verdict without a reading would let everything pass")

    @property
    def may_write(self) -> bool:
        """Whether every signal is OK, or proven not applicable."""
        return self.state in _MAY_WRITE

    @property
    def deciding(self) -> tuple[Reading, ...]:
        """The gravest readings, of which there may be several."""
        gravest = min(reading.gravity for reading in self.readings)
        return tuple(reading for reading in self.readings if reading.gravity == gravest)

    @property
    def state(self) -> SignalState:
        """The gravest state."""
        return self.deciding[0].state

    @property
    def reason(self) -> str:
        """The reasons of the gravest readings."""
        return "; ".join(dict.fromkeys(reading.reason for reading in self.deciding))

    @property
    def next_step(self) -> str | None:
        """What to do about the gravest readings, None where nothing is to be done."""
        steps = dict.fromkeys(reading.next_step for reading in self.deciding if reading.next_step)
        return "; ".join(steps) or None

    @property
    def speed(self) -> float:
        """At which share of its speed the worker may go: the least that any signal allows."""
        return min(reading.speed for reading in self.readings)

    @property
    def pressure(self) -> float:
        """How near the worst of the measured signals is to its limit, which is 1; 0 where nothing is measured."""
        return max((reading.pressure for reading in self.readings if reading.pressure is not None), default=0.0)

    @property
    def paused(self) -> bool:
        """Whether an operator wants it so, which is no failure, whatever else is not well meanwhile."""
        return any(reading.kind == PAUSE and reading.state is SignalState.STOP for reading in self.readings)

    @property
    def lag(self) -> timedelta | None:
        """The largest lag in time, None where none was read."""
        return max((reading.lag for reading in self.readings if reading.lag is not None), default=None)

    @property
    def lag_bytes(self) -> int | None:
        """The largest lag in bytes, None where none was read."""
        return max((reading.lag_bytes for reading in self.readings if reading.lag_bytes is not None), default=None)

"""What a signal says, as data. Pure.

A signal is one thing that must be well before a batch is written. Reading it, judging it and waiting for it live in
other files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class SignalState(StrEnum):
    """What a signal says. Only the last two let anything be written."""

    STOP = "stop"
    UNKNOWN = "unknown"
    OK = "ok"
    NOT_APPLICABLE = "not applicable"  # proven, never assumed: the reason is the proof


# The gravest first: a certain STOP says more than an UNKNOWN beside it.
_GRAVITY = list(SignalState)
_MAY_WRITE = frozenset({SignalState.OK, SignalState.NOT_APPLICABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One signal at one moment.

    `reason` is a sentence without its full stop, `next_step` what somebody can do about it. Lag signals carry their
    figures where they are known; `lag` is what the standby is behind at least. `lasting`: no waiting cures it.
    """

    signal: str
    state: SignalState
    reason: str
    next_step: str | None = None
    lag: timedelta | None = None
    lag_bytes: int | None = None
    lasting: bool = False

    @property
    def gravity(self) -> int:
        """How much it stands in the way: 0 is the gravest."""
        return _GRAVITY.index(self.state)


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
        return "; ".join(reading.reason for reading in self.deciding)

    @property
    def next_step(self) -> str | None:
        """What to do about the gravest readings, None where nothing is to be done."""
        steps = dict.fromkeys(reading.next_step for reading in self.deciding if reading.next_step)
        return "; ".join(steps) or None

    @property
    def lag(self) -> timedelta | None:
        """The largest lag in time, None where none was read."""
        return max((reading.lag for reading in self.readings if reading.lag is not None), default=None)

    @property
    def lag_bytes(self) -> int | None:
        """The largest lag in bytes, None where none was read."""
        return max((reading.lag_bytes for reading in self.readings if reading.lag_bytes is not None), default=None)

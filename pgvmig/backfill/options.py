"""What a run is asked to do, what it tells while it does it, and what it says in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from pgvmig.backfill.claims import Position
from pgvmig.backfill.runs import Counters
from pgvmig.catalog.versions import Version
from pgvmig.errors import UsageError
from pgvmig.pacing.controller import Pace
from pgvmig.pacing.limits import DEFAULTS, Limits
from pgvmig.pacing.pacer import DEFAULT_CEILING, AnyPacer
from pgvmig.pacing.signals import Subject

DEFAULT_LEASE = 60.0

# done: nothing was left. time, signal: asked to end, work may be left. locked: what is left is locked by others.
# paused: an operator wants it so.
Why = Literal["done", "time", "signal", "locked", "paused"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a version stands; handed to `Options.report` after every batch, and while the run waits.

    `waiting` is what it waits for, `rows` an estimate of the table's, `trouble` why the provider is asked again.
    """

    version: Version
    counters: Counters
    position: Position
    waiting: str | None = None
    pace: Pace | None = None
    batch_size: int = 0
    rows: int | None = None
    trouble: str | None = None


def _ignore(_: Progress) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to work on and within which limits.

    Without `target` every version that workers write. `max_time` and `lease` are seconds. `batch_size` is how many rows
    a transaction may write; how many it does write follows `limits.target_time`. `stop` is set from outside (SIGTERM)
    to end the run within a second or two. `pacer` opens another one than the signals' own for a version's table.
    """

    dsn: str
    target: str | None = None
    version: str | None = None
    max_time: float | None = None
    batch_size: int = DEFAULT_CEILING
    follow: bool = False
    limits: Limits = DEFAULTS
    pacer: Callable[[Subject], AnyPacer] | None = None
    lease: float = DEFAULT_LEASE
    report: Callable[[Progress], None] = _ignore
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= 10_000:  # noqa: PLR2004
            raise UsageError(f"batch size is {self.batch_size:,}", next_step="give a number from 1 to 10,000")
        if self.lease < 1:
            raise UsageError(f"a lease of {self.lease:g} s is over before a batch is", next_step="give 1 s or more")
        if self.max_time is not None and self.max_time <= 0:
            raise UsageError(f"max time is {self.max_time:g} s", next_step="give a number above 0, or leave it out")


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended, and its counters by version (`documents v2`)."""

    why: Why
    versions: dict[str, Counters]
    seconds: float
    waited: timedelta
    peak_lag: timedelta | None
    peak_lag_bytes: int | None

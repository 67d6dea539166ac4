"""All signals, in the order in which people read about them. A new one is a file in watch/ and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from pgvmig.errors import ConfigError
from pgvmig.pacing import lag
from pgvmig.pacing.definition import Look, Signal
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.ring import History
from pgvmig.pacing.signals import Reading, Subject
from pgvmig.pacing.snapshot import Snapshot
from pgvmig.pacing.watch import (
    archiving,
    blocking,
    custom,
    disk,
    horizon,
    index_build,
    pause,
    slots,
    synchronous,
    throttle,
    vacuum,
    wal_rate,
)

SIGNALS: tuple[Signal, ...] = (
    lag.SIGNAL,
    slots.SIGNAL,
    synchronous.SIGNAL,
    archiving.SIGNAL,
    index_build.SIGNAL,
    vacuum.SIGNAL,
    blocking.SIGNAL,
    horizon.SIGNAL,
    wal_rate.SIGNAL,
    disk.WAL_SIGNAL,
    disk.DATABASE_SIGNAL,
    disk.FREE_SIGNAL,
    pause.SIGNAL,
    pause.FILE_SIGNAL,
    throttle.SIGNAL,
    custom.SIGNAL,
)


def judge(
    snapshot: Snapshot,
    history: History,
    limits: Limits,
    now: float,
    *,
    subject: Subject | None = None,
    signals: Sequence[Signal] = SIGNALS,
) -> tuple[Reading, ...]:
    """Return every signal's readings, for what `subject` says is written; None is anything at all.

    `history` holds the snapshot's own samples already.
    """
    look = Look(snapshot=snapshot, limits=limits, history=history, now=now, subject=subject)
    return tuple(reading for signal in signals for reading in signal.read(look))


def in_force(limits: Limits, snapshot: Snapshot, subject: Subject | None = None) -> Limits:
    """Return the limits with what `pgvmig.throttle` changes for `subject`.

    What cannot be read or understood there changes nothing: its signal is UNKNOWN then, and nothing is written.
    """
    answer = snapshot.answers.get(throttle.NAME)
    try:
        return limits.changed(**throttle.overrides(answer.rows if answer else (), subject))
    except ConfigError:
        return limits

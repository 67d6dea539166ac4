"""Whether all signals are well, for those who start something long once: an index build, a DBA's own maintenance."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from pgvmig.errors import SignalError
from pgvmig.pacing.limits import DEFAULTS, Limits
from pgvmig.pacing.pacer import Pacer
from pgvmig.pacing.signals import SignalState, Subject, Verdict
from pgvmig.pacing.standbys import Connection

# The first reading has no samples before it: for how long a busy standby has been behind takes another look or two.
_LOOKS = 4
_BETWEEN = 0.15


def signals(
    dsn_or_connect: str | Callable[[], Connection], limits: Limits = DEFAULTS, subject: Subject | None = None
) -> Verdict:
    """Return what the signals say now, about `subject` or about anything that is paced. Raises nothing."""
    with Pacer.open(dsn_or_connect, limits, subject=subject) as pacer:
        return settled(pacer)


def settled(pacer: Pacer) -> Verdict:
    """Return what its signals say now, after as many looks as they need."""
    verdict = pacer.check()
    for _ in range(_LOOKS):
        if verdict.state is not SignalState.UNKNOWN or all(reading.lasting for reading in verdict.deciding):
            break
        time.sleep(_BETWEEN)
        verdict = pacer.check()
    return verdict


def require_calm(
    dsn_or_connect: str | Callable[[], Connection], limits: Limits = DEFAULTS, subject: Subject | None = None
) -> Verdict:
    """Return when every signal is OK, waiting for `limits.patience`. Raises SignalError, also for an operator's pause.

    For what runs for long and cannot be paced itself: ask before it begins.
    """
    patience = limits.patience / timedelta(seconds=1)
    with Pacer.open(dsn_or_connect, limits, subject=subject, pause_patience=patience) as pacer:
        verdict = pacer.wait(lambda: False)
    if not verdict.may_write:
        raise SignalError(
            f"waited {patience:.0f} s: {verdict.reason}",
            hazard="Nothing that is long begins while somebody wants the database left alone",
            next_step=verdict.next_step,
            signals=[reading.signal for reading in verdict.deciding],
            state=str(verdict.state),
        )
    return verdict

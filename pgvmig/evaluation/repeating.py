"""Evaluating again and again while a backfill runs: does the threshold hold already, or should the switch wait?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from pgvmig.errors import TooEarlyError
from pgvmig.evaluation.comparing import Evaluation, percent
from pgvmig.evaluation.verdict import GO, NO_GO


def repeat(
    evaluate: Callable[[], Evaluation],
    every: float,
    max_time: float | None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Evaluation | TooEarlyError]:
    """Yield an evaluation every so many seconds, the last one on the whole backfill; an error while it is too early.

    After `max_time` no other one is begun.
    """
    began = clock()
    while True:
        started = clock()
        try:
            outcome: Evaluation | TooEarlyError = evaluate()
        except TooEarlyError as error:
            outcome = error
        yield outcome
        if isinstance(outcome, Evaluation) and not outcome.pilot:
            return
        pause = max(started + every - clock(), 0.0)
        if max_time is not None and clock() + pause - began > max_time:
            return
        sleep(pause)


def advice(evaluation: Evaluation) -> str | None:
    """Return what a pilot says about when to switch, None where it says nothing or the backfill is complete."""
    if not evaluation.pilot:
        return None
    coverage = evaluation.figures["coverage"]
    share = percent(coverage["embedded"] / coverage["total"]) if coverage["total"] else percent(1.0)
    if evaluation.verdict == GO:
        return f"the thresholds hold at {share} of the backfill: the cutover could be pulled forward to its end"
    if evaluation.verdict == NO_GO:
        return f"the thresholds do not hold at {share} of the backfill: push the cutover back, and look at the losses"
    return f"it cannot be told whether the thresholds hold, at {share} of the backfill"

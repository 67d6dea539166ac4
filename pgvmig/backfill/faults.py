"""Points at which a test lets the worker die.

They are in the shipped code because a process must be killed between two particular statements of its own to show
that nothing is lost there; no seam outside the worker can do that. Without the variable they cost a look at a dict.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "PGVMIG_KILL_AT"
POINTS = ("after-claim", "during-request", "before-commit", "after-commit")

_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """Die by SIGKILL if `PGVMIG_KILL_AT` is `<point>` or, at the n-th time, `<point>:<n>`."""
    wanted, _, times = os.environ.get(VARIABLE, "").partition(":")
    if wanted != point:
        return
    _reached[point] += 1
    if _reached[point] >= int(times or 1):
        os.kill(os.getpid(), signal.SIGKILL)

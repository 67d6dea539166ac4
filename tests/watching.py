"""What tests of the pacing signals on real servers share: a pacer for a table, asked until it says something."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from judging import OK, STOP

from pgvmig.pacing.limits import DEFAULTS
from pgvmig.pacing.pacer import Pacer
from pgvmig.pacing.signals import Reading, Subject


@contextmanager
def pacers(dsn: str, relation: int) -> Iterator[Callable[..., Pacer]]:
    """Open pacers for the slot `embedding` of a table, each with limits of its own."""
    with ExitStack() as stack:

        def opened(dsn: str = dsn, about: int = relation, pids: Iterable[int] = (), **limits: object) -> Pacer:
            subject = Subject(relation=about, slot="embedding", pids=frozenset(pids))
            return stack.enter_context(Pacer.open(dsn, DEFAULTS.changed(**limits), subject=subject))

        yield opened


def readings(pacer: Pacer, kind: str) -> list[Reading]:
    """Read every signal once, and return those of that kind."""
    return [reading for reading in pacer.check().readings if reading.kind == kind]


def one(pacer: Pacer, kind: str) -> Reading:
    """Read every signal once, and return the only reading of that kind."""
    (found,) = readings(pacer, kind)
    return found


def until(
    pacer: Pacer,
    kind: str,
    condition: Callable[[Reading], object],
    seconds: float = 60,
    *,
    push: Callable[[], None] | None = None,
) -> Reading:
    """Read until a reading of that kind fulfils the condition, and return it; `push` before each second's first."""
    deadline = time.monotonic() + seconds
    pushed = 0.0
    while True:
        if push is not None and time.monotonic() > pushed + 1:
            push()
            pushed = time.monotonic()
        found = readings(pacer, kind)
        for reading in found:
            if condition(reading):
                return reading
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def stops(reading: Reading) -> bool:
    """Whether it stops the worker."""
    return reading.state is STOP


def is_ok(reading: Reading) -> bool:
    """Whether it lets the worker write at full speed."""
    return reading.state is OK and reading.speed == 1.0

"""Where the cluster was when: our own samples, from which ages and rates come. Pure, the clock is given."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

# Four minutes of steady sampling at the least, what is older gets coarser.
_RING_SIZE = 2048


class Age(NamedTuple):
    """How long ago the position after a given one was reached: in seconds, at least and at most.

    `at_most` is None when it is older than our samples.
    """

    at_least: float
    at_most: float | None


class Ring:
    """Where the primary's WAL (or its transaction counter) was when: samples, the oldest of them thinned out."""

    def __init__(self, size: int = _RING_SIZE) -> None:
        self._size = size
        self._clocks: list[float] = []
        self._lsns: list[int] = []

    def __len__(self) -> int:
        return len(self._clocks)

    def clear(self) -> None:
        """Forget everything: after a failover LSNs mean something else."""
        self._clocks.clear()
        self._lsns.clear()

    def add(self, clock: float, lsn: int) -> None:
        """Take a sample; `clock` was read before the LSN was asked for."""
        if self._lsns and lsn < self._lsns[-1]:
            self.clear()  # another history of WAL
        if self._lsns[-2:] == [lsn, lsn]:
            self._clocks[-1] = clock  # of an idle stretch only the ends tell anything
            return
        self._clocks.append(clock)
        self._lsns.append(lsn)
        if len(self) > self._size:
            half = self._size // 2
            del self._clocks[1:half:2], self._lsns[1:half:2]

    def age(self, replay_lsn: int, began: float, ended: float) -> Age:
        """Return how old the WAL beyond `replay_lsn` is, which was read between `began` and `ended`.

        It was written after the newest sample that does not go beyond `replay_lsn`, and before the next one.
        """
        following = bisect_right(self._lsns, replay_lsn)
        at_least = began - self._clocks[following] if following < len(self) else 0.0
        return Age(max(at_least, 0.0), ended - self._clocks[following - 1] if following else None)

    def rate(self, window: float, least: float) -> float | None:
        """Return by how much a second it grew in the last `window` seconds.

        None while the samples of that time are less than `least` seconds apart.
        """
        if not self._clocks:
            return None
        # The newest sample that is older than the window counts as well: between two samples nothing is known.
        first = max(bisect_right(self._clocks, self._clocks[-1] - window) - 1, 0)
        seconds = self._clocks[-1] - self._clocks[first]
        return (self._lsns[-1] - self._lsns[first]) / seconds if seconds >= least else None


@dataclass(frozen=True, slots=True)
class History:
    """What one primary's readings leave behind: where its WAL and its transaction counter were."""

    wal: Ring = field(default_factory=Ring)
    xids: Ring = field(default_factory=Ring)

    def add(self, clock: float, lsn: int | None, xid: int | None) -> None:
        """Take a reading's samples. Without an LSN it was of another server, and what went before says nothing."""
        if lsn is None:
            self.clear()
            return
        self.wal.add(clock, lsn)
        if xid is not None:
            self.xids.add(clock, xid)

    def clear(self) -> None:
        """Forget everything: the next connection may be to another server."""
        self.wal.clear()
        self.xids.clear()

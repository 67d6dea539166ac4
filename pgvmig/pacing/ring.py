"""Where the cluster was when: our own samples, from which ages and rates come. Pure, the clock is given."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Four minutes of steady sampling at the least, what is older gets coarser.
_RING_SIZE = 2048
# Of how many seconds the speed of replay is taken, and how many it takes at the least to say anything.
_REPLAY_WINDOW = 2.0
_REPLAY_LEAST = 0.1
# The same of how fast WAL is written: two samples that are closer than that measure a single batch.
_WAL_WINDOW = 5.0
_WAL_LEAST = 0.2


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


class Replay:
    """How fast a standby replays while it has something to replay.

    Only that tells how long it will take for what it lacks. The age of what it lacks grows until the last byte of it is
    replayed: a worker that stops when the age is at the limit, with a standby that replays a third of what it writes,
    sees three times the limit.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._written = 0

    def add(self, clock: float, lsn: int, replay_lsn: int) -> None:
        """Take a sample; `lsn` is where the primary was. A standby at or past that of the last sample had a rest."""
        if not self._samples or replay_lsn >= self._written or replay_lsn < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((clock, replay_lsn))
        self._written = lsn
        while len(self._samples) > 1 and self._samples[1][0] <= clock - _REPLAY_WINDOW:
            self._samples.popleft()

    def seconds(self, lag_bytes: int) -> float | None:
        """Return how long so many bytes will take, None where that is not known."""
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        if ended - began < _REPLAY_LEAST or last == first:
            return None
        return lag_bytes * (ended - began) / (last - first)


@dataclass(frozen=True, slots=True)
class History:
    """What one primary's readings leave behind: where its WAL, its transaction counter and its standbys were."""

    wal: Ring = field(default_factory=Ring)
    xids: Ring = field(default_factory=Ring)
    replays: defaultdict[str, Replay] = field(default_factory=lambda: defaultdict(Replay))

    @property
    def wal_rate(self) -> float | None:
        """How many bytes of WAL the cluster has written a second in the last few seconds, None where not known yet."""
        return self.wal.rate(_WAL_WINDOW, _WAL_LEAST)

    def add(self, clock: float, lsn: int | None, xid: int | None, replayed: Mapping[str, int] | None = None) -> None:
        """Take a reading's samples. Without an LSN it was of another server, and what went before says nothing."""
        if lsn is None:
            self.clear()
            return
        self.wal.add(clock, lsn)
        if xid is not None:
            self.xids.add(clock, xid)
        for name in self.replays.keys() - (replayed or {}).keys():
            del self.replays[name]
        for name, replay_lsn in (replayed or {}).items():
            self.replays[name].add(clock, lsn, replay_lsn)

    def clear(self) -> None:
        """Forget everything: the next connection may be to another server."""
        self.wal.clear()
        self.xids.clear()
        self.replays.clear()

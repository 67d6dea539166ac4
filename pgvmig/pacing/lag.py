"""Replication lag: how far behind the standbys are, from what was read of them. Pure, the clock is given.

No single figure is safe: `replay_lag` is NULL for a standby that caught up and for a frozen one, and
keeps reading milliseconds while replay is paused. The difference of LSNs is right at once, but it is not a time. So
the time comes from our own samples of where WAL was when, and anything that is not known stops the worker.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from pgvmig.catalog.standbys import Standby
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import Reading, SignalState, Verdict, share

SIGNAL = "replication lag"

# Older than that, a reading says nothing about now: this process was suspended, or the server took its time.
MAX_AGE_SECONDS = 5.0
# Four minutes of steady sampling at the least, what is older gets coarser.
_RING_SIZE = 2048
_KILO = 1024
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Position:
    """What a standby itself says when asked through its DSN, or why it does not."""

    replay_lsn: int | None = None
    problem: str | None = None
    next_step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One reading of the primary and its standbys, between two readings of the clock.

    `lsn` was read before the standbys' positions; None means that the server is in recovery itself.
    """

    began: float
    ended: float
    lsn: int | None
    role: str
    sees_figures: bool
    no_standbys: bool
    standbys: Sequence[Standby]
    positions: Mapping[str, Position] = field(default_factory=dict)


class Age(NamedTuple):
    """How long ago the oldest WAL that a standby lacks was written: in seconds, at least and at most.

    `at_most` is None when it is older than our samples.
    """

    at_least: float
    at_most: float | None


class Ring:
    """Where the primary's WAL was when: samples of (clock, LSN), the oldest of them thinned out."""

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


def judge(snapshot: Snapshot, ring: Ring, limits: Limits, now: float) -> tuple[Reading, ...]:
    """Return one reading for each declared standby, or the one that stands for all of them.

    `ring` holds the snapshot's own sample already.
    """
    if snapshot.lsn is None:
        return (_unknown("this server is in recovery, a standby itself", "point --dsn at the primary"),)
    readings = _judge_standbys(_Judge(snapshot, snapshot.lsn, ring, limits))
    if now - snapshot.began > MAX_AGE_SECONDS and Verdict(readings).may_write:
        return (_unknown(f"the reading is {now - snapshot.began:.1f} s old and counts for {MAX_AGE_SECONDS:g} s"),)
    return readings


def _judge_standbys(judge: _Judge) -> tuple[Reading, ...]:
    snapshot = judge.snapshot
    declared = sorted((row for row in snapshot.standbys if row.declared), key=attrgetter("name"))
    if not declared:
        return (_nothing_declared(snapshot, [row for row in snapshot.standbys if not row.declared]),)
    if not snapshot.sees_figures:
        return (_no_privilege(snapshot),)
    return tuple(judge.standby(name, list(rows)) for name, rows in groupby(declared, key=attrgetter("name")))


def _nothing_declared(snapshot: Snapshot, others: Sequence[Standby]) -> Reading:
    names = sorted({other.name for other in others})
    adding = "; ".join(f"pgvmig standby add {name}" for name in names)
    if not snapshot.no_standbys:
        connected = f"; connected: {', '.join(names)}" if names else ""
        unknown = _unknown(
            f"no standby is declared and none was declared absent{connected}",
            adding or "pgvmig standby add NAME | pgvmig standby none",
        )
        return replace(unknown, lasting=True)
    if not others:
        return Reading(
            signal=SIGNAL,
            state=SignalState.NOT_APPLICABLE,
            reason="declared to have no standbys, and none streams from this server",
        )
    if not snapshot.sees_figures:
        return _no_privilege(snapshot)
    states = ", ".join(f"{other.name} ({other.state})" for other in others)
    return _unknown(f"declared to have no standbys, but connected: {states}", adding)


def _no_privilege(snapshot: Snapshot) -> Reading:
    return _unknown(
        f"{snapshot.role} sees no figures in pg_stat_replication (it lacks pg_read_all_stats)",
        f"GRANT pg_monitor TO {quoted(snapshot.role)}",
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges each standby of one snapshot."""

    snapshot: Snapshot
    lsn: int
    ring: Ring
    limits: Limits

    def standby(self, name: str, rows: Sequence[Standby]) -> Reading:
        connected = [row for row in rows if row.connected]
        if not connected:
            return _not_connected(rows[0])
        given = self.snapshot.positions.get(name)
        if given is not None and given.problem is not None:
            return _unknown(f"{name}: {given.problem}", given.next_step, name)
        lsns = [row.replay_lsn for row in connected]
        if given is not None:
            # What the standby says is the truth about it; of two connections under its name it can be one.
            lsns = [given.replay_lsn] if len(connected) == 1 else [*lsns, given.replay_lsn]
        known = [lsn for lsn in lsns if lsn is not None]
        if len(known) < len(lsns):
            states = ", ".join(str(row.state) for row in connected)
            return _unknown(f"{name} has not reported a replay position (state {states})", _look_at(name), name)
        return self._behind(name, min(known), [row.replay_lag for row in connected])

    def _behind(self, name: str, replay_lsn: int, replay_lags: Sequence[timedelta | None]) -> Reading:
        lag_bytes = max(self.lsn - replay_lsn, 0)
        reported = max((lag for lag in replay_lags if lag is not None), default=timedelta())
        if lag_bytes == 0:
            # Proof, whatever `replay_lag` says: that is the past, and stays for a while (or for good, with
            # wal_receiver_status_interval = 0) after a standby has caught up.
            reading = _measured(name, SignalState.OK, f"{name} has replayed everything", lag=reported, lag_bytes=0)
            return replace(reading, pressure=0.0)
        age = self.ring.age(replay_lsn, self.snapshot.began, self.snapshot.ended)
        at_least = max(timedelta(seconds=age.at_least), reported)
        at_most = None if age.at_most is None else max(timedelta(seconds=age.at_most), reported)
        pressure = max(share(at_least, self.limits.max_lag), share(lag_bytes, self.limits.max_lag_bytes))
        return replace(self._within(name, lag_bytes, at_least, at_most, replay_lags), pressure=pressure)

    def _within(
        self,
        name: str,
        lag_bytes: int,
        at_least: timedelta,
        at_most: timedelta | None,
        replay_lags: Sequence[timedelta | None],
    ) -> Reading:
        figures = f"{name} is {_seconds(at_least)} and {_bytes(lag_bytes)} behind"
        if (limit := self._passed(at_least, lag_bytes)) is not None:
            reason = f"{figures}, the limit is {limit}"
            return _measured(name, SignalState.STOP, reason, lag=at_least, lag_bytes=lag_bytes)
        if at_most is None or at_most > self.limits.max_lag or None in replay_lags:
            # The next samples decide: they see it catch up, or the time pass the limit.
            reason = f"{name} is {_bytes(lag_bytes)} behind, for how long is not known yet"
            return _measured(name, SignalState.UNKNOWN, reason, lag=at_least, lag_bytes=lag_bytes)
        return _measured(name, SignalState.OK, figures, lag=at_least, lag_bytes=lag_bytes)

    def _passed(self, lag: timedelta, lag_bytes: int) -> str | None:
        """Return the limit that is passed, None within both."""
        if lag > self.limits.max_lag:
            return _seconds(self.limits.max_lag)
        return _bytes(self.limits.max_lag_bytes) if lag_bytes > self.limits.max_lag_bytes else None


def _not_connected(standby: Standby) -> Reading:
    slot = ""
    if standby.slot_name is not None and not standby.slot_active:
        lost = f" ({standby.slot_wal_status})" if standby.slot_wal_status in {"lost", "unreserved"} else ""
        retained = "no WAL" if standby.slot_retains is None else f"{_bytes(standby.slot_retains)} of WAL"
        slot = f"; its slot {standby.slot_name} is inactive{lost} and retains {retained}"
    return _unknown(
        f"{standby.name} is declared and not connected{slot}",
        f"start it, or pgvmig standby remove {standby.name} if it is gone for good",
        standby.name,
    )


def _look_at(name: str) -> str:
    return (
        f"look on {name} at pg_get_wal_replay_pause_state(), recovery_min_apply_delay and long queries, "
        "or raise --max-lag"
    )


def unreadable(reason: str, next_step: str | None = None) -> tuple[Reading, ...]:
    """Return the readings when there is no snapshot."""
    return (_unknown(reason, next_step),)


def _unknown(reason: str, next_step: str | None = None, name: str | None = None) -> Reading:
    signal = f"{SIGNAL} of {name}" if name else SIGNAL
    return Reading(signal=signal, state=SignalState.UNKNOWN, reason=reason, next_step=next_step)


def _measured(name: str, state: SignalState, reason: str, *, lag: timedelta, lag_bytes: int) -> Reading:
    step = None if state is SignalState.OK else _look_at(name)
    return Reading(
        signal=f"{SIGNAL} of {name}", state=state, reason=reason, next_step=step, lag=lag, lag_bytes=lag_bytes
    )


def quoted(role: str) -> str:
    """Return the role as SQL takes it, in quotes where it needs them."""
    return role if _PLAIN_NAME.fullmatch(role) else '"' + role.replace('"', '""') + '"'


def _seconds(lag: timedelta) -> str:
    seconds = lag.total_seconds()
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _bytes(number: int) -> str:
    # The units of pg_size_pretty, and of PostgreSQL's settings.
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < _KILO:
            return f"{number} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:,.1f} TB"

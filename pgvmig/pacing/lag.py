"""Replication lag: how far behind the standbys are, from what was read of them. Pure, the clock is given.

No single figure is safe: `replay_lag` is NULL for a standby that caught up and for a frozen one, and
keeps reading milliseconds while replay is paused. The difference of LSNs is right at once, but it is not a time. So
the time comes from our own samples of where WAL was when, and anything that is not known stops the worker. What a
standby will need for what it lacks, at the speed at which it replays, counts as well: so far the age will yet grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from operator import attrgetter

from pgvmig.catalog.standbys import Standby
from pgvmig.pacing.definition import MAX_AGE_SECONDS, Look, Signal
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.ring import Replay, Ring
from pgvmig.pacing.signals import Reading, SignalState, Verdict, not_applicable, share, unknown
from pgvmig.pacing.snapshot import Snapshot
from pgvmig.pacing.units import quoted, size, span

NAME = "replication lag"
# A standby that replays next to nothing needs for ever, and what is more than a day says no more than that.
_FORESEEABLE = 86_400.0


def judge(
    snapshot: Snapshot, ring: Ring, limits: Limits, now: float, replays: Mapping[str, Replay] | None = None
) -> tuple[Reading, ...]:
    """Return one reading for each declared standby, or the one that stands for all of them.

    `ring` and `replays` hold the snapshot's own samples already.
    """
    if snapshot.lsn is None:
        return (_unknown("this server is in recovery, a standby itself", "point --dsn at the primary"),)
    readings = _judge_standbys(_Judge(snapshot, snapshot.lsn, ring, limits, replays or {}))
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
        reading = _unknown(
            f"no standby is declared and none was declared absent{connected}",
            adding or "pgvmig standby add NAME | pgvmig standby none",
        )
        return replace(reading, lasting=True)
    if not others:
        return not_applicable(NAME, "declared to have no standbys, and none streams from this server")
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
    replays: Mapping[str, Replay]

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
        reading = replace(self._within(name, lag_bytes, at_least, at_most, replay_lags), pressure=pressure)
        return self._foreseen(reading, name, lag_bytes)

    def _foreseen(self, reading: Reading, name: str, lag_bytes: int) -> Reading:
        """Stop before the lag is at its limit when what was written already will take it there."""
        seconds = self.replays[name].seconds(lag_bytes) if name in self.replays else None
        if seconds is None or reading.state is SignalState.STOP:
            return reading
        needs = timedelta(seconds=min(seconds, _FORESEEABLE))
        pressure = max(reading.pressure or 0.0, share(needs, self.limits.max_lag))
        if needs <= self.limits.max_lag:
            return replace(reading, pressure=pressure)
        return replace(
            reading,
            state=SignalState.STOP,
            reason=f"{name} is {size(lag_bytes)} behind and needs {span(needs)} for that, "
            f"the limit is {span(self.limits.max_lag)}",
            next_step=_look_at(name),
            # It is an estimate: reason enough to stop, none to hibernate.
            pressure=min(pressure, max(reading.pressure or 0.0, self.limits.critical_ratio)),
        )

    def _within(
        self,
        name: str,
        lag_bytes: int,
        at_least: timedelta,
        at_most: timedelta | None,
        replay_lags: Sequence[timedelta | None],
    ) -> Reading:
        figures = f"{name} is {span(at_least)} and {size(lag_bytes)} behind"
        if (limit := self._passed(at_least, lag_bytes)) is not None:
            reason = f"{figures}, the limit is {limit}"
            return _measured(name, SignalState.STOP, reason, lag=at_least, lag_bytes=lag_bytes)
        if at_most is None or at_most > self.limits.max_lag or None in replay_lags:
            # The next samples decide: they see it catch up, or the time pass the limit.
            reason = f"{name} is {size(lag_bytes)} behind, for how long is not known yet"
            return _measured(name, SignalState.UNKNOWN, reason, lag=at_least, lag_bytes=lag_bytes)
        return _measured(name, SignalState.OK, figures, lag=at_least, lag_bytes=lag_bytes)

    def _passed(self, lag: timedelta, lag_bytes: int) -> str | None:
        """Return the limit that is passed, None within both."""
        if lag > self.limits.max_lag:
            return span(self.limits.max_lag)
        return size(self.limits.max_lag_bytes) if lag_bytes > self.limits.max_lag_bytes else None


def _not_connected(standby: Standby) -> Reading:
    slot = ""
    if standby.slot_name is not None and not standby.slot_active:
        lost = f" ({standby.slot_wal_status})" if standby.slot_wal_status in {"lost", "unreserved"} else ""
        retained = "no WAL" if standby.slot_retains is None else f"{size(standby.slot_retains)} of WAL"
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
    return unknown(f"{NAME} of {name}" if name else NAME, reason, next_step, kind=NAME)


def _measured(name: str, state: SignalState, reason: str, *, lag: timedelta, lag_bytes: int) -> Reading:
    step = None if state is SignalState.OK else _look_at(name)
    return Reading(signal=f"{NAME} of {name}", state=state, reason=reason, next_step=step, lag=lag, lag_bytes=lag_bytes)


def _judge_look(look: Look) -> tuple[Reading, ...]:
    return judge(look.snapshot, look.history.wal, look.limits, look.now, look.history.replays)


SIGNAL = Signal(
    name=NAME,
    meaning="every declared standby is connected and at most `max_lag` and `max_lag_bytes` behind, proven by a fresh "
    "reading",
    incident="readers of a standby see what was true minutes ago, and a failover has to wait for the rest",
    judge=_judge_look,
    limits=("max_lag", "max_lag_bytes"),
)

"""A standby that replays more slowly than the worker writes: the worker stops before the lag is at its limit.

Played through with a made-up clock: so much WAL for each second of writing, replayed at a share of that.
"""

from datetime import timedelta

import pytest

from pgvmig.catalog.standbys import Standby
from pgvmig.pacing.lag import SIGNAL
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.pacer import Pacer
from pgvmig.pacing.ring import Replay
from pgvmig.pacing.signals import SignalState
from pgvmig.pacing.snapshot import Snapshot

MB = 1024 * 1024
WRITES = 20 * MB  # a second, while a batch is written
LIMIT = 1.5


class Cluster:
    """A primary and one standby that replays `share` of what a worker can write."""

    def __init__(self, share):
        self.now, self.lsn, self.replayed = 0.0, 0.0, 0.0
        self.speed = share * WRITES
        self.written = [(0.0, 0.0)]
        self.peak = 0.0

    def clock(self):
        return self.now

    def pass_time(self, seconds, writes=0.0):
        step = 0.005
        for _ in range(max(round(seconds / step), 1)):
            self.now += step
            self.lsn += writes * step
            self.replayed = min(self.replayed + self.speed * step, self.lsn)
            self.written.append((self.now, self.lsn))
            self.peak = max(self.peak, self.lag())

    def lag(self):
        while len(self.written) > 1 and self.written[0][1] <= self.replayed:
            self.written.pop(0)
        return self.now - self.written[0][0] if self.lsn > self.replayed else 0.0

    def read(self, limits):
        self.pass_time(0.005)
        row = Standby(
            name="s1", declared=True, pid=1, state="streaming", replay_lsn=int(self.replayed), replay_lag=timedelta()
        )
        return Snapshot(
            began=self.now, ended=self.now, lsn=int(self.lsn), role="w", sees_figures=True, no_standbys=False,
            standbys=[row],
        )  # fmt: skip

    def close(self):
        pass


def write(cluster, seconds, pacer=None):
    end = cluster.now + seconds
    while cluster.now < end:
        rows = 64 if pacer is None else pacer.batch_size
        if pacer is not None:
            pacer.wait(lambda: False)
        took = rows / 5000  # 5,000 rows a second
        cluster.pass_time(took, WRITES)
        if pacer is not None:
            pacer.wrote(rows, took)


@pytest.mark.parametrize("share", [0.15, 0.3, 0.6])
def test_lag_stays_under_twice_the_limit_however_slow_the_standby(share):
    cluster = Cluster(share)
    limits = Limits(max_lag=timedelta(seconds=LIMIT), max_lag_bytes=1 << 40)
    with Pacer(cluster, limits, clock=cluster.clock, sleep=cluster.pass_time, signals=[SIGNAL]) as pacer:
        write(cluster, 60, pacer)

    assert cluster.peak < 2 * LIMIT
    assert cluster.lsn > 30 * share * WRITES  # and half of what the standby can take is written


def test_without_pacing_the_same_standby_falls_behind_without_bound():
    cluster = Cluster(0.3)
    write(cluster, 60)
    assert cluster.peak > 5 * LIMIT


def replay(*samples):
    told = Replay()
    for clock, lsn, replay_lsn in samples:
        told.add(clock, lsn, replay_lsn)
    return told


def test_speed_is_that_of_a_standby_that_had_something_to_replay_all_the_time():
    told = replay((0.0, 10 * MB, 0), (0.25, 20 * MB, 1 * MB), (0.5, 30 * MB, 2 * MB))
    assert told.seconds(8 * MB) == pytest.approx(2.0)


def test_a_standby_that_kept_up_was_not_measured():
    assert replay((0.0, 10 * MB, 0), (0.25, 20 * MB, 10 * MB)).seconds(10 * MB) is None


def test_a_standby_that_stands_still_is_left_to_the_age():
    assert replay((0.0, 10 * MB, 1 * MB), (0.5, 20 * MB, 1 * MB)).seconds(10 * MB) is None


def test_reason_says_what_was_foreseen():
    cluster = Cluster(0.1)
    cluster.pass_time(1.0, WRITES)
    pacer = Pacer(cluster, clock=cluster.clock, sleep=cluster.pass_time, signals=[SIGNAL])
    for _ in range(3):
        pacer.look()
        cluster.pass_time(0.15, WRITES)

    reading = next(r for r in pacer.verdict.readings if r.signal == "replication lag of s1")
    assert reading.state is SignalState.STOP
    assert reading.reason == "s1 is 23.4 MB behind and needs 11.7 s for that, the limit is 1.5 s"
    assert reading.lag < timedelta(seconds=LIMIT)

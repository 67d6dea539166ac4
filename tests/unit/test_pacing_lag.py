"""Lag from recorded readings, and waiting on a fake clock: nothing here is real but the arithmetic."""

from datetime import timedelta

import pytest

from pgvmig.catalog.standbys import Standby
from pgvmig.errors import DatabaseError, SignalError
from pgvmig.pacing import lag
from pgvmig.pacing.lag import judge
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.pacer import Pacer
from pgvmig.pacing.ring import Ring
from pgvmig.pacing.signals import Reading, SignalState, Verdict
from pgvmig.pacing.snapshot import Position, Snapshot

OK, STOP, UNKNOWN, NOT_APPLICABLE = (
    SignalState.OK,
    SignalState.STOP,
    SignalState.UNKNOWN,
    SignalState.NOT_APPLICABLE,
)
MB = 1024 * 1024
LIMITS = Limits(max_lag=timedelta(seconds=1.5), max_lag_bytes=64 * MB)


def seconds(number):
    return timedelta(seconds=number)


def standby(replay_lsn, replay_lag=None, name="standby1", **given):
    lag = None if replay_lag is None else seconds(replay_lag)
    return Standby(
        **{
            "name": name,
            "declared": True,
            "pid": 1,
            "state": "streaming",
            "replay_lsn": replay_lsn,
            "replay_lag": lag,
            **given,
        }
    )


def absent(name="standby1", **slot):
    return Standby(name=name, declared=True, **slot)


def snapshot(at, lsn, *standbys, **given):
    return Snapshot(
        **{
            "began": at,
            "ended": at + 0.002,
            "lsn": lsn,
            "role": "worker",
            "sees_figures": True,
            "no_standbys": False,
            "standbys": standbys,
            **given,
        }
    )


def ring(*samples):
    filled = Ring()
    for clock, lsn in samples:
        filled.add(clock, lsn)
    return filled


def verdict(taken, samples=(), limits=LIMITS, now=None):
    """Judge as the pacer does: the snapshot's own sample is in the ring."""
    filled = ring(*samples)
    if taken.lsn is not None:
        filled.add(taken.began, taken.lsn)
    return Verdict(judge(taken, filled, limits, taken.ended if now is None else now))


# The table of DESIGN.md, "Lag, measured with a real standby", as readings every 0.25 s would have been.


def steady(until, lsn_at, since=0.0, step=0.25):
    count = int((until - since) / step)
    return [(since + i * step, lsn_at(since + i * step)) for i in range(count + 1) if since + i * step < until]


def test_just_after_a_load():
    assert verdict(snapshot(10.0, 12 * MB, standby(12 * MB, 0.006))).state is OK


def test_idle_and_caught_up_reads_null_and_is_proven_by_bytes():
    found = verdict(snapshot(12.0, 12 * MB, standby(12 * MB, None)), [(0.0, 12 * MB)])
    assert (found.state, found.lag, found.lag_bytes) == (OK, seconds(0), 0)
    assert found.reason == "standby1 has replayed everything"


def test_replay_paused_is_seen_while_replay_lag_still_reads_little():
    # 12.8 MB outstanding and replay_lag at 0.1 s for 8 s: measured.
    samples = steady(8.0, lambda t: 10 * MB if t < 1 else 10 * MB + 12_800_000)
    found = verdict(snapshot(8.0, 10 * MB + 12_800_000, standby(10 * MB, 0.1)), samples)
    assert found.state is STOP
    assert found.lag == seconds(7.0)
    assert found.reason == "standby1 is 7.0 s and 12.2 MB behind, the limit is 1.5 s"


def test_replay_lag_above_the_limit_stops_whatever_our_samples_say():
    found = verdict(snapshot(9.0, 12 * MB + 10, standby(12 * MB, 6.5)), [(8.9, 12 * MB)])
    assert (found.state, found.lag) == (STOP, seconds(6.5))


def test_apply_delay_after_a_single_write_of_48_bytes():
    samples = steady(3.5, lambda t: 1000 if t < 0.2 else 1048)
    found = verdict(snapshot(3.5, 1048, standby(1000, 3.01)), samples)
    assert (found.state, found.lag_bytes) == (STOP, 48)


def test_apply_delay_under_small_steady_writes_where_replay_lag_reads_nothing():
    # 0.2 ms and 3,992 bytes while the last replayed transaction is 4.1 s old: only our samples see it.
    def lsn(t):
        return 1_000_000 + int(t * 1000)

    samples = steady(10.0, lsn)
    found = verdict(snapshot(10.0, lsn(10.0), standby(lsn(10.0) - 3992, 0.0002)), samples)
    assert found.state is STOP
    assert seconds(3.7) < found.lag < seconds(4.0)


# What is not proven is unknown.


def test_null_with_bytes_behind_is_unknown_however_few_and_however_young():
    found = verdict(snapshot(10.0, 1056, standby(1000, None)), [(9.9, 1000)])
    assert found.state is UNKNOWN
    assert found.reason == "standby1 is 56 bytes behind, for how long is not known yet"


def test_first_reading_with_bytes_behind_is_unknown_and_the_next_samples_decide():
    first = verdict(snapshot(0.0, 2000, standby(1000, 0.001)))
    assert first.state is UNKNOWN
    caught_up = verdict(snapshot(0.02, 2100, standby(2050, 0.001)), [(0.0, 2000)])
    assert (caught_up.state, caught_up.lag) == (OK, seconds(0.001))
    left_behind = verdict(snapshot(1.6, 2100, standby(1500, 0.001)), [(0.0, 2000), (0.25, 2100)])
    assert (left_behind.state, left_behind.lag) == (STOP, seconds(1.6))


def test_wal_in_flight_after_an_idle_minute_is_unknown_and_not_stop():
    # Our newest sample is a minute old: a running-xacts record of 56 bytes must not look like a minute of lag.
    in_flight = verdict(snapshot(60.0, 1056, standby(1000, None)), [(0.0, 1000)])
    assert (in_flight.state, in_flight.lag) == (UNKNOWN, seconds(0))
    assert verdict(snapshot(60.02, 1056, standby(1056, 0.001)), [(0.0, 1000), (60.0, 1056)]).state is OK


def test_figures_not_reported_yet():
    found = verdict(snapshot(0.0, 1000, standby(None, None, state="startup")))
    assert found.state is UNKNOWN
    assert found.reason == "standby1 has not reported a replay position (state startup)"


def test_missing_privilege_names_the_grant():
    found = verdict(snapshot(0.0, 1000, standby(None, None, state=None), sees_figures=False, role="my worker"))
    assert found.state is UNKNOWN
    assert found.reason == "my worker sees no figures in pg_stat_replication (it lacks pg_read_all_stats)"
    assert found.next_step == 'GRANT pg_monitor TO "my worker"'


def test_old_readings_count_for_nothing():
    assert verdict(snapshot(0.0, 1000, standby(1000)), now=4.9).state is OK
    found = verdict(snapshot(0.0, 1000, standby(1000)), now=7.3)
    assert (found.state, found.reason) == (UNKNOWN, "the reading is 7.3 s old and counts for 5 s")


def test_what_stands_in_the_way_is_said_of_an_old_reading_too():
    assert "not connected" in verdict(snapshot(0.0, 1000, absent()), now=7.3).reason


def test_a_server_in_recovery_is_no_primary():
    found = verdict(snapshot(0.0, None, standby(1000)))
    assert (found.state, found.next_step) == (UNKNOWN, "point --dsn at the primary")


# Which standbys there should be.


def test_declared_and_not_connected():
    found = verdict(snapshot(0.0, 1000, standby(1000), absent("standby2")))
    assert (found.state, found.reason) == (UNKNOWN, "standby2 is declared and not connected")
    assert found.next_step == "start it, or pgvmig standby remove standby2 if it is gone for good"


@pytest.mark.parametrize(("status", "said"), [("reserved", ""), ("unreserved", " (unreserved)"), ("lost", " (lost)")])
def test_an_inactive_slot_and_what_it_retains(status, said):
    gone = absent(slot_name="standby1", slot_active=False, slot_wal_status=status, slot_retains=3 * MB // 2)
    assert verdict(snapshot(0.0, 1000, gone)).reason == (
        f"standby1 is declared and not connected; its slot standby1 is inactive{said} and retains 1.5 MB of WAL"
    )


def test_nothing_declared():
    found = verdict(snapshot(0.0, 1000))
    assert found.state is UNKNOWN
    assert found.reason == "no standby is declared and none was declared absent"
    assert found.next_step == "pgvmig standby add NAME | pgvmig standby none"


def test_nothing_declared_while_something_streams():
    found = verdict(snapshot(0.0, 1000, standby(1000, declared=False)))
    assert found.reason == "no standby is declared and none was declared absent; connected: standby1"
    assert found.next_step == "pgvmig standby add standby1"


def test_none_declared_and_none_there():
    found = verdict(snapshot(0.0, 1000, no_standbys=True, sees_figures=False))
    assert (found.state, found.may_write) == (NOT_APPLICABLE, True)
    assert found.reason == "declared to have no standbys, and none streams from this server"
    assert (found.lag, found.lag_bytes) == (None, None)


def test_none_declared_and_contradicted():
    found = verdict(snapshot(0.0, 1000, standby(1000, declared=False), no_standbys=True))
    assert found.state is UNKNOWN
    assert found.reason == "declared to have no standbys, but connected: standby1 (streaming)"
    assert found.next_step == "pgvmig standby add standby1"


def test_an_undeclared_standby_beside_a_declared_one_is_not_waited_for():
    taken = snapshot(0.0, 1000, standby(1000), standby(0, 60, name="reporting", declared=False))
    assert verdict(taken).state is OK


# Several standbys, several rows, both limits.


def test_the_worst_of_two_connections_under_one_name_counts():
    samples = steady(3.0, lambda t: 1000 + int(t * 100))
    found = verdict(snapshot(3.0, 1300, standby(1300, 0.001), standby(1000, 0.001)), samples)
    assert (found.state, found.lag_bytes, len(found.readings)) == (STOP, 300, 1)
    found = verdict(snapshot(3.0, 1300, standby(1300, 0.001), standby(None)), samples)
    assert found.state is UNKNOWN


def test_the_worst_standby_decides_and_the_figures_are_the_largest():
    lagging = standby(1000, 2.0, name="standby2")
    found = verdict(snapshot(3.0, 1300, standby(1300, 0.001), lagging, absent("standby3")), [(2.9, 1000)])
    assert [reading.state for reading in found.readings] == [OK, STOP, UNKNOWN]
    assert [reading.signal for reading in found.deciding] == ["replication lag of standby2"]
    assert (found.lag, found.lag_bytes) == (seconds(2.0), 300)


def test_bytes_alone_stop():
    found = verdict(snapshot(0.2, 65 * MB, standby(0, 0.1)), [(0.0, 0)])
    assert found.state is STOP
    assert found.reason == "standby1 is 100 ms and 65.0 MB behind, the limit is 64.0 MB"


def test_at_the_limits_is_within_them():
    taken = snapshot(1.5, 64 * MB, standby(0, 1.5), ended=1.5)
    assert verdict(taken, [(0.0, 0)]).state is OK
    assert verdict(taken, [(0.0, 0)], Limits(max_lag=seconds(1.499), max_lag_bytes=64 * MB)).state is STOP
    assert verdict(taken, [(0.0, 0)], Limits(max_lag=seconds(1.5), max_lag_bytes=64 * MB - 1)).state is STOP


def test_a_standby_past_what_was_read_of_the_primary_has_caught_up():
    assert verdict(snapshot(0.0, 1000, standby(1200, 9.0))).lag_bytes == 0


def test_figures_of_the_past_do_not_stop_a_standby_that_has_caught_up_and_still_count_as_the_peak():
    found = verdict(snapshot(0.0, 1000, standby(1000, 60.0)))
    assert (found.state, found.lag) == (OK, seconds(60))


# A standby that is asked itself.


def test_the_standbys_own_word_counts_for_its_position():
    # The primary has not heard of the newest replay yet.
    taken = snapshot(3.0, 1300, standby(1000, 0.001), positions={"standby1": Position(1300)})
    assert verdict(taken, [(0.0, 1000), (0.1, 1300)]).state is OK
    taken = snapshot(3.0, 1300, standby(1300, 0.001), positions={"standby1": Position(1000)})
    assert verdict(taken, [(0.0, 1000), (0.1, 1300)]).state is STOP


def test_a_standby_that_does_not_answer_is_unknown_even_when_its_row_looks_well():
    silent = Position(problem="its DSN does not answer (timeout)", next_step="check it")
    found = verdict(snapshot(0.0, 1000, standby(1000), positions={"standby1": silent}))
    assert (found.state, found.next_step) == (UNKNOWN, "check it")
    assert found.reason == "standby1: its DSN does not answer (timeout)"


def test_a_dsn_is_no_substitute_for_the_connection():
    found = verdict(snapshot(0.0, 1000, absent(), positions={"standby1": Position(1000)}))
    assert found.reason == "standby1 is declared and not connected"


def test_of_two_connections_under_one_name_the_dsn_vouches_for_none():
    rows = (standby(1000, 0.001), standby(1300, 0.001))
    taken = snapshot(3.0, 1300, *rows, positions={"standby1": Position(1300)})
    assert verdict(taken, [(0.0, 1000), (0.1, 1300)]).state is STOP


# The ring.


def test_age_lies_between_two_samples():
    samples = ring((0.0, 100), (1.0, 200), (2.0, 300))
    assert samples.age(150, 5.0, 5.5) == (4.0, 5.5)
    assert samples.age(200, 5.0, 5.5) == (3.0, 4.5)
    assert samples.age(50, 5.0, 5.5) == (5.0, None)
    assert samples.age(300, 5.0, 5.5) == (0.0, 3.5)
    assert Ring().age(0, 5.0, 5.5) == (0.0, None)


def test_an_idle_stretch_is_kept_as_its_two_ends():
    samples = ring(*((clock / 10, 100) for clock in range(1000)), (100.0, 200))
    assert len(samples) == 3
    assert samples.age(100, 101.0, 101.0) == (1.0, pytest.approx(1.1))
    assert samples.age(99, 101.0, 101.0) == (101.0, None)


def test_the_ring_stays_small_and_is_coarse_only_where_it_is_old():
    samples = Ring(size=64)
    for i in range(100_000):
        samples.add(float(i), i)
        at_least, at_most = samples.age(i - 32, float(i), float(i))
        assert len(samples) <= 64
        assert i <= 64 or (at_least, at_most) == (31.0, 32.0)
    # Far past the samples in between, the oldest of all still bounds the age.
    at_least, at_most = samples.age(0, 100_000.0, 100_000.0)
    assert at_least > 64
    assert at_most == 100_000.0


def test_wal_that_went_backwards_is_another_history():
    assert ring((0.0, 500), (1.0, 100)).age(100, 2.0, 2.0) == (0.0, 1.0)
    assert ring((0.0, 500), (1.0, 100)).age(50, 2.0, 2.0) == (1.0, None)


# The verdict.


def reading(state, signal="a", **given):
    return Reading(**{"signal": signal, "state": state, "reason": f"{signal} is {state}", **given})


@pytest.mark.parametrize(
    ("states", "decides", "may_write"),
    [
        ([OK, NOT_APPLICABLE], OK, True),
        ([NOT_APPLICABLE], NOT_APPLICABLE, True),
        ([OK, UNKNOWN], UNKNOWN, False),
        ([UNKNOWN, STOP, OK], STOP, False),
        ([OK, OK], OK, True),
    ],
)
def test_the_gravest_signal_decides(states, decides, may_write):
    found = Verdict(tuple(reading(state) for state in states))
    assert (found.state, found.may_write) == (decides, may_write)


def test_all_the_gravest_are_named():
    found = Verdict((reading(STOP, "a", next_step="x"), reading(OK, "b"), reading(STOP, "c", next_step="x")))
    assert (found.reason, found.next_step) == ("a is stop; c is stop", "x")


def test_no_readings_is_no_verdict():
    with pytest.raises(ValueError, match="without a reading"):
        Verdict(())


# Waiting.


class Recording:
    """A clock, a sleep, and a primary whose standby replays as `replayed(now)` says."""

    def __init__(self, written, replayed, lag=lambda now: seconds(0.001)):
        self.now = 100.0
        self.slept = []
        self.closed = False
        self._written, self._replayed, self._lag = written, replayed, lag

    def clock(self):
        return self.now

    def sleep(self, duration):
        self.slept.append(duration)
        self.now += duration

    def read(self, limits):
        replayed = self._replayed(self.now)
        if isinstance(replayed, Exception):
            raise replayed
        began = self.now
        self.now += 0.001
        row = standby(replayed, replay_lag=self._lag(began).total_seconds())
        return snapshot(began, self._written(began), row, ended=self.now)

    def close(self):
        self.closed = True

    def pacer(self, **changed):
        return Pacer(self, LIMITS.changed(**changed), signals=(lag.SIGNAL,), clock=self.clock, sleep=self.sleep)


def never():
    return False


def test_a_standby_that_keeps_up_costs_a_moment_after_a_pause():
    # A busy primary; the standby is always 10 ms behind, so there are always bytes outstanding.
    world = Recording(lambda t: int(t * 1e6), lambda t: int((t - 0.01) * 1e6))
    pacer = world.pacer()
    for _ in range(5):
        seen = []
        assert pacer.wait(never, seen.append).state is OK
        assert seen == []
        world.now += 10  # the worker embeds
    assert max(world.slept) < 0.02
    assert len(world.slept) == 5
    assert pacer.peak_lag <= seconds(0.01)  # not the ten seconds between our samples
    assert pacer.peak_lag_bytes == 10_000


def test_an_idle_primary_never_waits():
    world = Recording(lambda t: 1000, lambda t: 1000)
    pacer = world.pacer()
    for _ in range(5):
        assert pacer.wait(never).may_write
        world.now += 600
    assert world.slept == []


def test_waits_while_replay_is_paused_and_says_so():
    # Written up to t=103, then idle; replay paused from 100.5 to 110.
    def written(t):
        return int(min(t, 103) * 1e6)

    world = Recording(written, lambda t: written(t if t < 100.5 or t > 110 else 100.5))
    pacer = world.pacer()
    assert pacer.wait(never).may_write
    world.now = 103.0
    seen = []
    assert pacer.wait(never, seen.append).may_write
    assert 110 < world.now < 110.3
    assert [found.state for found in seen][:1] == [UNKNOWN]  # our samples are 3 s apart
    assert seen[-1].state is STOP
    assert all(pause <= 0.25 for pause in world.slept)
    assert seconds(6.5) < pacer.peak_lag < seconds(7.3)


def test_gives_up_with_the_signal_and_the_fix():
    world = Recording(lambda t: 2000, lambda t: 1000)
    with pytest.raises(SignalError) as raised:
        world.pacer(patience=seconds(30)).wait(never)
    assert world.now == pytest.approx(130, abs=0.01)
    assert raised.value.exit_code == 4
    assert raised.value.data == {"signals": ["replication lag of standby1"], "state": "stop"}
    assert str(raised.value) == (
        "waited 30 s, replication lag of standby1 is STOP: "
        "standby1 is 30.0 s and 1000 bytes behind, the limit is 1.5 s. "
        "Nothing is written while a signal is not OK: readers of a standby that lags see old rows, "
        "and a standby that cannot be seen may be lost. Next: look on standby1 at pg_get_wal_replay_pause_state(), "
        "recovery_min_apply_delay and long queries, or raise --max-lag"
    )


def test_stop_ends_the_wait_with_a_verdict_that_forbids():
    world = Recording(lambda t: 2000, lambda t: 1000)
    found = world.pacer().wait(lambda: world.now > 105)
    assert not found.may_write
    assert 105 < world.now < 105.3


def test_an_error_is_unknown_and_what_was_sampled_before_it_is_forgotten():
    failing = DatabaseError("no connection to PostgreSQL: refused", next_step="check --dsn")
    # After the failover the standby is as far behind as ever; the old samples would have said for how long.
    world = Recording(lambda t: 5000, lambda t: 4000 if t < 100.1 or t > 103 else failing)
    pacer = world.pacer()
    pacer.check()
    world.now = 101.0
    found = pacer.check()
    assert (found.state, found.reason) == (UNKNOWN, "no connection to PostgreSQL: refused")
    assert found.next_step == "check --dsn"
    world.now = 104.0
    assert pacer.check().state is UNKNOWN
    world.now = 105.6
    assert pacer.check().state is STOP


def test_an_error_that_stays_ends_in_its_fix():
    world = Recording(lambda t: 5000, lambda t: DatabaseError("refused", next_step="start it"))
    with pytest.raises(SignalError, match=r"replication lag is UNKNOWN: refused\. .* Next: start it"):
        world.pacer(patience=seconds(1)).wait(never)


def test_closing_lets_go_of_the_reader():
    world = Recording(lambda t: 1000, lambda t: 1000)
    with world.pacer() as pacer:
        assert pacer.check().may_write
    assert world.closed

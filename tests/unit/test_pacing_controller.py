"""The control law, with made-up readings and a made-up clock."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgvmig.pacing.controller import (
    AFTER_STOP,
    FIRST_BATCH,
    GROWTH,
    HIBERNATION_SECONDS,
    LONGEST_PAUSE,
    RECOVERY_SECONDS,
    SLOWEST,
    Controller,
    State,
)
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import PAUSE, Reading, SignalState, Verdict

LIMITS = Limits(target_time=timedelta(milliseconds=100), nice=0, patience=timedelta(seconds=300))
CEILING = 500


def reading(state=SignalState.OK, signal="lag of s1", **more):
    return Reading(signal=signal, state=state, reason=f"{signal} is {state}", **more)


def ok(pressure=None, **more):
    return reading(pressure=pressure, **more)


def stop(pressure=None, **more):
    return reading(SignalState.STOP, pressure=pressure, next_step="look at s1", **more)


def unknown(**more):
    return reading(SignalState.UNKNOWN, next_step="GRANT pg_monitor", **more)


def paused():
    return reading(SignalState.STOP, "operator's pause", kind=PAUSE)


class World:
    """A controller that is shown readings as time passes."""

    def __init__(self, limits=LIMITS, ceiling=CEILING):
        self.now = 100.0
        self.controller = Controller(limits, ceiling=ceiling, now=self.now)

    def see(self, *readings, after=0.0):
        self.now += after
        verdict = self.controller.hold_back(Verdict(readings))
        self.verdict = verdict
        return self.controller.look(verdict, self.now)

    def write(self, seconds_per_row, rows=None):
        rows = rows or self.controller.batch_size
        self.controller.wrote(rows, rows * seconds_per_row)
        return self.controller.batch_size

    def settle(self, seconds_per_row, batches=200):
        for _ in range(batches):
            self.write(seconds_per_row)
        return self.controller.batch_size


class TestBatchSize:
    def test_begins_small_and_under_the_ceiling(self):
        assert World().controller.batch_size == FIRST_BATCH
        assert World(ceiling=10).controller.batch_size == 10

    def test_comes_to_the_target_time(self):
        world = World()
        assert world.settle(0.0005) == pytest.approx(200, abs=1)
        assert world.settle(0.001) == pytest.approx(100, abs=1)
        assert world.settle(0.00001) == CEILING

    def test_of_rows_that_are_too_slow_is_one(self):
        assert World().settle(60.0) == 1

    def test_shrinks_at_once_and_grows_slowly(self):
        world = World()
        world.settle(0.0002)
        assert world.controller.batch_size == 500
        # twenty times slower: one transaction is enough to be far down, without any step in between
        assert world.write(0.004) < 500 / 2
        world.settle(0.004)
        assert world.controller.batch_size == 25
        grown = [world.write(0.0002) for _ in range(5)]
        assert all(after <= before * GROWTH + 1 for before, after in zip([25, *grown], grown, strict=False))

    def test_a_slow_one_counts_for_more_than_a_fast_one(self):
        world = World()
        world.settle(0.001)
        world.write(0.002)
        slower = world.controller.batch_size
        assert slower < 80
        assert world.write(0.0005) < slower * GROWTH + 1

    def test_small_batches_of_the_log_do_not_grow_it(self):
        world = World()
        for _ in range(50):
            world.write(0.0001, rows=3)
        assert world.controller.batch_size <= FIRST_BATCH

    def test_small_batches_count_for_little(self):
        world = World()
        world.settle(0.0005)
        before = world.controller.batch_size
        # three milliseconds of overhead for a single row, beside batches that cost 0.5 ms a row
        for _ in range(20):
            world.write(0.0005)
            world.write(0.003, rows=1)
        assert world.controller.batch_size > before * 0.75  # not 33, which is what they alone would give

    def test_follows_a_target_that_was_changed_meanwhile(self):
        world = World()
        world.settle(0.001)
        world.controller.limits = LIMITS.changed(target_time=timedelta(milliseconds=20))
        assert world.write(0.001) == 20

    def test_of_a_slow_provider_is_what_it_answers_within_a_second(self):
        world = World()
        world.settle(0.00001)
        for _ in range(30):
            world.controller.answered(100, 0.5)
        assert world.controller.batch_size == pytest.approx(200, abs=1)
        for _ in range(30):
            world.controller.answered(100, 0.01)
        assert world.controller.batch_size == CEILING

    def test_of_a_very_slow_provider_is_a_request(self):
        world = World()
        world.settle(0.00001)
        for _ in range(30):
            world.controller.answered(64, 20)
        assert world.controller.batch_size == FIRST_BATCH

    def test_stays_while_holding(self):
        world = World()
        world.see(ok(0.8))
        assert world.settle(0.00001) == FIRST_BATCH
        world.see(ok(0.2))
        assert world.settle(0.00001) == CEILING

    def test_shrinks_while_holding(self):
        world = World()
        world.see(ok(0.8))
        assert world.settle(0.01) == 10

    @given(
        st.integers(1, 10_000),
        st.lists(
            st.tuples(st.integers(1, 10_000), st.floats(1e-6, 1e4), st.sampled_from([None, 0.3, 0.7, 1.5])), max_size=60
        ),
    )
    def test_whatever_happens(self, ceiling, events):
        world = World(ceiling=ceiling)
        for rows, seconds, pressure in events:
            before = world.controller.batch_size
            pace = world.see(stop(pressure) if pressure == 1.5 else ok(pressure), after=0.1)
            after_look = world.controller.batch_size
            assert after_look <= before
            world.controller.wrote(rows, seconds)
            size = world.controller.batch_size
            assert 1 <= size <= ceiling
            assert size <= after_look * GROWTH + 1
            if pace.state is not State.RUNNING:
                assert size <= after_look
            # never more than the cost that was just seen allows, were it to stay
            assert size <= after_look or size * world.controller._cost.per_row <= LIMITS.target_time.total_seconds()


class TestStates:
    def test_runs_while_all_is_well(self):
        world = World()
        pace = world.see(ok(), ok(0.1, signal="WAL"), reading(SignalState.NOT_APPLICABLE, "archive"), after=5)
        assert (pace.state, pace.since, pace.signal, pace.reason) == (State.RUNNING, 100.0, None, None)

    def test_nothing_writes_that_is_not_running_or_holding(self):
        assert {state for state in State if state.writes} == {State.RUNNING, State.HOLDING}

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(list(SignalState)),
                st.one_of(st.none(), st.floats(0, 30)),
                st.sampled_from(["a", "b", "c"]),
            ),
            min_size=1,
            max_size=4,
        ).flatmap(lambda first: st.lists(st.just(first) | st.just(first[::-1]), min_size=1, max_size=5))
    )
    def test_writes_only_when_every_signal_allows_it(self, looks):
        world = World()
        for readings in looks:
            pace = world.see(*(reading(state, signal, pressure=p) for state, p, signal in readings), after=0.25)
            if pace.state.writes:
                assert all(state in {SignalState.OK, SignalState.NOT_APPLICABLE} for state, _, _ in readings)

    def test_holds_near_a_limit_and_says_which(self):
        world = World()
        pace = world.see(ok(0.51), ok(0.1, signal="WAL"), after=2)
        assert (pace.state, pace.since, pace.signal) == (State.HOLDING, 102.0, "lag of s1")
        assert pace.reason == "lag of s1 is ok"
        assert world.see(ok(0.5)).state is State.RUNNING

    def test_stopped_it_goes_on_at_the_resume_limit(self):
        world = World()
        pace = world.see(stop(1.2), after=1)
        assert (pace.state, pace.signal, pace.next_step) == (State.STOPPED, "lag of s1", "look at s1")
        pace = world.see(ok(0.9), after=1)
        assert (pace.state, pace.since) == (State.STOPPED, 101.0)
        assert pace.reason == "lag of s1 is ok; it stopped the worker, which goes on at 50% of the limit"
        assert not world.verdict.may_write
        assert world.see(ok(0.51), after=1).state is State.STOPPED
        assert world.see(ok(0.5), after=1).state is State.RUNNING
        assert world.see(ok(0.9), after=1).state is State.HOLDING

    def test_unknown_in_between_does_not_let_it_go(self):
        world = World()
        world.see(stop(1.2))
        assert world.see(unknown(), after=1).state is State.UNKNOWN
        assert world.see(ok(0.9), after=1).state is State.STOPPED

    def test_only_what_stopped_it_has_to_come_down(self):
        world = World()
        world.see(stop(1.2), ok(0.9, signal="WAL"))
        assert world.see(ok(0.4), ok(0.9, signal="WAL")).state is State.HOLDING

    def test_a_signal_without_a_measure_lets_go_at_once(self):
        world = World()
        assert world.see(stop(signal="index build")).state is State.STOPPED
        assert world.see(ok(signal="index build")).state is State.RUNNING

    def test_a_signal_that_is_gone_holds_nobody(self):
        world = World()
        world.see(stop(1.2))
        assert world.see(ok(0.9, signal="lag of s2")).state is State.HOLDING

    def test_stop_is_said_before_unknown(self):
        assert World().see(unknown(), stop(1.1, signal="WAL")).signal == "WAL"

    def test_the_reason_is_the_newest(self):
        world = World()
        world.see(stop(1.2))
        pace = world.see(stop(1.5, signal="WAL"), after=3)
        assert (pace.signal, pace.since) == ("WAL", 100.0)

    def test_patience_ends(self):
        world = World()
        assert world.see(unknown()).state is State.UNKNOWN
        assert world.see(unknown(), after=299.9).state is State.UNKNOWN
        pace = world.see(unknown(), after=0.2)
        assert (pace.state, pace.next_step) == (State.FAILED, "GRANT pg_monitor")
        assert world.controller.waited(world.now) == pytest.approx(300.1)

    def test_patience_begins_again_when_it_ran_in_between(self):
        world = World()
        world.see(unknown())
        world.see(ok(), after=299)
        assert world.see(unknown(), after=299).state is State.UNKNOWN

    def test_what_no_waiting_cures_fails_at_once(self):
        assert World().see(unknown(lasting=True)).state is State.FAILED

    def test_a_pause_takes_as_long_as_it_takes(self):
        world = World()
        assert world.see(paused()).state is State.PAUSED
        pace = world.see(paused(), stop(1.4), after=86_400)
        assert (pace.state, pace.signal) == (State.PAUSED, "operator's pause")
        assert world.see(stop(1.4), after=1).state is State.STOPPED
        assert world.controller.waited(world.now) == 0


class TestHibernation:
    def test_far_beyond_a_limit_then_better(self):
        world = World()
        assert world.see(stop(10.5)).state is State.HIBERNATING
        assert world.controller.rest(world.now) == HIBERNATION_SECONDS
        assert world.see(stop(3.0), after=HIBERNATION_SECONDS).state is State.STOPPED
        assert world.controller.rest(world.now) == 0
        assert world.see(ok(0.1), after=1).state is State.RUNNING

    def test_no_better_after_it_fails(self):
        world = World()
        world.see(stop(10.5))
        assert world.see(stop(10.5), after=HIBERNATION_SECONDS - 1).state is State.HIBERNATING
        assert world.see(stop(11.0), after=1).state is State.FAILED

    def test_at_the_critical_limit_it_is_only_stopped(self):
        assert World().see(stop(10.0)).state is State.STOPPED

    def test_another_one_begins_anew(self):
        world = World()
        world.see(stop(12.0))
        world.see(stop(2.0), after=HIBERNATION_SECONDS)
        assert world.see(stop(12.0), after=1).state is State.HIBERNATING
        assert world.controller.rest(world.now) == HIBERNATION_SECONDS


class TestSpeed:
    def test_halves_after_a_stop_and_comes_back_slowly(self):
        world = World()
        world.see(ok(0.1))
        size = world.controller.batch_size
        world.see(stop(1.2), after=1)
        assert (world.controller.speed, world.controller.batch_size) == (AFTER_STOP, size * AFTER_STOP)
        world.see(stop(1.3), after=100)
        assert world.controller.speed == AFTER_STOP  # once for each stop, however long
        world.see(ok(0.1), after=1)
        world.see(ok(0.1), after=RECOVERY_SECONDS / 2)
        assert world.controller.speed == pytest.approx(0.75)
        world.see(ok(0.1), after=RECOVERY_SECONDS)
        assert world.controller.speed == 1.0

    def test_does_not_come_back_while_holding(self):
        world = World()
        world.see(stop(1.2))
        world.see(ok(0.1), after=1)
        world.see(ok(0.9), after=1)
        world.see(ok(0.9), after=100)
        assert world.controller.speed == AFTER_STOP

    def test_every_stop_halves_what_is_left_of_it(self):
        world = World()
        for _ in range(2):
            world.see(stop(1.2), after=0.1)
            world.see(ok(0.1), after=0.1)
        assert world.controller.speed == AFTER_STOP**2
        for _ in range(20):
            world.see(stop(1.2), after=0.1)
            world.see(ok(0.1), after=0.1)
        assert world.controller.speed == SLOWEST

    def test_unknown_and_pause_cost_no_speed(self):
        world = World()
        for other in (unknown(), paused()):
            world.see(other, after=1)
            world.see(ok(0.1), after=1)
        assert (world.controller.speed, world.controller.batch_size) == (1.0, FIRST_BATCH)

    def test_signals_ask_for_less(self):
        world = World()
        pace = world.see(ok(signal="autovacuum", speed=0.5))
        assert (pace.state, pace.signal, world.controller.speed) == (State.RUNNING, "autovacuum", 0.5)
        world.see(ok())
        assert world.controller.speed == 1.0

    def test_a_pause_follows_the_nice_ratio(self):
        world = World(LIMITS.changed(nice=1.5))
        assert world.controller.pause_after(0.2) == pytest.approx(0.3)
        assert World().controller.pause_after(0.2) == 0

    def test_half_speed_takes_twice_as_long_with_its_pause(self):
        world = World(LIMITS.changed(nice=0.5))
        world.see(ok(speed=0.5))
        # 0.1 s and a pause of 0.05 s were 0.15 s
        assert 0.1 + world.controller.pause_after(0.1) == pytest.approx(0.3)

    @given(st.floats(0, 1e5), st.floats(0, 1000), st.floats(0.001, 1))
    def test_a_pause_is_bounded(self, seconds, nice, speed):
        world = World(LIMITS.changed(nice=nice))
        world.see(ok(speed=speed))
        assert 0 <= world.controller.pause_after(seconds) <= LONGEST_PAUSE

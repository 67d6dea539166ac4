"""Waiting at the pace of the control law, with verdicts from a script and a clock that only sleeping moves."""

from datetime import timedelta

import pytest

from pgvmig.errors import SignalError
from pgvmig.pacing.controller import HIBERNATION_SECONDS, State
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.pacer import Pacer, Unpaced
from pgvmig.pacing.signals import PAUSE, Reading, SignalState, Verdict

INTERVAL = 0.25
LIMITS = Limits(interval=timedelta(seconds=INTERVAL), patience=timedelta(seconds=30), nice=1)


class Script(Pacer):
    """Takes readings from a function of the time."""

    def __init__(self, says, limits=LIMITS, **options):
        self.now = 1000.0
        self.looks = []
        self._says = says
        super().__init__(None, limits, clock=lambda: self.now, sleep=self._pass, **options)

    def check(self):
        self.looks.append(self.now)
        self.now += 0.002
        return Verdict((self._says(self.now - 1000),))

    def _pass(self, seconds):
        assert seconds >= 0
        self.now += seconds

    @property
    def gone_by(self):
        return self.now - 1000


def never():
    return False


def ok(pressure=0.0):
    return Reading(signal="lag", state=SignalState.OK, reason=f"lag is at {pressure}", pressure=pressure)


def stop(pressure=1.5, **more):
    return Reading(signal="lag", state=SignalState.STOP, reason=f"lag is at {pressure}", pressure=pressure, **more)


def unknown():
    return Reading(signal="lag", state=SignalState.UNKNOWN, reason="nobody knows", next_step="ask")


def paused():
    return Reading(signal="pause", kind=PAUSE, state=SignalState.STOP, reason="paused by dba", next_step="resume")


def test_a_reading_counts_for_one_interval():
    pacer = Script(lambda _: ok())
    for _ in range(10):
        assert pacer.wait(never).may_write
        pacer.now += INTERVAL / 5
    assert len(pacer.looks) == 2
    pacer.now += INTERVAL
    pacer.wait(never)
    assert len(pacer.looks) == 3


def test_what_was_not_well_does_not_count_for_a_moment():
    pacer = Script(lambda at: unknown() if at < 0.003 else ok())
    pacer.look()
    assert pacer.pace.state is State.UNKNOWN
    assert pacer.wait(never).may_write
    assert len(pacer.looks) == 2


def test_it_rests_after_a_transaction_and_looks_afterwards():
    pacer = Script(lambda _: ok())
    pacer.wait(never)
    pacer.wrote(64, 0.4)
    before = pacer.now
    pacer.wait(never)
    assert pacer.looks[-1] - before == pytest.approx(0.4)  # nice is 1


def test_a_rest_ends_when_it_is_asked_to_stop():
    pacer = Script(lambda _: ok())
    pacer.wait(never)
    pacer.wrote(64, 5.0)
    began = pacer.now
    assert pacer.wait(lambda: pacer.now > began + 0.3).may_write
    assert pacer.now - began < 0.5


def test_near_the_limit_after_a_stop_nothing_is_written():
    """The reading itself is OK from the second second on; the verdict is not, until it is at half the limit."""
    pacer = Script(lambda at: stop() if at < 2 else ok(0.9) if at < 5 else ok(0.4))
    verdicts = []
    found = pacer.wait(never, verdicts.append)
    assert found.may_write
    assert 5 < pacer.gone_by < 5.3
    assert not any(verdict.may_write for verdict in verdicts)
    assert pacer.speed == 0.5


def test_asked_to_stop_near_the_limit_after_a_stop_nothing_may_be_written_either():
    pacer = Script(lambda at: stop() if at < 2 else ok(0.9))
    found = pacer.wait(lambda: pacer.gone_by > 4)
    assert not found.may_write


def test_an_operators_pause_is_waited_for_as_long_as_it_was_said():
    pacer = Script(lambda _: paused(), pause_patience=3.0)
    assert not pacer.wait(never).may_write
    assert pacer.pace.state is State.PAUSED
    assert 3 <= pacer.gone_by < 3.3


def test_an_operators_pause_may_last_longer_than_any_patience():
    pacer = Script(lambda at: paused() if at < 3600 else ok())
    assert pacer.wait(never).may_write
    assert pacer.gone_by >= 3600


def test_patience_begins_after_the_pause():
    pacer = Script(lambda at: paused() if at < 3600 else stop())
    with pytest.raises(SignalError, match=r"waited 30 s, lag is STOP: lag is at 1\.5"):
        pacer.wait(never)
    assert 3630 <= pacer.gone_by < 3631


def test_unknown_for_too_long_names_the_fix():
    with pytest.raises(SignalError) as raised:
        Script(lambda _: unknown()).wait(never)
    assert (raised.value.next_step, raised.value.exit_code) == ("ask", 4)


def test_hibernating_it_does_not_even_look():
    limits = LIMITS.changed(patience=timedelta(seconds=300))
    pacer = Script(lambda at: stop(20) if at < 10 else ok(), limits)
    told = []
    assert pacer.wait(never, told.append).may_write
    assert len(pacer.looks) == 2
    assert HIBERNATION_SECONDS <= pacer.gone_by < HIBERNATION_SECONDS + 0.5
    assert told  # whoever watches sees that it is alive


def test_a_hibernation_that_changes_nothing_is_the_end():
    limits = LIMITS.changed(patience=timedelta(seconds=300))
    pacer = Script(lambda _: stop(20, next_step="look at s1"), limits)
    with pytest.raises(SignalError) as raised:
        pacer.wait(never)
    assert pacer.pace.state is State.FAILED
    assert HIBERNATION_SECONDS <= pacer.gone_by < HIBERNATION_SECONDS + 0.5
    assert raised.value.next_step == "look at s1"


def test_a_hibernation_ends_when_it_is_asked_to_stop():
    pacer = Script(lambda _: stop(20))
    assert not pacer.wait(lambda: pacer.gone_by > 2).may_write
    assert pacer.gone_by < 2 + 2 * INTERVAL


def test_unpaced_asks_nobody():
    pacer = Unpaced(7)
    pacer.wait(never)
    pacer.wrote(7, 100.0)
    pacer.answered(7, 100.0)
    assert (pacer.batch_size, pacer.look().state, pacer.verdict) == (7, State.RUNNING, None)

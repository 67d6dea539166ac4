"""When the signals' questions are asked, and which of them together, with a server that only takes notes."""

from types import SimpleNamespace

import psycopg
import pytest
from psycopg import errors as pg

from pgvmig.pacing import answers
from pgvmig.pacing.answers import Answers
from pgvmig.pacing.definition import Signal
from pgvmig.pacing.limits import DEFAULTS
from pgvmig.pacing.signals import ok
from pgvmig.pacing.snapshot import Snapshot


def signal(name, **given):
    return Signal(name=name, meaning="-", incident="-", judge=lambda _: (ok(name, "well"),), **given)


def probe(limits):
    raise FileNotFoundError(2, "No such file or directory", "/gone")


OFTEN, OTHER = signal("often", query="often"), signal("other", query="other")
SELDOM = signal("seldom", query="seldom", every=1.0, limits=("max_slot_wal",))
BLIND = signal("blind", query="blind", needs_figures=True)
OFF = signal("off", query="off", off=lambda limits, snapshot: "it does not apply")
LOCAL = signal("local", probe=probe)


class World:
    """A clock, and a server that answers each question with its name unless that is to fail."""

    def __init__(self, monkeypatch, *signals):
        self.now = 100.0
        self.asked = []
        self.failing = {}
        self.connection = SimpleNamespace(broken=False)
        self.answers = Answers(lambda: self.now, signals)
        monkeypatch.setattr(answers, "_asked", self._answer)

    def _answer(self, connection, signals):
        names = [signal.name for signal in signals]
        self.asked.append(names)
        for name in names:
            if name in self.failing:
                raise self.failing[name]
        return tuple([{"name": name}] for name in names)

    def read(self, limits=DEFAULTS, *, sees_figures=True):
        snapshot = Snapshot(
            began=self.now,
            ended=self.now,
            lsn=1,
            role="worker",
            sees_figures=sees_figures,
            no_standbys=True,
            standbys=(),
        )
        self.asked.clear()
        return self.answers.read(self.connection, limits, snapshot)


def test_all_that_is_due_is_asked_at_once(monkeypatch):
    world = World(monkeypatch, OFTEN, SELDOM, OTHER)
    found = world.read()
    assert world.asked == [["often", "seldom", "other"]]
    assert {name: (answer.rows, answer.began) for name, answer in found.items()} == {
        name: ([{"name": name}], 100.0) for name in ("often", "seldom", "other")
    }


def test_what_serves_longer_is_asked_again_when_it_is_due_and_says_how_old_it_is(monkeypatch):
    world = World(monkeypatch, OFTEN, SELDOM)
    world.read()
    world.now += 0.9
    found = world.read()
    assert world.asked == [["often"]]
    assert (found["often"].began, found["seldom"].began) == (100.9, 100.0)
    world.now += 0.2
    world.read()
    assert world.asked == [["often", "seldom"]]


def test_a_changed_limit_asks_at_once(monkeypatch):
    world = World(monkeypatch, OFTEN, SELDOM)
    world.read()
    world.read(DEFAULTS.changed(nice=1.0))
    assert world.asked == [["often"]]
    world.read(DEFAULTS.changed(max_slot_wal=1))
    assert world.asked == [["often", "seldom"]]


def test_what_does_not_apply_or_would_see_nothing_is_not_asked(monkeypatch):
    world = World(monkeypatch, OFF, BLIND, OFTEN)
    assert set(world.read(sees_figures=False)) == {"often"}
    assert set(world.read()) == {"blind", "often"}
    # An answer from before does not outlive the privilege.
    assert set(world.read(sees_figures=False)) == {"often"}


def test_one_that_fails_is_asked_apart_until_it_succeeds(monkeypatch):
    world = World(monkeypatch, OFTEN, OTHER)
    world.failing["other"] = pg.UndefinedTable("it is gone")
    found = world.read()
    assert world.asked == [["often", "other"], ["often"], ["other"]]
    assert (found["often"].error, found["other"].error.found) == (None, "it is gone")
    world.read()
    assert world.asked == [["often"], ["other"]]
    world.failing.clear()
    assert world.read()["other"].error is None
    world.read()
    assert world.asked == [["often", "other"]]


def test_a_timeout_is_not_paid_for_each(monkeypatch):
    world = World(monkeypatch, OFTEN, OTHER)
    world.failing["often"] = pg.QueryCanceled("too slow")
    found = world.read()
    assert world.asked == [["often", "other"]]
    assert {answer.error.found for answer in found.values()} == {"too slow"}


@pytest.mark.parametrize("apart", [False, True])
def test_a_lost_connection_is_an_error_of_the_whole_reading(monkeypatch, apart):
    world = World(monkeypatch, OFTEN)
    if apart:
        world.failing["often"] = pg.UndefinedTable("it is gone")
        world.read()
    world.failing["often"] = psycopg.OperationalError("the connection is lost")
    world.connection.broken = True
    with pytest.raises(psycopg.OperationalError, match="the connection is lost"):
        world.read()


def test_an_error_of_this_machine_names_the_path(monkeypatch):
    world = World(monkeypatch, LOCAL)
    error = world.read()["local"].error
    assert (error.found, error.next_step) == (
        "/gone: No such file or directory",
        "check the path, and who may enter it",
    )


def test_nothing_is_kept_across_connections(monkeypatch):
    world = World(monkeypatch, SELDOM)
    world.read()
    world.answers.clear()
    world.read()
    assert world.asked == [["seldom"]]

"""What the cluster's signals say in every state, from recorded readings and a clock that stands still.

Lag has a file of its own, and so have sessions and maintenance, and what operators set and say.
"""

from pathlib import Path

import pytest
from judging import (
    MB,
    NOT_APPLICABLE,
    NOW,
    OK,
    STOP,
    UNKNOWN,
    look,
    named,
    only,
    paused,
)

from pgvmig.errors import DatabaseError
from pgvmig.pacing import registry
from pgvmig.pacing.limits import DEFAULTS, settings
from pgvmig.pacing.registry import SIGNALS, judge
from pgvmig.pacing.ring import History
from pgvmig.pacing.signals import Verdict
from pgvmig.pacing.snapshot import Snapshot
from pgvmig.pacing.watch.synchronous import needed

# What all signals have in common.


def test_each_signal_says_what_it_is_for():
    assert len({signal.name for signal in SIGNALS}) == len(SIGNALS)
    for signal in SIGNALS:
        assert signal.meaning
        assert signal.incident
        assert sum(how is not None for how in (signal.query, signal.ask, signal.probe)) <= 1


@pytest.mark.parametrize("signal", [signal for signal in SIGNALS if signal.limits], ids=lambda signal: signal.name)
def test_a_signal_is_on_by_default_when_its_limits_are(signal):
    by_default = {setting.name: setting.default for setting in settings()}
    assert (signal.default == "on") == any(by_default[name] is not None for name in signal.limits)


ASKED = {
    "replication slots": {},
    "synchronous replication": {},
    "WAL archiving": {},
    "index build": {},
    "vacuum": {},
    "blocked sessions": {},
    "xmin horizon": {},
    "size of pg_wal": {"max_pg_wal": 1},
    "size of the database": {"max_database_size": 1},
    "free disk space": {"min_free_disk": 1, "disk_path": "/"},
    "pause": {},
    "pause file": {"pause_file": "/x"},
    "throttle": {},
    "custom SQL": {"custom_sql": "SELECT true"},
}


def test_the_table_above_has_all_that_ask():
    assert set(ASKED) == {signal.name for signal in SIGNALS if signal.asks}


@pytest.mark.parametrize("name", ASKED)
def test_what_was_not_read_is_unknown(name):
    snapshot = Snapshot(
        began=NOW,
        ended=NOW,
        lsn=1,
        role="worker",
        sees_figures=True,
        no_standbys=True,
        standbys=(),
        synchronous_standby_names="s1",
    )
    limits = DEFAULTS.changed(**ASKED[name])
    (found,) = judge(snapshot, History(), limits, NOW, signals=[named(name)])
    assert (found.state, found.reason) == (UNKNOWN, f"{name} was not read")


@pytest.mark.parametrize("name", [name for name in ASKED if name != "custom SQL"])
def test_an_error_is_unknown_and_says_what_to_do(name):
    found = only(name, limits=ASKED[name], error=DatabaseError("it broke", next_step="mend it"))
    assert (found.state, found.reason, found.next_step) == (UNKNOWN, f"{name} cannot be read: it broke", "mend it")


@pytest.mark.parametrize(
    ("name", "grant"),
    [
        ("WAL archiving", "pg_monitor"),
        ("size of pg_wal", "pg_monitor"),
        ("pause", "SELECT ON pgvmig.pause"),
        ("throttle", "SELECT ON pgvmig.throttle"),
    ],
)
def test_a_missing_privilege_names_the_grant(name, grant):
    denied = DatabaseError("permission denied", sqlstate="42501")
    found = only(name, limits=ASKED[name], error=denied, role="my worker")
    assert (found.state, found.next_step) == (UNKNOWN, f'GRANT {grant} TO "my worker"')


@pytest.mark.parametrize("name", [signal.name for signal in SIGNALS if signal.needs_figures])
def test_without_pg_read_all_stats_nothing_is_seen_which_is_unknown(name):
    found = only(name, sees_figures=False)
    assert (found.state, found.next_step) == (UNKNOWN, "GRANT pg_monitor TO worker")
    assert found.reason == "worker does not see what other sessions do (it lacks pg_read_all_stats)"


def test_the_same_reason_is_given_once():
    readings = [only(signal.name, sees_figures=False) for signal in SIGNALS if signal.needs_figures]
    assert len(readings) > 3
    assert Verdict(tuple(readings)).reason == readings[0].reason


@pytest.mark.parametrize(("age", "state"), [(4.9, OK), (5.1, UNKNOWN)])
def test_an_old_answer_counts_for_nothing(age, state):
    found = only("blocked sessions", age=age)
    assert found.state is state
    if state is UNKNOWN:
        assert found.reason == "the reading of blocked sessions is 5.1 s old and counts for 5 s"


def test_an_answer_that_serves_longer_may_be_that_much_older():
    assert only("index build", age=5.9).state is OK
    assert only("index build", age=6.1).state is UNKNOWN


def test_an_old_stop_is_a_stop():
    assert only("pause", paused(), age=60).state is STOP


def test_the_registry_has_every_file_of_its_folder():
    listed = {signal.judge.__module__.rsplit(".", 1)[1] for signal in registry.SIGNALS}
    folder = Path(registry.__file__).with_name("watch")
    assert {path.stem for path in folder.glob("[a-z]*.py")} <= listed


# Replication slots.


def slot(name="s1", **given):
    return {
        "slot_name": name,
        "slot_type": "physical",
        "active": True,
        "wal_status": "reserved",
        "safe_wal_size": None,
        "invalidated": None,
        "retains": 16 * MB,
    } | given


def test_no_slot():
    found = only("replication slots")
    assert (found.state, found.reason) == (NOT_APPLICABLE, "there is no replication slot")


def test_a_slot_within_the_limit_has_its_pressure():
    found = only("replication slots", slot(retains=256 * MB))
    assert (found.state, found.pressure) == (OK, 0.25)
    assert found.reason == "physical slot s1 (active) retains 256.0 MB of WAL"


@pytest.mark.parametrize("active", [True, False])
def test_a_slot_that_retains_too_much(active):
    found = only("replication slots", slot("cdc", slot_type="logical", active=active, retains=2048 * MB))
    assert (found.state, found.pressure) == (STOP, 2.0)
    how = "active" if active else "inactive"
    assert found.reason == f"logical slot cdc ({how}) retains 2.0 GB of WAL, the limit is 1.0 GB"
    assert ("pg_drop_replication_slot('cdc')" in found.next_step) is not active


def test_a_slot_at_its_limit_is_within_it():
    assert only("replication slots", slot(retains=1024 * MB)).state is OK


def test_half_of_what_the_server_lets_a_slot_retain_is_a_limit_as_well():
    well = only("replication slots", slot(retains=30 * MB, safe_wal_size=34 * MB))
    assert well.state is OK
    found = only("replication slots", slot(retains=40 * MB, safe_wal_size=24 * MB))
    assert found.state is STOP
    assert found.reason.endswith("retains 40.0 MB of WAL, the limit is 32.0 MB")


def test_an_unreserved_slot():
    found = only("replication slots", slot(wal_status="unreserved", active=False))
    assert found.state is STOP
    assert found.reason == "physical slot s1 (inactive) is unreserved: the next checkpoint removes WAL that it needs"


@pytest.mark.parametrize(("why", "said"), [(None, ""), ("idle_timeout", " (idle_timeout)")])
def test_a_lost_slot_is_not_waited_for(why, said):
    found = only("replication slots", slot(wal_status="lost", invalidated=why, retains=None, active=False))
    assert (found.state, found.lasting) == (STOP, True)
    assert found.reason == f"physical slot s1 (inactive) is lost{said}: its consumer must be built anew"
    assert "SELECT pg_drop_replication_slot('s1')" in found.next_step


def test_a_slot_that_reserves_nothing_yet():
    found = only("replication slots", slot(wal_status=None, retains=None, active=False))
    assert (found.state, found.reason) == (OK, "physical slot s1 (inactive) reserves no WAL yet")


def test_a_slot_without_a_figure_is_unknown_except_on_aurora():
    assert only("replication slots", slot(retains=None)).state is UNKNOWN
    assert only("replication slots", slot(retains=None), aurora=True).state is OK


def test_every_slot_is_judged_for_itself():
    readings = look("replication slots", slot("a"), slot("b", wal_status="lost"))
    assert [reading.state for reading in readings] == [OK, STOP]
    assert [reading.signal for reading in readings] == ["replication slot a", "replication slot b"]


def test_the_watch_over_slots_can_be_switched_off():
    found = only("replication slots", slot(wal_status="lost"), limits={"max_slot_wal": None})
    assert (found.state, found.reason) == (NOT_APPLICABLE, "max_slot_wal is not set")


# Synchronous replication.


def waits(seconds, pid=99):
    return {"pid": pid, "usename": "app", "application_name": "shop", "waited": seconds}


def test_no_synchronous_standby_is_wanted():
    found = only("synchronous replication", synchronous_standby_names="")
    assert (found.state, found.reason) == (NOT_APPLICABLE, "synchronous_standby_names is empty")


def test_synchronous_standbys_whose_names_are_not_known():
    row = {"connected": 1, "waiting": None}
    assert only("synchronous replication", row, synchronous_standby_names=None).state is UNKNOWN


def test_no_synchronous_standby_is_connected():
    found = only("synchronous replication", {"connected": 0, "waiting": None})
    assert found.state is STOP
    assert found.reason == (
        "0 of 1 synchronous standbys are connected (synchronous_standby_names is 's1'), so every COMMIT hangs"
    )
    assert "SELECT pg_reload_conf()" in found.next_step


@pytest.mark.parametrize(
    ("names", "number"),
    [
        ("s1", 1),
        ("s1, s2", 1),
        ("*", 1),
        ("FIRST 2 (s1, s2, s3)", 2),
        ("ANY 2 (s1, s2, s3)", 2),
        ("any 3(a,b,c)", 3),
        ("2 (s1, s2)", 2),
        ('"2", s1', 1),
    ],
)
def test_how_many_a_commit_waits_for(names, number):
    assert needed(names) == number


def test_fewer_than_a_quorum():
    row = {"connected": 1, "waiting": None}
    found = only("synchronous replication", row, synchronous_standby_names="ANY 2 (a, b, c)")
    assert found.state is STOP
    assert found.reason.startswith("1 of 2 synchronous standbys")


def test_waiting_a_moment_is_what_every_commit_does():
    found = only("synchronous replication", {"connected": 1, "waiting": [waits(0.5)]})
    assert (found.state, found.pressure) == (OK, 0.5)
    assert only("synchronous replication", {"connected": 1, "waiting": None}).pressure == 0.0


def test_waiting_too_long():
    found = only("synchronous replication", {"connected": 1, "waiting": [waits(0.5), waits(3.0, pid=100)]})
    assert (found.state, found.pressure) == (STOP, 3.0)
    assert found.reason == (
        "session 100 (app, application shop) has been waiting for synchronous replication for 3.0 s, 2 in all; "
        "the limit is 1.0 s"
    )


# Archiving.


def archiver(ready=0, *, failing=False):
    return {"ready": ready, "failing": failing, "last_failed_wal": "000000010000000000000007" if failing else None}


def test_archiving_is_off():
    found = only("WAL archiving", archive_mode="off")
    assert (found.state, found.reason) == (NOT_APPLICABLE, "archive_mode is off")


@pytest.mark.parametrize("mode", ["on", "always", None])
def test_archiving_that_keeps_up(mode):
    found = only("WAL archiving", archiver(8), archive_mode=mode)
    assert (found.state, found.pressure, found.reason) == (OK, 0.25, "8 WAL files wait to be archived")


def test_archiving_that_fails():
    found = only("WAL archiving", archiver(1, failing=True))
    assert found.state is STOP
    assert found.reason == "archiving fails, last for 000000010000000000000007; 1 WAL file waits to be archived"


def test_archiving_that_failed_and_has_nothing_left_to_do():
    assert only("WAL archiving", archiver(0, failing=True)).state is OK


def test_archiving_that_is_too_slow():
    found = only("WAL archiving", archiver(64))
    assert (found.state, found.pressure) == (STOP, 2.0)
    assert found.reason == "64 WAL files wait to be archived, the limit is 32"
    assert only("WAL archiving", archiver(64), limits={"max_archive_backlog": 64}).state is OK


def test_a_backlog_that_is_not_known():
    assert only("WAL archiving", archiver(None)).state is UNKNOWN

"""Caps, pauses, changed limits and the operator's own query, in every state, from recorded readings."""

from dataclasses import replace
from datetime import timedelta

import pytest
from judging import DOCUMENTS, MB, NOT_APPLICABLE, NOW, OK, OTHER, STOP, SUBJECT, UNKNOWN, named, only, paused

from pgvmig.errors import DatabaseError
from pgvmig.pacing.limits import DEFAULTS
from pgvmig.pacing.registry import in_force
from pgvmig.pacing.ring import History, Ring
from pgvmig.pacing.signals import Verdict
from pgvmig.pacing.snapshot import Answer, Snapshot

# Caps.


def test_the_wal_rate_is_off_by_default():
    found = only("WAL rate")
    assert (found.state, found.reason) == (NOT_APPLICABLE, "max_wal_rate is not set")


def wal(*samples):
    history = History()
    for clock, lsn in samples:
        history.add(clock, lsn, None)
    return history


def test_the_wal_rate_of_the_last_seconds():
    history = wal(*((NOW - 10 + second, second * 2 * MB) for second in range(11)))
    found = only("WAL rate", history=history, limits={"max_wal_rate": 4 * MB})
    assert (found.state, found.pressure) == (OK, 0.5)
    assert found.reason == "the cluster writes 2.0 MB of WAL in a second"
    found = only("WAL rate", history=history, limits={"max_wal_rate": MB})
    assert (found.state, found.pressure) == (STOP, 2.0)
    assert found.reason == "the cluster writes 2.0 MB of WAL in a second, the limit is 1.0 MB"


def test_the_wal_rate_falls_while_nothing_is_written():
    burst = [(NOW - 20, 0), (NOW - 19, 100 * MB)]
    quiet = [(NOW - 19 + second, 100 * MB) for second in range(1, 20)]
    found = only("WAL rate", history=wal(*burst, *quiet), limits={"max_wal_rate": MB})
    assert (found.state, found.pressure) == (OK, 0.0)


@pytest.mark.parametrize("samples", [(), ((NOW, 1),), ((NOW - 0.1, 1), (NOW, 2))])
def test_the_wal_rate_is_unknown_at_first(samples):
    found = only("WAL rate", history=wal(*samples), limits={"max_wal_rate": MB})
    assert (found.state, found.reason) == (UNKNOWN, "how much WAL is written in a second is not known yet")


def test_the_rate_of_a_ring():
    ring = Ring()
    assert ring.rate(5, 0.2) is None
    for clock in range(20):
        ring.add(float(clock), clock * 10)
    assert ring.rate(5, 0.2) == 10.0
    assert ring.rate(5, 30) is None
    # Between two samples nothing is known: the one before the window counts.
    ring.add(40.0, 1190)
    assert ring.rate(5, 0.2) == pytest.approx(1000 / 21)


@pytest.mark.parametrize(
    ("name", "limit"), [("size of pg_wal", "max_pg_wal"), ("size of the database", "max_database_size")]
)
def test_caps_on_sizes(name, limit):
    assert only(name).reason == f"{limit} is not set"
    assert only(name, {"bytes": 3 * MB}, limits={limit: 3 * MB}).state is OK
    found = only(name, {"bytes": 3 * MB + 1}, limits={limit: 3 * MB})
    assert (found.state, found.reason) == (STOP, f"the {name} is 3.0 MB, {limit} is 3.0 MB")
    assert only(name, {"bytes": None}, limits={limit: 1}).state is UNKNOWN


def test_free_disk_space():
    limits = {"min_free_disk": 2 * MB, "disk_path": "/data"}
    assert only("free disk space").reason == "min_free_disk is not set"
    assert only("free disk space", {"path": "/data", "bytes": 2 * MB}, limits=limits).state is OK
    found = only("free disk space", {"path": "/data", "bytes": MB}, limits=limits)
    assert found.state is STOP
    assert found.reason == "1.0 MB are free on the file system of /data, min_free_disk is 2.0 MB"


def test_free_disk_space_of_nowhere():
    found = only("free disk space", limits={"min_free_disk": 1})
    assert (found.state, found.lasting) == (UNKNOWN, True)
    assert found.reason == "min_free_disk is set and disk_path is not"


def test_free_disk_space_is_asked_of_this_machine(tmp_path):
    limits = DEFAULTS.changed(min_free_disk=1, disk_path=str(tmp_path))
    (row,) = named("free disk space").probe(limits)
    assert row["bytes"] > 0
    with pytest.raises(FileNotFoundError):
        named("free disk space").probe(limits.changed(disk_path=str(tmp_path / "gone")))


# Pauses.


def test_nobody_has_paused():
    assert only("pause").state is OK


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (paused(), "everything was paused by dba"),
        (paused(reason="sale"), "everything was paused by dba: sale"),
        (paused(DOCUMENTS, "embedding"), "documents was paused by dba"),
    ],
)
def test_an_operators_pause(row, said):
    found = only("pause", row)
    assert (found.state, found.kind, found.reason) == (STOP, "pause", said)
    assert found.next_step.startswith("pgvmig resume")


@pytest.mark.parametrize("row", [paused(OTHER, "embedding"), paused(DOCUMENTS, "title")])
def test_a_pause_of_something_else(row):
    assert only("pause", row).state is OK


def test_a_pause_of_one_version_stops_that_one():
    row = paused(DOCUMENTS, "embedding", "rolled back", version="v2")
    found = only("pause", row, subject=replace(SUBJECT, version="v2"))
    assert (found.state, found.reason) == (STOP, "documents v2 was paused by dba: rolled back")
    assert found.next_step == "pgvmig resume documents v2"
    assert only("pause", row, subject=replace(SUBJECT, version="v1")).state is OK
    of_all = only("pause", row)
    assert (of_all.state, of_all.reason) == (OK, "paused is only documents v2")
    everything = only("pause", row, subject=None)
    assert everything.state is OK


def test_a_pause_is_no_failure_whatever_else_is_not_well():
    stopped, unknown = only("pause", paused()), only("index build", sees_figures=False)
    assert Verdict((stopped, unknown)).paused
    assert not Verdict((unknown,)).paused
    assert not Verdict((only("pause", error=DatabaseError("it broke")),)).paused


def test_the_pause_file(tmp_path):
    file = tmp_path / "pause"
    limits = {"pause_file": str(file)}

    def found():
        return only("pause file", *named("pause file").probe(DEFAULTS.changed(**limits)), limits=limits)

    assert (found().state, found().reason) == (OK, f"there is no file {file}")
    file.touch()
    assert (found().state, found().reason) == (STOP, f"paused: the file {file} exists")
    assert Verdict((found(),)).paused
    file.unlink()
    file.symlink_to(tmp_path / "nothing")  # it is there, wherever it leads
    assert found().state is STOP


def test_a_pause_file_in_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        named("pause file").probe(DEFAULTS.changed(pause_file=str(tmp_path / "gone" / "pause")))


def test_a_pause_file_whose_directory_is_none(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        named("pause file").probe(DEFAULTS.changed(pause_file=str(tmp_path / "file" / "pause")))


def test_no_pause_file_is_configured():
    assert only("pause file").reason == "pause_file is not set"


# Limits from the database.


def throttled(settings, relation=DOCUMENTS, slot="embedding"):
    return {"relation": relation, "target": "documents", "slot": slot, "settings": settings}


def limits_after(*rows, subject=SUBJECT, error=None):
    answers = {"throttle": Answer(NOW, rows, error)}
    given = {"role": "worker", "sees_figures": True, "no_standbys": True, "standbys": ()}
    snapshot = Snapshot(began=NOW, ended=NOW, lsn=1, answers=answers, **given)
    return in_force(DEFAULTS, snapshot, subject)


def test_limits_change_while_it_runs():
    changed = limits_after(throttled({"max_lag": 0.8, "nice": 1}))
    assert changed == DEFAULTS.changed(max_lag=timedelta(milliseconds=800), nice=1.0)
    found = only("throttle", throttled({"max_lag": 0.8, "nice": 1}))
    assert (found.state, found.reason) == (OK, "max_lag, nice changed in pgvmig.throttle")


@pytest.mark.parametrize("row", [throttled({"nice": 1}, OTHER), throttled({"nice": 1}, DOCUMENTS, "title")])
def test_limits_of_another_table_or_slot(row):
    assert limits_after(row) == DEFAULTS
    assert only("throttle", row).reason == "nothing changed in pgvmig.throttle"


@pytest.mark.parametrize("settings", [{"max_lagg": 1}, {"custom_sql": "SELECT true"}, {"max_lag": "soon"}])
def test_limits_that_are_not_understood_stop_rather_than_go_unlimited(settings):
    found = only("throttle", throttled(settings))
    assert found.state is UNKNOWN
    assert found.reason.startswith("pgvmig.throttle is not understood: ")
    assert limits_after(throttled(settings)) == DEFAULTS


def test_limits_that_contradict_the_others_stop_as_well():
    assert only("throttle", throttled({"stop_horizon_age": 1})).state is UNKNOWN
    assert limits_after(throttled({"stop_horizon_age": 1})) == DEFAULTS


def test_limits_that_cannot_be_read_stay():
    assert limits_after(error=DatabaseError("it broke")) == DEFAULTS


# The operator's own query.


def result(value, rows=1, columns=1):
    return {"rows": rows, "columns": columns, "value": value}


@pytest.mark.parametrize(
    ("row", "state", "said"),
    [
        (result(True), OK, "custom_sql returned true"),
        (result(False), STOP, "custom_sql returned false"),
        (result(None), UNKNOWN, "custom_sql returned NULL"),
        (result(1), STOP, "custom_sql returned a int, not a boolean"),
        (result("t"), STOP, "custom_sql returned a str, not a boolean"),
        (result(None, rows=0), STOP, "custom_sql returned no row of 1 columns, not one boolean"),
        (result(None, rows=2), STOP, "custom_sql returned several rows of 1 columns, not one boolean"),
        (result(None, columns=2), STOP, "custom_sql returned one row of 2 columns, not one boolean"),
    ],
)
def test_custom_sql(row, state, said):
    found = only("custom SQL", row, limits={"custom_sql": "SELECT true"})
    assert (found.state, found.reason) == (state, said)


def test_an_error_of_custom_sql_stops_with_the_servers_message():
    error = DatabaseError('relation "jobs" does not exist')
    found = only("custom SQL", limits={"custom_sql": "SELECT true"}, error=error)
    assert (found.state, found.reason) == (STOP, 'custom_sql failed: relation "jobs" does not exist')


def test_no_custom_sql():
    assert only("custom SQL").reason == "custom_sql is not set"

"""What signals say of index builds, vacuum, blocked sessions and old transactions, from recorded readings."""

import pytest
from judging import (
    DOCUMENTS,
    NOT_APPLICABLE,
    NOW,
    OK,
    OTHER,
    SIDE,
    STOP,
    SUBJECT,
    only,
)

from pgvmig.pacing.ring import History
from pgvmig.pacing.signals import Subject

# Index builds and vacuum.


def build(relation=DOCUMENTS, command="CREATE INDEX CONCURRENTLY"):
    return {
        "pid": 77,
        "relation": relation,
        "target": "documents",
        "command": command,
        "phase": "building index",
        "usename": "dba",
        "application_name": "psql",
    }


def test_no_index_is_built_here():
    assert only("index build").state is OK
    assert only("index build", build(OTHER)).state is OK


@pytest.mark.parametrize(
    ("relation", "subject"),
    [(DOCUMENTS, SUBJECT), (SIDE, Subject(relation=DOCUMENTS, vector_relation=SIDE)), (OTHER, None)],
)
def test_an_index_is_built_on_a_table_that_we_write(relation, subject):
    found = only("index build", build(relation), subject=subject)
    assert found.state is STOP
    assert found.reason == (
        "CREATE INDEX CONCURRENTLY runs on documents (building index): session 77 (dba, application psql)"
    )


def vacuumed(relation=DOCUMENTS, **given):
    return {
        "relation": relation,
        "target": "documents",
        "xids": 1_000_000,
        "freeze_max_age": 200_000_000,
        "failsafe_age": 1_600_000_000,
        "pid": 88,
        "phase": "scanning heap",
        "query": "autovacuum: VACUUM public.documents",
    } | given


def test_no_vacuum():
    found = only("vacuum", vacuumed(pid=None, phase=None, query=None))
    assert (found.state, found.speed, found.reason) == (OK, 1.0, "no vacuum runs on documents")
    assert only("vacuum").state is OK


@pytest.mark.parametrize("query", ["autovacuum: VACUUM public.documents", "VACUUM documents", None])
def test_an_ordinary_vacuum_halves_the_speed(query):
    found = only("vacuum", vacuumed(query=query))
    assert (found.state, found.speed) == (OK, 0.5)
    assert found.reason == "a vacuum runs on documents (pid 88, scanning heap)"
    assert only("vacuum", vacuumed(OTHER)).speed == 1.0


def test_a_vacuum_against_wraparound_stops():
    found = only("vacuum", vacuumed(query="autovacuum: VACUUM public.documents (to prevent wraparound)"))
    assert found.state is STOP
    assert found.reason == (
        "a vacuum against wraparound runs on documents (pid 88, scanning heap); "
        "its oldest transaction is 1,000,000 transactions old"
    )


def test_a_vacuum_by_hand_of_a_table_that_is_due_stops_as_well():
    assert only("vacuum", vacuumed(query="VACUUM FREEZE documents", xids=200_000_001)).state is STOP


def test_a_table_in_danger_of_wraparound_is_not_written_to():
    idle = {"pid": None, "phase": None, "query": None}
    assert only("vacuum", vacuumed(xids=1_600_000_000, **idle)).state is OK
    found = only("vacuum", vacuumed(xids=1_600_000_001, **idle))
    assert found.state is STOP
    assert found.next_step == "VACUUM (FREEZE, INDEX_CLEANUP OFF) documents"


# Sessions that we block.


def blocked(waited, *blockers, pid=99):
    return {
        "pid": pid,
        "usename": "app",
        "application_name": "shop",
        "query": "UPDATE documents\n SET body = $1",
        "waited": waited,
        "blockers": [{"pid": number, "application_name": name} for number, name in blockers] or None,
    }


def test_nobody_is_blocked():
    found = only("blocked sessions")
    assert (found.state, found.reason, found.pressure) == (OK, "nobody is blocked by us", 0.0)


def test_who_is_blocked_by_others_is_none_of_our_business():
    assert only("blocked sessions", blocked(60, (13, "psql")), blocked(5)).state is OK


@pytest.mark.parametrize("blocker", [(11, None), (13, "pgvmig backfill"), (14, "pgvmig cli")])
def test_somebody_is_blocked_by_us(blocker):
    found = only("blocked sessions", blocked(0.3, (13, "psql"), blocker))
    assert (found.state, found.pressure) == (STOP, pytest.approx(3.0))
    assert found.reason == (
        'session 99 (app, application shop) with "UPDATE documents SET body = $1" has been blocked by us '
        f"(pid {blocker[0]}) for 300 ms; the limit is 100 ms"
    )


def test_a_worker_that_waits_for_another_is_nobody_to_make_way_for():
    waiting = blocked(60, (13, "pgvmig backfill")) | {"application_name": "pgvmig backfill"}
    assert only("blocked sessions", waiting).state is OK


def test_a_short_wait_is_what_any_transaction_costs():
    found = only("blocked sessions", blocked(0.05, (11, None)))
    assert (found.state, found.pressure) == (OK, pytest.approx(0.5))
    assert only("blocked sessions", blocked(None, (11, None))).state is OK


def test_all_who_are_blocked_are_counted():
    found = only("blocked sessions", blocked(0.3, (11, None)), blocked(0.9, (11, None), pid=100))
    assert found.reason.startswith("session 100")
    assert "for 900 ms, 2 in all" in found.reason


# The xmin horizon.


def holder(held, **given):
    return {
        "kind": "session",
        "pid": 55,
        "usename": "ana",
        "application_name": "psql",
        "backend_type": "client backend",
        "state": "idle in transaction",
        "query": "SELECT * FROM sales",
        "gid": None,
        "slot_name": None,
        "active": None,
        "xids": 10,
        "open": held,
        "held": held,
    } | given


def test_nobody_holds_the_horizon():
    assert only("xmin horizon").reason == "nobody holds back the xmin horizon"


def test_a_short_transaction():
    found = only("xmin horizon", holder(36.0))
    assert (found.state, found.speed, found.pressure) == (OK, 1.0, pytest.approx(0.01))


def test_a_long_transaction_halves_the_speed_and_says_who_it_is():
    found = only("xmin horizon", holder(600.0))
    assert (found.state, found.speed) == (OK, 0.5)
    assert found.reason == (
        'session 55 (ana, application psql, idle in transaction) with "SELECT * FROM sales" '
        "has held back the xmin horizon for 10 min: updates are no longer HOT"
    )
    assert found.next_step == "let it end, or SELECT pg_terminate_backend(55)"


def test_a_transaction_that_was_forgotten_stops():
    found = only("xmin horizon", holder(600.0), holder(3 * 3600.0, pid=56))
    assert (found.state, found.pressure) == (STOP, 3.0)
    assert found.reason.startswith("session 56")
    assert found.reason.endswith("has held back the xmin horizon for 3.0 h, the limit is 60 min")


def test_it_does_not_matter_to_a_side_table():
    subject = Subject(relation=DOCUMENTS, vector_relation=SIDE, rewrites=False)
    found = only("xmin horizon", holder(7200.0), subject=subject)
    assert (found.state, found.speed) == (OK, 1.0)


@pytest.mark.parametrize("own", [{"pid": 11}, {"application_name": "pgvmig backfill"}])
def test_our_own_sessions_do_not_count(own):
    assert only("xmin horizon", holder(7200.0, **own)).reason == "nobody holds back the xmin horizon"


def test_either_limit_can_be_switched_off():
    assert only("xmin horizon", holder(600.0), limits={"max_horizon_age": None}).speed == 1.0
    slow = only("xmin horizon", holder(7200.0), limits={"stop_horizon_age": None})
    assert (slow.state, slow.speed, slow.pressure) == (OK, 0.5, None)
    off = only("xmin horizon", holder(7200.0), limits={"max_horizon_age": None, "stop_horizon_age": None})
    assert (off.state, off.reason) == (NOT_APPLICABLE, "max_horizon_age and stop_horizon_age are not set")


def test_a_prepared_transaction():
    row = holder(7200.0, kind="prepared", pid=None, gid="it's", open=None)
    found = only("xmin horizon", row)
    assert (found.state, found.next_step) == (STOP, "COMMIT PREPARED or ROLLBACK PREPARED 'it''s'")
    assert found.reason.startswith("prepared transaction it's (ana) has held")


def slot_with_xmin(xids, held=None, *, active=True):
    return holder(held, kind="slot", pid=None, slot_name="s1", active=active, xids=xids, open=None)


def sampled(*samples):
    history = History()
    for clock, xid in samples:
        history.add(clock, 1, xid)
    return history


def test_a_standbys_slot_is_as_old_as_we_have_seen_it():
    # The next transaction is 5000 now; the slot's xmin is 4900, which was the next one until 300 s ago.
    history = sampled((NOW - 400, 4890), (NOW - 300, 4910), (NOW, 5000))
    found = only("xmin horizon", slot_with_xmin(100), history=history)
    assert (found.state, found.speed) == (OK, 0.5)
    assert found.reason.startswith("replication slot s1 (active) has held back the xmin horizon for 5 min")
    assert "hot_standby_feedback" in found.next_step
    assert only("xmin horizon", slot_with_xmin(100), history=sampled((NOW, 5000))).speed == 1.0


def test_an_inactive_slot_with_an_xmin_is_as_old_as_it_is_inactive():
    found = only("xmin horizon", slot_with_xmin(100, 7200.0, active=False))
    assert found.state is STOP
    assert "SELECT pg_drop_replication_slot('s1') if it is gone" in found.next_step


def test_a_statement_with_the_xmin_of_another_transaction_is_as_old_as_that():
    row = holder(1.0, open=7200.0, state="active", xids=100)
    history = sampled((NOW - 30, 4890), (NOW - 20, 4910), (NOW, 5000))
    assert only("xmin horizon", row, history=history).reason.endswith("for 20.0 s")


def test_a_standby_without_a_slot_holds_by_its_sender():
    row = holder(None, backend_type="walsender", application_name="s2", state="active", query=None, xids=100)
    found = only("xmin horizon", row, history=sampled((NOW - 400, 4890), (NOW - 300, 4910), (NOW, 5000)))
    assert found.reason.startswith("standby s2, by hot_standby_feedback, has held")
    assert found.speed == 0.5


def test_an_old_snapshot_of_a_statement_that_runs_is_seen_by_our_samples():
    # REPEATABLE READ: the present statement began a second ago, the transaction ten minutes ago.
    row = holder(1.0, open=600.0, state="active", xids=100)
    history = sampled((NOW - 400, 4890), (NOW - 300, 4910), (NOW, 5000))
    assert only("xmin horizon", row, history=history).speed == 0.5
    # pg_dump: hours of short statements with one snapshot.
    found = only("xmin horizon", row | {"open": 7200.0}, history=history)
    assert (found.state, found.reason.endswith("for 2.0 h, the limit is 60 min")) == (STOP, True)
    # A transaction that is younger than the xmin that it found has held it since it began.
    assert only("xmin horizon", row | {"open": 2.0}, history=history).speed == 1.0

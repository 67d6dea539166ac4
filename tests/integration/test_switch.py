"""Switching between several versions: where a rollback goes, what is remembered, and two who switch at once."""

import threading
import time

import pytest
from lifecycle import add_version, cut_over, embed, find, install, prove, retire
from psycopg import errors as pg

from pgvmig import adding, indexing, retiring, switch
from pgvmig.address import address
from pgvmig.catalog import control
from pgvmig.errors import GateError, IllegalTransitionError
from pgvmig.runner import ConnectionRunner

pytestmark = pytest.mark.layouts

V1, V2, V3 = (address("documents", version) for version in ("v1", "v2", "v3"))


@pytest.fixture
def connection(database):
    """Three versions, complete and indexed, none of them active."""
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 10) AS i")
    for number, where in enumerate((V1, V2, V3), 2):
        embed(connection, add_version(connection, "documents", where.version, {"dimensions": number}))
        indexing.build(ConnectionRunner(connection), where)
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection, "cli")


def active(connection):
    """The active version, by each of the ways to ask."""
    answers = {
        *connection.execute("SELECT version FROM pgvmig.active_space('documents')").fetchall(),
        connection.execute("SELECT pgvmig.route('documents', '1')").fetchone(),
        *connection.execute("SELECT DISTINCT embedding_space FROM documents_current").fetchall(),
    }
    assert len(answers) == 1
    return answers.pop()[0]


def test_rollbacks_go_the_way_back_step_by_step(connection, run):
    for where in (V1, V2, V3):
        assert cut_over(run, where)["changed"]
    for leaving, arriving in ((V3, "v2"), (V2, "v1")):
        outcome = switch.roll_back(run, leaving)
        assert (outcome["previous"], outcome["version"], active(connection)) == (leaving.version, arriving, arriving)
    assert [find(connection, where).state for where in (V1, V2, V3)] == ["active", "retained", "retained"]
    cut_over(run, V3)
    assert switch.roll_back(run, V3)["version"] == "v1"


def test_cutting_over_to_an_older_version_is_a_step_too(connection, run):
    for where in (V1, V2, V1):
        cut_over(run, where)
    assert active(connection) == "v1"
    assert switch.roll_back(run, V1)["version"] == "v2"


def test_leaving_what_is_not_active_does_nothing(connection, run):
    cut_over(run, V1)
    cut_over(run, V2)
    assert switch.roll_back(run, V1) == {"changed": False, "version": "v2"}
    assert switch.roll_back(run, V2)["changed"]
    assert switch.roll_back(run, V2) == {"changed": False, "version": "v1"}
    assert active(connection) == "v1"


def test_the_first_version_can_be_left_when_it_is_named(connection, run):
    cut_over(run, V1)
    with pytest.raises(pg.Error, match="v1 is the first version: there is none before it") as error:
        connection.execute("SELECT pgvmig.roll_back('documents')")
    assert "pgvmig.roll_back('public.documents', 'v1')" in (error.value.diag.message_hint or "")
    outcome = switch.roll_back(run, V1)
    assert (outcome["changed"], outcome["version"], outcome["previous"]) == (True, None, "v1")
    assert connection.execute("SELECT to_regclass('documents_current')").fetchone() == (None,)
    assert connection.execute("SELECT count(*) FROM pgvmig.active_space('documents')").fetchone() == (0,)
    assert switch.roll_back(run, V1) == {"changed": False, "version": None}
    cut_over(run, V1)
    assert active(connection) == "v1"


def test_the_way_back_is_not_forgotten(connection, run):
    cut_over(run, V1)
    cut_over(run, V2)
    for _ in range(2):
        with pytest.raises(IllegalTransitionError) as error:
            adding.drop(run, V1, destroy=True)
        assert str(error.value) == (
            "documents v1 is the way back from v2. Forgotten, a rollback would leave searches with "
            "nothing. Next: op.retire_embedding drops the vectors and remembers the version"
        )
        retire(run, V1)
    with pytest.raises(IllegalTransitionError, match="the version before it is retired"):
        switch.roll_back(run, V2)
    assert active(connection) == "v2"


def test_retiring_tells_what_it_freed_and_keeps_the_contract(connection, run, layout):
    cut_over(run, V1)
    (size,) = connection.execute("SELECT pg_relation_size('documents_embedding_v2_hnsw')").fetchone()
    table = "SELECT coalesce(pg_total_relation_size(to_regclass('documents_v2_vectors')), 0)"
    (table_size,) = connection.execute(table).fetchone()
    outcome = retire(run, V2, "the other one is better")
    freed = {"index_bytes": size, "table_bytes": max(table_size - size, 0)}
    assert outcome | {"changed": True, "version": "v2", **freed, "kept_column": None, "gates": {}} == outcome
    assert (freed["table_bytes"] > 0) == (layout == "table")
    assert connection.execute(table).fetchone() == (0,)
    assert connection.execute("SELECT reason, detail FROM pgvmig.event WHERE verb = 'retire'").fetchall() == [
        ("the other one is better", outcome)
    ]
    assert find(connection, V2).contract.dimensions == 3
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'documents'::regclass AND attname LIKE 'embedding_v2%'"
    assert connection.execute(columns).fetchall() == []


def test_a_retired_version_can_be_added_and_retired_again(connection, run):
    before = find(connection, V2)
    for _ in range(2):
        retire(run, V2)
        again = add_version(connection, "documents", "v2", {"dimensions": 3})
        assert (again.version_id, again.state, again.object_name) == (before.version_id, "added", before.object_name)
        assert connection.execute("SELECT count(*) FROM documents_v2").fetchone() == (0,)
        embed(connection, again)
        indexing.build(run, V2)
        cut_over(run, V2)
        cut_over(run, V1)


def test_dropping_a_retired_version_is_an_event(connection, run):
    retire(run, V3)
    adding.drop(run, V3)
    last = "SELECT verb, from_state, to_state FROM pgvmig.event ORDER BY event_id DESC LIMIT 1"
    assert connection.execute(last).fetchone() == ("drop", "retired", None)


def test_two_who_cut_over_at_once_are_one_after_the_other(database, connection, run):
    """Both are held up until both have begun."""
    cut_over(run, V1)
    outcomes = {}

    def go(where):
        with database.connect() as own:
            outcomes[where.version] = cut_over(ConnectionRunner(own), where)

    threads = [threading.Thread(target=go, args=[where]) for where in (V2, V3)]
    with database.connect() as other, other.transaction():
        other.execute("SELECT FROM pgvmig.slot FOR UPDATE")
        for thread in threads:
            thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while connection.execute(waiting).fetchone() != (2,):
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    first, second = sorted(outcomes.values(), key=lambda outcome: outcome["previous"])
    assert (first["previous"], second["previous"]) == ("v1", first["version"])
    assert active(connection) == second["version"]
    assert find(connection, address("documents", first["version"])).state == "retained"


@pytest.mark.layouts("column")
@pytest.mark.parametrize(
    "verb",
    ["refresh_views('documents')", "unroute('documents')", "revoke_reading('documents', 'v1')"],
)
def test_what_a_transaction_saw_before_a_switch_is_nothing_to_act_on(database, connection, run, verb):
    """To it v2 is active still; the current view would show v2's vectors under v1's name."""
    cut_over(run, V1)
    cut_over(run, V2)
    with database.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("TABLE pgvmig.version")
        switch.roll_back(run, V2)
        with pytest.raises(pg.SerializationFailure):
            other.execute(f"SELECT pgvmig.{verb}")
    assert active(connection) == "v1"


@pytest.mark.layouts("column")
def test_a_view_that_somebody_replaced_is_not_switched_to(connection, run):
    cut_over(run, V1)
    query = connection.execute("SELECT pg_get_viewdef('documents_v2')").fetchone()[0].rstrip(";")
    connection.execute(f"CREATE OR REPLACE VIEW documents_v2 WITH (security_invoker = true) AS {query} AND id < 3")
    with pytest.raises(IllegalTransitionError, match="documents_v2 is not the view that pgvmig made") as error:
        cut_over(run, V2)
    connection.execute(error.value.next_step.partition(" makes")[0])
    cut_over(run, V2)
    assert connection.execute("SELECT count(*) FROM documents_current").fetchone() == (10,)


@pytest.mark.layouts("column")
def test_the_way_back_to_vectors_that_never_served_asks_for_their_evidence(connection, run):
    cut_over(run, V1)
    cut_over(run, V2)
    retire(run, V1)
    embed(connection, add_version(connection, "documents", "v1", {"dimensions": 2}))
    indexing.build(run, V1)
    with pytest.raises(GateError, match="nobody has verified that the vectors are of their rows' texts"):
        switch.roll_back(run, V2)
    prove(connection, find(connection, V1))
    switch.roll_back(run, V2)
    assert active(connection) == "v1"


@pytest.mark.layouts("column")
def test_nobody_waits_for_a_switch_to_pause_a_table(database, connection, run):
    """Its gates may read for minutes, and a pause is what somebody needs at once."""
    cut_over(run, V1)
    with database.connect() as switching, switching.transaction():
        cut_over(ConnectionRunner(switching), V2)
        connection.execute("SET lock_timeout = '1s'")
        assert control.pause(connection, control.scope(connection, "documents"))


def test_a_switch_that_fails_half_way_changes_nothing(connection, run):
    cut_over(run, V1)
    connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$"
    )
    connection.execute(
        "CREATE TRIGGER refuse AFTER UPDATE ON pgvmig.version FOR EACH ROW WHEN (NEW.version = 'v2') "
        "EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(Exception, match="no"):
        cut_over(run, V2)
    assert active(connection) == "v1"
    assert [find(connection, where).state for where in (V1, V2)] == ["active", "added"]


def test_a_switch_is_announced(database, connection, run):
    listener = database.connect()
    listener.execute("LISTEN pgvmig_switch")
    cut_over(run, V1)
    notes = [(note.channel, note.payload) for note in listener.notifies(timeout=5, stop_after=1)]
    assert notes == [("pgvmig_switch", "documents v1")]


@pytest.mark.bare
def test_an_owner_who_is_no_superuser_can_do_it_all(database):
    connection = database.connect()
    role = f"{database.name}_owner"
    connection.execute(f"CREATE ROLE {role}")
    connection.execute(f"GRANT CREATE ON DATABASE {database.name} TO {role}")
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    try:
        connection.execute(f"SET ROLE {role}")
        install(connection)
        run = ConnectionRunner(connection, "cli")
        connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO documents VALUES (1, 'one')")
        for where in (V1, V2):
            embed(connection, add_version(connection, "documents", where.version))
            indexing.build(run, where)
            cut_over(run, where)
        switch.roll_back(run, V2)
        cut_over(run, V2)
        assert [gate.gate for gate in retiring.check(run, V1)] == ["soak", "unused"]
        retire(run, V1)
        assert active(connection) == "v2"
        adding.refresh_views(run, "documents")
        events = "SELECT DISTINCT who, source FROM pgvmig.event WHERE verb <> 'add'"
        assert connection.execute(events).fetchall() == [(connection.info.user, "cli")]
    finally:
        connection.execute("RESET ROLE")
        connection.execute(f"DROP OWNED BY {role} CASCADE")
        connection.execute(f"DROP ROLE {role}")

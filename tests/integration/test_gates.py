"""Gates: what each says when it fails, that a failed one leaves nothing behind, and how one is skipped."""

from datetime import timedelta

import psycopg
import pytest
from lifecycle import (
    CONTRACT,
    EVIDENCE,
    add_version,
    cut_over,
    embed,
    forget_stale,
    install,
    prove,
    record_outcome,
    stale,
)
from psycopg.errors import CheckViolation

from pgvmig import indexing, switch
from pgvmig.address import address
from pgvmig.checks import gates
from pgvmig.errors import GateError, IllegalTransitionError, NotFoundError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]

V1, V2 = address("documents", "v1"), address("documents", "v2")


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 1000) AS i")
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection, "cli")


@pytest.fixture
def v1(connection, run):
    """Active, complete, indexed."""
    version = add_version(connection, "documents", "v1")
    embed(connection, version)
    indexing.build(run, V1)
    cut_over(run, V1)
    return version


@pytest.fixture
def v2(connection, v1):
    """Added, with nothing in it."""
    return add_version(connection, "documents", "v2", {"dimensions": 4})


@pytest.fixture
def ready(connection, run, v2):
    """v2, complete and indexed."""
    embed(connection, v2)
    indexing.build(run, V2)
    return v2


def everything(connection):
    """What a failed switch must leave as it was."""
    return (
        connection.execute("SELECT pg_get_viewdef(current_view), current_view::oid FROM pgvmig.slot").fetchall(),
        connection.execute("TABLE pgvmig.route").fetchall(),
        connection.execute("TABLE pgvmig.version").fetchall(),
        connection.execute("SELECT count(*) FROM pgvmig.event").fetchall(),
    )


def refusal(connection, run, *, where=V2, verb=cut_over, terms=None):
    before = everything(connection)
    with pytest.raises(GateError) as error:
        verb(run, where, terms)
    assert everything(connection) == before
    assert error.value.exit_code == 4
    return error.value


def test_coverage_says_how_many_rows_have_no_vector(connection, run, v2):
    embed(connection, v2, "id <= 412")
    error = refusal(connection, run)
    assert str(error) == (
        "documents v2 is not ready: 588 of 1,000 rows have no vector. Next: pgvmig backfill documents v2"
    )
    assert list(error.data["gates"]) == ["index", "coverage"]
    assert error.data["gates"]["coverage"]["measured"] == {
        "total": 1000, "embedded": 412, "missing": 588, "missing_recent": 0, "outdated": 0, "outdated_recent": 0,
        "empty": 0, "failed": 0, "accepted": 0,
    }  # fmt: skip


def test_rows_that_became_stale_just_now_do_not_hold_up_a_switch(connection, run, ready):
    connection.execute("INSERT INTO documents VALUES (2000, 'new')")
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    assert stale(connection, ready) == [2000, 1]
    connection.execute("UPDATE pgvmig.documents_v2_stale SET queued_at = queued_at - interval '50 s'")
    refusal(connection, run, terms=Terms(max_stale_age=timedelta(seconds=40)))
    outcome = cut_over(run, V2)
    assert (outcome["changed"], outcome["missing"], outcome["previous"]) == (True, 2, "v1")
    (detail,) = connection.execute(
        "SELECT detail FROM pgvmig.event WHERE verb = 'cut over' AND version = 'v2' AND to_state = 'active'"
    ).fetchone()
    assert detail == outcome


def test_a_row_is_as_stale_as_its_oldest_entry(connection, run, ready):
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    connection.execute("UPDATE pgvmig.documents_v2_stale SET queued_at = queued_at - interval '61 s'")
    connection.execute("UPDATE documents SET body = 'again' WHERE id = 1")
    assert str(refusal(connection, run)).startswith(
        "documents v2 is not ready: 1 vector is of an older text, for up to 6"
    )


def test_empty_rows_need_no_vector_while_they_are_empty(connection, run, ready):
    connection.execute("INSERT INTO documents VALUES (2000, ''), (2001, NULL)")
    for key in (2000, 2001):
        record_outcome(connection, ready, key, "empty")
    forget_stale(connection, ready)
    with connection.transaction(force_rollback=True):
        assert cut_over(run, V2)["missing"] == 0
    connection.execute("UPDATE documents SET body = 'no longer' WHERE id = 2000")
    forget_stale(connection, ready)
    assert "1 of 1,002 rows have no vector" in str(refusal(connection, run))


def test_failed_rows_must_be_looked_at(connection, run, v1, ready):
    connection.execute("INSERT INTO documents SELECT i, 'poison' FROM generate_series(2000, 3233) AS i")
    for key in range(2000, 3234):
        record_outcome(connection, ready, key, "failed", "poison")
    forget_stale(connection, ready)
    assert str(refusal(connection, run)) == (
        "documents v2 is not ready: 1,234 rows failed and were not accepted. Next: pgvmig failed list documents v2"
    )
    accept = "UPDATE pgvmig.documents_v2_outcome SET accepted_at = now(), accepted_by = 'me', accept_reason = 'spam'"
    connection.execute(f"{accept} WHERE key_id > 2000")
    assert str(refusal(connection, run)).startswith("documents v2 is not ready: 1 row failed and was not accepted.")
    connection.execute(accept)
    embed(connection, v1)
    assert cut_over(run, V2)["gates"]["coverage"]["accepted"] == 1234


def test_a_failure_of_an_older_text_is_a_missing_vector(connection, run, ready):
    connection.execute("INSERT INTO documents VALUES (2000, 'mended')")
    record_outcome(connection, ready, 2000, "failed", "poison")
    forget_stale(connection, ready)
    assert str(refusal(connection, run)).startswith("documents v2 is not ready: 1 of 1,001 rows have no vector.")


def test_acceptance_is_whole(connection, ready):
    record_outcome(connection, ready, 1, "failed")
    with pytest.raises(CheckViolation, match="acceptance_is_whole"):
        connection.execute("UPDATE pgvmig.outcome SET accepted_at = now(), accepted_by = 'me'")


NEXT = "Next: pgvmig index documents v2"


@pytest.mark.layouts("column")
def test_an_index_must_be_there(connection, run, v2):
    embed(connection, v2)
    assert str(refusal(connection, run)) == (
        f"documents v2 is not ready: there is no vector index on embedding_v2. {NEXT}"
    )


@pytest.mark.layouts("column")
def test_an_index_must_be_of_the_metric(connection, run, v2):
    embed(connection, v2)
    connection.execute("CREATE INDEX wrong ON documents USING hnsw (embedding_v2 vector_l2_ops)")
    assert str(refusal(connection, run)) == (
        "documents v2 is not ready: no valid index with vector_cosine_ops, only public.wrong (vector_l2_ops). " + NEXT
    )


def test_an_index_must_be_valid(connection, run, ready):
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'documents_embedding_v2_hnsw'::regclass"
    )
    assert str(refusal(connection, run)) == (
        "documents v2 is not ready: no valid index with vector_cosine_ops, only "
        f"public.documents_embedding_v2_hnsw (vector_cosine_ops, invalid). {NEXT}"
    )


@pytest.mark.layouts("column")
def test_an_index_must_be_able_to_serve_the_view(connection, run, v2):
    embed(connection, v2)
    connection.execute("CREATE INDEX part ON documents USING hnsw (embedding_v2 vector_cosine_ops) WHERE id < 10")
    assert str(refusal(connection, run)) == (
        "documents v2 is not ready: the planner cannot use public.part (vector_cosine_ops) for a search through "
        f"public.documents_v2. {NEXT}"
    )


@pytest.mark.layouts("column")
def test_other_targets_are_named_as_the_commands_take_them(connection, run):
    connection.execute("CREATE SCHEMA app")
    connection.execute("CREATE TABLE app.notes (id int PRIMARY KEY, title text)")
    connection.execute("INSERT INTO app.notes VALUES (1, 'one')")
    version = add_version(connection, "notes", "v1", {"input": "title"}, schema="app", slot="headline")
    where = address("notes", "v1", "app", "headline")
    assert str(refusal(connection, run, where=where)) == (
        "app.notes.headline v1 is not ready: 1 of 1 rows have no vector. Next: pgvmig backfill app.notes.headline v1"
    )
    embed(connection, version)
    assert str(refusal(connection, run, where=where)) == (
        "app.notes.headline v1 is not ready: there is no vector index on headline_v1. "
        "Next: pgvmig index app.notes.headline v1"
    )


def test_an_empty_table_passes(connection, run, v2):
    connection.execute("TRUNCATE documents")
    assert gates.check(run, v2.version_id) == []
    assert cut_over(run, V2)["changed"]


def test_gates_can_be_asked_without_switching(connection, run, v2, layout):
    prove(connection, v2)
    before = everything(connection)
    results = [(gate.gate, gate.passed, gate.found) for gate in gates.check(run, v2.version_id)]
    assert results == [
        ("table", True, "the table has its key and the column of its vectors"),
        ("capture", True, "the triggers that follow the table fire always"),
        ("privacy", True, "who may not see a row may not see its vector"),
        ("parity", True, "who reads public.documents_current (1 role) finds the same through public.documents_v2"),
        ("provenance", True, "all 0 vectors are of v2"),
        ("coverage", False, "1,000 of 1,000 rows have no vector"),
        ("freshness", True, "no row waits for the worker"),
        ("failed", True, "no row failed without having been accepted"),
        ("index", False, f"there is no vector index on embedding{'_v2' * (layout == 'column')}"),
        ("way_back", True, "v1 is complete, fresh and indexed"),
        *((gate, True, "as a test (0 s ago)") for gate in EVIDENCE),
        ("evaluation", True, "no evaluation is required of it"),
    ]  # fmt: skip
    assert everything(connection) == before


def test_a_skipped_gate_is_kept_with_its_reason(connection, run, v2):
    terms = Terms(skip=["coverage", "index"], reason="a drill")
    outcome = cut_over(run, V2, terms)
    assert (outcome["missing"], outcome["skipped"]) == (1000, ["coverage", "index"])
    events = connection.execute(
        "SELECT source, reason, detail ->> 'skipped', detail #>> '{gates,coverage,passed}' FROM pgvmig.event "
        "WHERE verb = 'cut over' AND version = 'v2'"
    ).fetchall()
    assert set(events) == {("cli", "a drill", '["coverage", "index"]', "false")}


def test_a_bulk_load_that_switched_triggers_off_is_noticed(connection, run, ready):
    connection.execute("ALTER TABLE documents DISABLE TRIGGER USER")
    connection.execute("UPDATE documents SET body = 'unseen' WHERE id = 1")
    connection.execute("ALTER TABLE documents ENABLE TRIGGER USER")
    with pytest.raises(GateError) as error:
        cut_over(run, V2)
    assert error.value.found.startswith(
        "documents v2 is not ready: rows may have changed unseen: not enabled always is "
    )
    assert "pgvmig_embedding_v2_update" in error.value.found
    assert error.value.next_step.startswith("ALTER TABLE public.documents ENABLE ALWAYS TRIGGER pgvmig_embedding_v2_")
    connection.execute(error.value.next_step.partition(";")[0])
    with pytest.raises(
        GateError, match="v1 is no way back: rows may have changed unseen: not enabled always is "
    ) as error:
        cut_over(run, V2)
    connection.execute(error.value.next_step.partition(";")[0])
    assert cut_over(run, V2)["changed"]


def test_a_trigger_that_somebody_dropped_is_noticed(connection, run, ready):
    connection.execute("DROP TRIGGER pgvmig_embedding_v2_update ON documents")
    error = refusal(connection, run)
    assert error.found == (
        "documents v2 is not ready: rows may have changed unseen: not there is pgvmig_embedding_v2_update"
    )
    connection.execute(error.next_step.partition(";")[0])
    connection.execute("UPDATE documents SET body = 'seen' WHERE id = 1")
    assert stale(connection, ready) == [1]
    assert cut_over(run, V2)["changed"]


def test_most_of_the_table_changed_a_moment_ago(connection, run, ready):
    connection.execute("UPDATE documents SET body = body || '!' WHERE id <= 400")
    assert cut_over(run, V2)["missing"] == 400
    switch.roll_back(run, V2)
    connection.execute("UPDATE documents SET body = body || '!'")
    with pytest.raises(GateError, match="1,000 rows are waiting for the worker"):
        cut_over(run, V2)


def test_only_the_named_gate_is_skipped(connection, run, v2):
    error = refusal(connection, run, terms=Terms(skip=["coverage"], reason="a drill"))
    assert "there is no vector index" in str(error)
    assert list(error.data["gates"]) == ["index"]


@pytest.mark.parametrize("reason", [None, "", "  "])
def test_a_gate_is_not_skipped_without_a_reason(connection, run, ready, reason):
    before = everything(connection)
    with pytest.raises(IllegalTransitionError) as error:
        cut_over(run, V2, Terms(skip=["coverage", "index"], reason=reason))
    assert str(error.value) == (
        "gate coverage, index is to be skipped and no reason is given. Next: say why: it is kept with the event"
    )
    assert everything(connection) == before


def test_an_unknown_gate_is_refused(run, ready):
    with pytest.raises(IllegalTransitionError) as error:
        cut_over(run, V2, Terms(skip=["coverrage"], reason="a drill"))
    assert (
        str(error.value)
        == "there is no gate named coverrage. Next: use one of capture, coverage, evaluation, failed, freshness, "
        "hashes, health, identity, index, parity, privacy, provenance, recall, table, visibility, "
        "way_back, standbys"
    )


@pytest.mark.majors(18)
@pytest.mark.layouts("column")
def test_what_a_client_leaves_null_skips_no_gate(connection, v2):
    before = everything(connection)
    for verb, said in {
        "cut_over('documents', 'v2', skip => NULL, max_stale_age => NULL)": "1,000 of 1,000 rows have no vector",
        "cut_over('documents', 'v2', skip => ARRAY[NULL], reason => 'a drill')": "there is no gate named NULL",
        "set_route('documents', 'v2', 10, skip => NULL)": "1,000 of 1,000 rows have no vector",
    }.items():
        with pytest.raises(psycopg.Error, match=said):
            connection.execute(f"SELECT pgvmig.{verb}")
    assert everything(connection) == before


@pytest.mark.parametrize("age", [timedelta(milliseconds=1), timedelta(days=30), timedelta(days=400, seconds=1)])
def test_any_age_is_understood(connection, run, ready, age):
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    connection.execute("UPDATE pgvmig.documents_v2_stale SET queued_at = now() - %s - interval '1 s'", [age])
    refusal(connection, run, terms=Terms(max_stale_age=age))
    connection.execute("UPDATE pgvmig.documents_v2_stale SET queued_at = queued_at + interval '1 hour'")
    asked = {gate.gate: gate.passed for gate in gates.check(run, ready.version_id, Terms(max_stale_age=age))}
    assert asked["freshness"]


def test_the_way_back_has_the_same_gates(connection, run, ready):
    cut_over(run, V2)
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    embed(connection, ready)
    connection.execute("UPDATE pgvmig.documents_v1_stale SET queued_at = queued_at - interval '3 hours'")
    error = refusal(connection, run, verb=switch.roll_back)
    assert str(error) == (
        "documents v1 is not ready: 1 vector is of an older text, for up to 3 h. Next: pgvmig backfill documents v1"
    )
    outcome = switch.roll_back(run, V2, Terms(skip=["freshness"], reason="v2 answers badly"))
    assert (outcome["version"], outcome["previous"]) == ("v1", "v2")
    (reason,) = connection.execute(
        "SELECT reason FROM pgvmig.event WHERE to_state = 'active' ORDER BY event_id DESC LIMIT 1"
    ).fetchone()
    assert reason == "v2 answers badly"


def test_a_version_that_is_not_there_is_named(run, v2):
    with pytest.raises(NotFoundError) as error:
        switch.cut_over(run, address("documents", "v3"))
    assert str(error.value) == "documents has no version v3. Next: it has v1, v2"
    with pytest.raises(NotFoundError) as error:
        switch.cut_over(run, address("documents", "v1", slot="title"))
    assert str(error.value) == "documents.title has no version v1. Next: op.add_embedding adds one"


def test_contract_stays_what_the_gate_reads(v2):
    assert v2.contract.as_dict() == {**v2.contract.as_dict(), **CONTRACT, "dimensions": 4}

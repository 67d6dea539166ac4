"""The gate way_back: the version that is active could take over again. And what is asked of an empty table."""

from datetime import timedelta

import pytest
from gating import V2, Gated
from lifecycle import adopt_version, embed, prove, record_outcome

from pgvmig import switch
from pgvmig.terms import Terms

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]


@pytest.fixture
def table(database):
    return Gated(database)


@pytest.fixture
def versions(table):
    """v1 is active, v2 is complete; both have an index."""
    return table.add("v1", indexed=True), table.add("v2", indexed=True)


def test_the_active_version_must_be_complete_and_fresh(table, versions):
    v1, v2 = versions
    table.execute("INSERT INTO documents SELECT i, 'new' FROM generate_series(101, 103) AS i")
    embed(table.connection, v2)
    assert table.ask("way_back").passed  # a moment ago
    table.age("v1", "1 hour")
    back = table.ask("way_back")
    assert (back.passed, back.found, back.next) == (
        False,
        "v1 is no way back: 3 of 23 rows have no vector",
        "pgvmig backfill documents v1",
    )
    assert (back.measured["version"], back.measured["gate"], back.measured["missing"]) == ("v1", "coverage", 3)
    table.ran("v1", rows=10, seconds=10)
    assert table.ask("way_back").found.endswith(
        "3 of 23 rows have no vector; a worker needs about 3 s for that (1.0 rows/s in its last runs)"
    )
    assert (table.ask("coverage").passed, table.ask("freshness").passed) == (True, True)
    embed(table.connection, v1)
    table.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    assert table.ask("way_back", terms=Terms(max_stale_age=timedelta())).found.startswith(
        "v1 is no way back: 1 vector is of an older text, for up to "
    )
    record_outcome(table.connection, v1, 101, "failed", "new")
    assert table.ask("way_back").found == "v1 is no way back: 1 row failed and was not accepted"


def test_the_index_of_the_active_version_must_serve(table, versions):
    table.execute("DROP INDEX documents_embedding_v1_hnsw")
    back = table.ask("way_back")
    assert back.found.startswith("v1 is no way back: there is no vector index on embedding")
    assert back.next == "pgvmig index documents v1"


def test_it_is_asked_of_a_switch_forward_only(table, versions):
    _, v2 = versions
    assert table.ask("way_back", "v1").found == "v1 is active itself"
    assert "way_back" not in [result.gate for result in table.ask_all("v1", way_back=True)]
    assert table.ask("way_back").found == "v1 is complete, fresh and indexed"
    prove(table.connection, v2)
    switch.cut_over(table.run, V2)
    assert switch.roll_back(table.run, V2)["version"] == "v1"


def test_without_an_active_version_there_is_no_way_back_to_lose(table):
    table.add("v2")
    back = table.ask("way_back")
    assert (back.passed, back.found) == (True, "no version is active: nothing is lost on the way back")


@pytest.mark.layouts("column")
def test_vectors_of_the_application_are_as_good_as_they_were(table):
    table.execute("ALTER TABLE documents ADD COLUMN embedding vector(8)")
    table.execute("UPDATE documents SET embedding = '[1,0,0,0,0,0,0,0]' WHERE id <= 10")
    adopt_version(table.connection, "documents", "v1", "embedding")
    table.add("v2", indexed=True)
    table.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    table.age("v1", "1 hour")
    back = table.ask("way_back")
    assert (back.passed, back.found) == (True, "v1 takes over again as its application left it")
    table.execute("CREATE INDEX own ON documents USING hnsw (embedding vector_cosine_ops)")
    table.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'own'::regclass")
    assert table.ask("way_back").found == (
        "v1 is no way back: no valid index with vector_cosine_ops, only public.own (vector_cosine_ops, invalid)"
    )


def test_a_table_that_was_emptied_is_asked_for_what_is_no_matter_of_rows(table, versions):
    table.execute("TRUNCATE documents")
    assert table.ask_all() == []  # no worker ever ran here: a project's CI
    table.ran("v1", rows=20, seconds=1)
    asked = {result.gate: result.passed for result in table.ask_all()}
    assert asked == {"table": True, "capture": True, "privacy": True, "parity": True, "index": True, "way_back": True}
    table.execute("ALTER TABLE documents DISABLE TRIGGER USER")
    table.execute("DROP INDEX documents_embedding_v2_hnsw")
    asked = {result.gate: result.passed for result in table.ask_all()}
    assert asked == {
        "table": True,
        "capture": False,
        "privacy": True,
        "parity": True,
        "index": False,
        "way_back": False,
    }

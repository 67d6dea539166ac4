"""Rows that get no vector: recorded with the reason, tried again, accepted."""

import pytest

from pgvmig.catalog import outcomes
from pgvmig.errors import UsageError

pytestmark = pytest.mark.layouts


def test_empty_text_is_recorded_and_its_vector_goes(site):
    site.documents(3)
    v2 = site.version()
    site.run()
    site.execute("UPDATE documents SET body = E' \\t\\n' WHERE id = 1")
    site.execute("INSERT INTO documents (body) VALUES (NULL), (''), (U&'\\2003')")
    result = site.run()
    assert (result.why, result.versions["documents v2"].empty) == ("done", 4)
    assert len(site.texts()) == 3
    assert site.problems(v2) == []
    assert site.execute("SELECT key_id, kind FROM pgvmig.documents_v2_outcome ORDER BY 1").fetchall() == [
        (1, "empty"),
        (4, "empty"),
        (5, "empty"),
        (6, "empty"),
    ]
    assert site.run("documents", "v2").versions["documents v2"].batches == 0
    site.execute("UPDATE documents SET body = 'filled' WHERE id = 1")
    site.run()
    assert site.problems(v2) == []


@pytest.fixture
def poisoned(site):
    site.documents(100)
    site.execute("UPDATE documents SET body = 'poison' WHERE id = 42")
    site.server.poison = lambda text: "poison" in text
    return site.version()


def test_a_poison_row_is_recorded_and_all_others_go_on(site, poisoned):
    result = site.run()
    assert (result.why, result.versions["documents v2"].written, result.versions["documents v2"].failed) == (
        "done",
        99,
        1,
    )
    (row,) = outcomes.failed(site.connection, poisoned)
    assert (row.key, row.attempts, row.accepted) == (("42",), 1, False)
    assert "answered 400: Your input was rejected" in row.error
    assert site.problems(poisoned) == []
    asked = len(site.server.requests)
    assert site.run("documents", "v2").why == "done"
    assert len(site.server.requests) == asked


def test_a_failed_row_keeps_its_old_vector(site):
    site.documents(3)
    v2 = site.version()
    site.run()
    site.server.poison = lambda text: "poison" in text
    site.execute("UPDATE documents SET body = 'poison' WHERE id = 2")
    site.run()
    assert site.value("SELECT embedding IS NOT NULL FROM documents_v2 WHERE id = 2")
    assert site.problems(v2) == []


def test_retried_when_the_provider_has_changed_its_mind(site, poisoned):
    site.run()
    assert outcomes.retry(site.connection, poisoned, [("41",)]) == 0
    assert outcomes.retry(site.connection, poisoned) == 1
    assert site.stale() == 1
    site.server.poison = None
    assert site.run().versions["documents v2"].written == 1
    assert outcomes.failed(site.connection, poisoned) == []
    assert site.problems(poisoned) == []


def test_accepted_until_the_text_changes(site, poisoned):
    site.run()
    with pytest.raises(UsageError, match="no reason"):
        outcomes.accept(site.connection, poisoned, " ")
    assert outcomes.accept(site.connection, poisoned, "a test document") == 1
    assert outcomes.accept(site.connection, poisoned, "again") == 0
    assert outcomes.retry(site.connection, poisoned) == 0
    (row,) = outcomes.failed(site.connection, poisoned)
    assert (row.accepted, row.accept_reason) == (True, "a test document")
    assert site.value("SELECT detail ->> 'rows' FROM pgvmig.event WHERE verb = 'accept failed rows'") == "1"
    site.execute("UPDATE documents SET body = 'more poison' WHERE id = 42")
    assert outcomes.failed(site.connection, poisoned) == []
    site.run()
    (row,) = outcomes.failed(site.connection, poisoned)
    assert (row.accepted, row.attempts) == (False, 2)


@pytest.mark.layouts("column")
def test_a_row_that_the_database_refuses_is_recorded_too(site):
    """A NOT VALID constraint of the user's rejects every update of the rows that break it."""
    site.documents(20)
    site.execute("UPDATE documents SET note = 'broken' WHERE id = 7")
    site.execute("ALTER TABLE documents ADD CONSTRAINT whole CHECK (note IS DISTINCT FROM 'broken') NOT VALID")
    v2 = site.version()
    result = site.run()
    assert (result.why, result.versions["documents v2"].written) == ("done", 19)
    (row,) = outcomes.failed(site.connection, v2)
    assert row.key == ("7",)
    assert "PostgreSQL refused the row" in row.error
    assert "whole" in row.error


@pytest.mark.layouts("column")
def test_a_row_whose_update_a_trigger_suppresses_is_recorded_too(site):
    site.documents(20)
    v2 = site.version()
    site.execute("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    site.execute(
        "CREATE TRIGGER keep BEFORE UPDATE ON documents FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION keep()"
    )
    assert site.run().why == "done"
    (row,) = outcomes.failed(site.connection, v2)
    assert "a trigger suppressed the update" in row.error

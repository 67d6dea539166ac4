"""Capture where the vectors are in a table of their own: they follow their rows, at every level of isolation.

What an application cannot see or may not wait for is left to the worker, by an entry in the log.
"""

import time

import psycopg
import pytest
from lifecycle import add_version, forget_stale, outcomes, record_outcome
from psycopg import IsolationLevel
from vectors import write

VECTOR = [1.0, 0, 0, 0, 0, 0, 0, 0]
ISOLATION = [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]


def stale(connection, version):
    """Return the keys of the log's entries, oldest first; here those of deleted rows count as well."""
    log = psycopg.sql.Identifier("pgvmig", version.object("stale"))
    statement = psycopg.sql.SQL("SELECT key_id FROM {} ORDER BY entry").format(log)
    return [key for (key,) in connection.execute(statement)]


@pytest.fixture
def v2(site):
    """Rows 1 to 3 with their vectors; nothing waits."""
    site.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text, clicks int DEFAULT 0)")
    version = add_version(site.connection, "documents", "v2", layout="table")
    site.execute("INSERT INTO documents (id, body) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    write(site.connection, version, dict.fromkeys([1, 2, 3], VECTOR))
    forget_stale(site.connection, version)
    return version


@pytest.fixture
def keys(site, v2):
    """What the table of vectors holds."""
    table = psycopg.sql.Identifier(v2.vector_table_schema, v2.vector_table_name)
    statement = psycopg.sql.SQL("SELECT {} FROM {} ORDER BY 1").format(
        psycopg.sql.Identifier(v2.queue_columns[0]), table
    )
    return lambda: [key for (key,) in site.execute(statement)]


@pytest.fixture(params=ISOLATION, ids=lambda level: level.name.lower())
def application(site, request):
    """A session of the application's."""
    connection = site.database.connect(autocommit=False)
    connection.isolation_level = request.param
    return connection


@pytest.mark.majors(18, 16)
def test_an_update_marks_where_the_text_changes(site, v2, keys):
    site.execute("UPDATE documents SET clicks = 1")
    site.execute("UPDATE documents SET body = body")
    assert stale(site.connection, v2) == []
    site.execute("UPDATE documents SET body = 'changed' WHERE id = 2")
    assert (stale(site.connection, v2), keys()) == ([2], [1, 2, 3])


@pytest.mark.majors(18, 16)
def test_a_deleted_row_takes_its_vector_along(site, v2, keys, application):
    record_outcome(site.connection, v2, 3, "failed", "three")
    application.execute("DELETE FROM documents WHERE id > 1")
    application.commit()
    if application.isolation_level == IsolationLevel.SERIALIZABLE:
        # to look for it would conflict with everybody's deletes
        assert stale(site.connection, v2) == [2, 3]
        assert site.value("SELECT count(*) FROM documents_v2") == 1
    else:
        assert (stale(site.connection, v2), keys(), outcomes(site.connection, v2)) == ([], [1], [])
    site.run()
    assert (site.stale(), keys()) == (0, [1])


def test_a_row_deleted_before_it_had_a_vector_is_marked(site, v2, keys, application):
    """The worker may be writing it at this moment."""
    application.execute("INSERT INTO documents VALUES (4, 'four')")
    application.execute("DELETE FROM documents WHERE id = 4")
    application.commit()
    assert set(stale(site.connection, v2)) == {4}
    write_orphan(site, v2, 4)
    assert site.value("SELECT count(*) FROM documents_v2 WHERE id = 4") == 0  # nobody is shown it
    site.run()
    assert (site.stale(), keys()) == (0, [1, 2, 3])


def write_orphan(site, version, key):
    """Write a vector without a row, as a worker that read the row before it was deleted."""
    names = [version.queue_columns[0], *(version.vector_column, version.version_id_column)]
    names += [version.source_hash_column, version.embedded_at_column]
    columns = ", ".join(f'"{name}"' for name in names)
    table = f'"{version.vector_table_name}"'
    site.execute(
        f"INSERT INTO {table} ({columns}) VALUES (%s, %s, %s, pgvmig.source_hash('gone'), now())",
        key, str(VECTOR), version.version_id,
    )  # fmt: skip


def test_a_new_row_does_not_get_what_an_older_one_of_its_key_left(site, v2, keys):
    write_orphan(site, v2, 4)
    site.execute("INSERT INTO documents VALUES (4, 'another text')")
    assert (stale(site.connection, v2), keys()) == ([4], [1, 2, 3])


@pytest.mark.majors(18, 16)
def test_a_changed_key_leaves_no_vector_behind(site, v2, keys, application):
    application.execute("UPDATE documents SET id = 20 WHERE id = 2")
    application.commit()
    assert 20 in stale(site.connection, v2)
    site.run()
    assert (site.stale(), keys()) == (0, [1, 3, 20])


def test_keys_that_are_handed_on_show_nobody_elses_vector(site, v2, keys):
    site.execute("ALTER TABLE documents DROP CONSTRAINT documents_pkey CASCADE")
    site.execute("ALTER TABLE documents ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED")
    site.execute("UPDATE documents SET id = id + 1")
    assert site.value("SELECT count(*) FROM documents_v2") == 0
    assert {2, 3, 4} <= set(stale(site.connection, v2))
    site.run()
    assert (site.stale(), keys()) == (0, [2, 3, 4])


def test_truncate_takes_all_vectors_along(site, v2, keys, application):
    site.execute("UPDATE documents SET body = 'changed'")
    application.execute("TRUNCATE documents")
    application.commit()
    assert (stale(site.connection, v2), keys()) == ([], [])


def test_what_is_rolled_back_keeps_its_vector(site, v2, keys, application):
    application.execute("DELETE FROM documents WHERE id = 1")
    application.execute("TRUNCATE documents")
    application.rollback()
    assert (stale(site.connection, v2), keys()) == ([], [1, 2, 3])


def test_an_application_waits_for_no_worker(site, v2, keys, application):
    """It would be waited for in turn: the worker writes many rows, in an order of its own."""
    worker = site.database.connect(autocommit=False)
    worker.execute(f"SELECT FROM {v2.vector_table_name} WHERE {v2.queue_columns[0]} = 2 FOR UPDATE")
    application.execute("SET lock_timeout = '3s'")
    began = time.monotonic()
    application.execute("DELETE FROM documents WHERE id = 2")
    application.commit()
    assert time.monotonic() - began < 3
    worker.rollback()
    assert (stale(site.connection, v2), keys()) == ([2], [1, 2, 3])
    site.run()
    assert (site.stale(), keys()) == (0, [1, 3])


def test_what_was_written_since_the_snapshot_is_left_to_the_worker(site, v2, keys):
    with site.database.connect(autocommit=False) as application:
        application.isolation_level = IsolationLevel.REPEATABLE_READ
        application.execute("SELECT count(*) FROM documents")
        write(site.connection, v2, {1: [0.0, 1, 0, 0, 0, 0, 0, 0]})  # an update of the vector that the snapshot has
        application.execute("DELETE FROM documents WHERE id = 1")
        application.commit()
    assert stale(site.connection, v2) == [1]
    site.run()
    assert (site.stale(), keys()) == (0, [2, 3])


def test_serializable_deletes_do_not_meet(site, v2):
    one, two = (site.database.connect(autocommit=False) for _ in range(2))
    for session in (one, two):
        session.isolation_level = IsolationLevel.SERIALIZABLE
    site.execute("INSERT INTO documents SELECT n, 'text' FROM generate_series(100, 1000) AS n")
    site.execute("ANALYZE documents")
    one.execute("DELETE FROM documents WHERE id = 1")
    two.execute("DELETE FROM documents WHERE id = 900")
    one.commit()
    two.commit()
    assert {1, 900} <= set(stale(site.connection, v2))


def test_the_application_needs_no_rights_on_vectors(site, v2, keys):
    site.execute("DROP ROLE IF EXISTS clerk")
    site.execute("CREATE ROLE clerk")
    try:
        site.execute("GRANT INSERT, UPDATE, DELETE, TRUNCATE ON documents TO clerk")
        site.execute("GRANT SELECT (id) ON documents TO clerk")
        site.execute("SET ROLE clerk")
        site.execute("DELETE FROM documents WHERE id = 1")
        site.execute("INSERT INTO documents VALUES (1, 'again')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            site.execute(f"SELECT pgvmig.documents_v2_take_vector(d) FROM {v2.table_name} AS d")
        site.execute("TRUNCATE documents")
        site.execute("RESET ROLE")
        assert keys() == []
    finally:
        site.execute("RESET ROLE")
        site.execute("DROP OWNED BY clerk")
        site.execute("DROP ROLE clerk")


def test_a_retired_version_leaves_no_functions(site, v2):
    site.execute("SELECT pgvmig.retire('documents', 'v2', soak => '0')")
    found = site.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'pgvmig'::regnamespace AND proname LIKE 'documents_v2%'"
    )
    assert found.fetchall() == []
    site.execute("DELETE FROM documents")

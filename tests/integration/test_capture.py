"""Capture: which writes mark a row stale, which take it off the queue, and which do neither."""

import select

import pytest
from lifecycle import add_version, embed, forget_stale, install, outcomes, record_outcome, stale
from psycopg.errors import CheckViolation
from vectors import write

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]

VECTOR = [1.0, 0, 0, 0, 0, 0, 0, 0]


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute(
        "CREATE TABLE documents (id bigint PRIMARY KEY, body text, title text DEFAULT '', clicks int DEFAULT 0)"
    )
    return connection


@pytest.fixture
def v1(connection):
    return add_version(connection, "documents", "v1")


@pytest.fixture
def rows(connection, v1):
    """Rows 1 to 3, embedded; nothing waits."""
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    write(connection, v1, dict.fromkeys([1, 2, 3], VECTOR))
    forget_stale(connection, v1)


@pytest.fixture(params=["origin", "replica", "local"])
def replication_role(connection, request):
    """Bulk loads run as `replica`, which skips ordinary triggers."""
    connection.execute(f"SET session_replication_role = {request.param}")


def test_every_insert_marks_its_row(connection, v1, replication_role):
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one'), (2, NULL), (3, '')")
    connection.execute("INSERT INTO documents (id, body) SELECT i, 'x' FROM generate_series(4, 5) AS i")
    with connection.cursor() as cursor, cursor.copy("COPY documents (id, body) FROM STDIN") as copy:
        copy.write_row((6, "six"))
    assert stale(connection, v1) == [1, 2, 3, 4, 5, 6]


def test_rows_that_were_there_are_the_walks_business(connection):
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one')")
    assert stale(connection, add_version(connection, "documents", "v1")) == []


@pytest.mark.layouts("column")
def test_an_insert_with_its_vector_is_not_marked(connection, v1):
    connection.execute(
        "INSERT INTO documents (id, body, embedding_v1, embedding_v1_version_id, embedding_v1_source_hash, "
        "embedding_v1_embedded_at) VALUES (1, 'one', '[1,0,0,0,0,0,0,0]', 1, pgvmig.source_hash('one'), now())"
    )
    assert stale(connection, v1) == []


@pytest.mark.layouts("column")
def test_a_copied_row_with_another_text_is_marked(connection, v1):
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one')")
    embed(connection, v1)
    forget_stale(connection, v1)
    columns = "embedding_v1, embedding_v1_version_id, embedding_v1_source_hash, embedding_v1_embedded_at"
    copy = f"INSERT INTO documents (id, body, {columns}) SELECT %s, %s, {columns} FROM documents WHERE id = 1"
    connection.execute(copy, [2, "one"])
    connection.execute(copy, [3, "other text"])
    assert stale(connection, v1) == [3]


@pytest.mark.parametrize(
    ("change", "marked"),
    [
        ("body = 'changed'", [2]),
        ("body = NULL", [2]),
        ("body = body || ' '", [2]),
        ("body = 'changed', clicks = 1", [2]),
        ("body = body", []),
        ("body = 'two'", []),
        ("title = 'changed', clicks = clicks + 1", []),
    ],
)
@pytest.mark.usefixtures("rows", "replication_role")
def test_an_update_marks_where_the_input_changes(connection, v1, change, marked):
    connection.execute(f"UPDATE documents SET {change} WHERE id = 2")
    assert stale(connection, v1) == marked


@pytest.mark.layouts("column")
def test_a_vectors_write_marks_nothing_and_a_vector_taken_away_does(connection, v1, rows):
    write(connection, v1, {2: VECTOR[::-1]})
    assert stale(connection, v1) == []
    connection.execute(
        "UPDATE documents SET embedding_v1 = NULL, embedding_v1_version_id = NULL, embedding_v1_source_hash = NULL, "
        "embedding_v1_embedded_at = NULL WHERE id = 2"
    )
    assert stale(connection, v1) == [2]


@pytest.mark.layouts("column")
def test_vector_and_provenance_are_there_together_or_not_at_all(connection, v1, rows):
    for column in ("", "_version_id", "_source_hash", "_embedded_at"):
        with pytest.raises(CheckViolation, match="documents_embedding_v1_whole"):
            connection.execute(f"UPDATE documents SET embedding_v1{column} = NULL WHERE id = 2")
    connection.execute("INSERT INTO documents (id) VALUES (4)")
    for value in ("_version_id = 1", "_source_hash = ''", "_embedded_at = now()", " = '[1,0,0,0,0,0,0,0]'"):
        with pytest.raises(CheckViolation, match="documents_embedding_v1_whole"):
            connection.execute(f"UPDATE documents SET embedding_v1{value} WHERE id = 4")


def test_a_changed_key_moves_the_row(connection, v1, rows, replication_role):
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 2")
    record_outcome(connection, v1, 2, "failed", "two")
    connection.execute("UPDATE documents SET id = 20 WHERE id = 2")
    assert stale(connection, v1) == [20]
    assert outcomes(connection, v1) == []
    connection.execute("UPDATE documents SET id = id + 100, body = 'again'")
    assert sorted(stale(connection, v1)) == [101, 103, 120]


def test_deletes_leave_nothing_behind(connection, v1, rows, replication_role):
    connection.execute("UPDATE documents SET body = 'changed'")
    for key in (1, 2):
        record_outcome(connection, v1, key, "empty")
    connection.execute("DELETE FROM documents WHERE id <= 2")
    assert (stale(connection, v1), outcomes(connection, v1)) == ([3], [])


def test_truncate_leaves_nothing_behind(connection, v1, rows, replication_role):
    connection.execute("UPDATE documents SET body = 'changed'")
    record_outcome(connection, v1, 1, "failed")
    connection.execute("TRUNCATE documents")
    assert (stale(connection, v1), outcomes(connection, v1)) == ([], [])


def test_truncate_of_a_parent_reaches_us(connection, v1, rows):
    connection.execute("CREATE TABLE tenants (id bigint PRIMARY KEY)")
    connection.execute("ALTER TABLE documents ADD COLUMN tenant bigint REFERENCES tenants")
    connection.execute("UPDATE documents SET body = 'changed'")
    connection.execute("TRUNCATE tenants CASCADE")
    assert stale(connection, v1) == []


def test_upserts_and_merge(connection, v1, rows):
    upsert = "INSERT INTO documents (id, body) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
    for row in ((2, "two"), (3, "changed"), (4, "four")):
        connection.execute(upsert, row)
    assert stale(connection, v1) == [3, 4]
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'x') ON CONFLICT DO NOTHING")
    connection.execute(
        "MERGE INTO documents d USING (VALUES (1, 'merged'), (4, NULL), (5, 'five')) AS n (id, body) ON d.id = n.id "
        "WHEN MATCHED AND n.body IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET body = n.body "
        "WHEN NOT MATCHED THEN INSERT (id, body) VALUES (n.id, n.body)"
    )
    assert stale(connection, v1) == [3, 1, 5]


def test_text_that_another_trigger_changed_is_noticed(connection, v1, rows):
    connection.execute(
        """CREATE FUNCTION retitle() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.body := NEW.title; RETURN NEW; END $$"""
    )
    connection.execute("CREATE TRIGGER zzz BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION retitle()")
    connection.execute("UPDATE documents SET title = 'new' WHERE id = 2")
    assert stale(connection, v1) == [2]
    assert connection.execute("SELECT body FROM documents WHERE id = 2").fetchone() == ("new",)


def test_a_long_text_that_did_not_change_is_not_marked(connection, v1):
    connection.execute(
        "INSERT INTO documents (id, body) SELECT 1, string_agg(md5(i::text), '') FROM generate_series(1, 5000) i"
    )
    forget_stale(connection, v1)
    connection.execute("UPDATE documents SET clicks = 1")
    connection.execute("UPDATE documents SET body = body")
    assert stale(connection, v1) == []
    connection.execute("UPDATE documents SET body = body || '!'")
    assert stale(connection, v1) == [1]


def test_a_long_text_that_gives_way_to_another_of_its_length_is_marked(connection, v1):
    connection.execute("ALTER TABLE documents ALTER body SET STORAGE EXTERNAL")
    connection.execute("INSERT INTO documents (id, body) VALUES (1, repeat('a', 20000)), (2, repeat('a', 20000))")
    forget_stale(connection, v1)
    connection.execute("UPDATE documents SET body = CASE id WHEN 1 THEN repeat('b', 20000) ELSE body || '' END")
    assert stale(connection, v1) == [1]


def test_what_is_rolled_back_was_not_marked(connection, v1, rows):
    with connection.transaction(force_rollback=True):
        connection.execute("UPDATE documents SET body = 'changed'")
        assert len(stale(connection, v1)) == 3
    assert stale(connection, v1) == []


def test_several_versions_and_slots_follow_each_for_itself(connection, v1, rows):
    v2 = add_version(connection, "documents", "v2", {"input": "title || body"})
    titles = add_version(connection, "documents", "v1", {"input": "title"}, slot="headline")
    connection.execute("UPDATE documents SET title = 'changed' WHERE id = 1")
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 2")
    queues = [stale(connection, version) for version in (v1, v2, titles)]
    assert queues == [[2], [1, 2], [1]]
    connection.execute("DELETE FROM documents")
    assert [stale(connection, version) for version in (v1, v2, titles)] == [[], [], []]


def test_a_retired_version_follows_no_more(connection, v1, rows):
    add_version(connection, "documents", "v2")
    connection.execute("SELECT pgvmig.retire('documents', 'v1', soak => '0')")
    connection.execute("UPDATE documents SET body = 'changed'")
    triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'documents'::regclass AND tgname LIKE '%v1%'"
    assert connection.execute(triggers).fetchall() == []
    assert connection.execute("SELECT to_regclass('pgvmig.documents_v1_stale')").fetchone() == (None,)
    assert connection.execute("SELECT count(*) FROM pgvmig.stale_row").fetchone() == (3,)


def test_repeatable_read_applications_are_not_disturbed(database, connection, v1, rows):
    """An upsert into the queue would fail them: somebody else marked the same row after their snapshot."""
    application = database.connect()
    application.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    application.execute("SELECT count(*) FROM documents")
    connection.execute("INSERT INTO documents (id, body) VALUES (4, 'four')")
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    application.execute("UPDATE documents SET body = 'other' WHERE id = 2")
    application.execute("INSERT INTO documents (id, body) VALUES (5, 'five')")
    application.execute("DELETE FROM documents WHERE id = 3")
    application.execute("COMMIT")
    assert sorted(stale(connection, v1)) == [1, 2, 4, 5]


def test_two_writers_of_different_rows_do_not_wait_for_each_other(database, connection, v1, rows):
    other = database.connect()
    other.execute("SET lock_timeout = '2s'")
    with connection.transaction():
        connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
        connection.execute("DELETE FROM documents WHERE id = 2")
        other.execute("UPDATE documents SET body = 'changed' WHERE id = 3")
    assert stale(connection, v1) == [1, 3]


def notified(listener):
    """What the listener hears within a moment."""
    listener.execute("SELECT 1")
    select.select([listener], [], [], 0.2)
    return [(n.channel, n.payload) for n in listener.notifies(timeout=0)]


def test_notify_is_only_sent_while_somebody_listens(database, connection, v1):
    listener = database.connect()
    listener.execute("LISTEN pgvmig_stale")
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one')")
    assert notified(listener) == []
    connection.execute("UPDATE pgvmig.follower SET until = clock_timestamp() + interval '1 minute'")
    connection.execute("INSERT INTO documents (id, body) VALUES (2, 'two'), (3, 'three')")
    connection.execute("UPDATE documents SET clicks = 1")
    assert notified(listener) == [("pgvmig_stale", str(v1.version_id))]
    connection.execute("UPDATE pgvmig.follower SET until = clock_timestamp() - interval '1 minute'")
    connection.execute("INSERT INTO documents (id, body) VALUES (4, 'four')")
    assert notified(listener) == []


def test_notify_is_of_the_version_that_somebody_follows(database, connection, v1):
    v2 = add_version(connection, "documents", "v2")
    listener = database.connect()
    listener.execute("LISTEN pgvmig_stale")
    connection.execute("UPDATE pgvmig.follower SET until = 'infinity' WHERE version_id = %s", [v2.version_id])
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one')")
    assert notified(listener) == [("pgvmig_stale", str(v2.version_id))]


def test_adding_and_dropping_leaves_the_table_as_it_was(connection):
    def shape():
        return connection.execute(
            """SELECT 'column', attname::text FROM pg_attribute
               WHERE attrelid = 'documents'::regclass AND attnum > 0 AND NOT attisdropped
               UNION ALL SELECT 'trigger', tgname FROM pg_trigger WHERE tgrelid = 'documents'::regclass
               UNION ALL SELECT 'constraint', conname FROM pg_constraint
               WHERE conrelid = 'documents'::regclass AND contype <> 'n'
               UNION ALL SELECT c.relkind::text, c.relname FROM pg_class c
               WHERE c.relnamespace IN ('public'::regnamespace, 'pgvmig'::regnamespace)
               UNION ALL SELECT 'function', p.proname FROM pg_proc p WHERE p.pronamespace = 'pgvmig'::regnamespace
               ORDER BY 1, 2"""
        ).fetchall()

    before = shape()
    for _ in range(2):
        add_version(connection, "documents", "v1")
        assert shape() != before
        connection.execute("SELECT pgvmig.drop_version('documents', 'v1')")
        assert shape() == before
    assert connection.execute("SELECT count(*) FROM pgvmig.version, pgvmig.slot").fetchone() == (0,)

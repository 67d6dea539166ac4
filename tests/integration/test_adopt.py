"""Adoption: a table's own vectors become a version, its application notices nothing, the way back leaves no trace."""

import os

import lifecycle
import pytest
from lifecycle import CONTRACT, add_version, adopt_version, embed, find, install, retire, stale
from migrating import OwnProject

from pgvmig import adding, errors, indexing, switch
from pgvmig.address import address
from pgvmig.runner import ConnectionRunner

pytestmark = pytest.mark.majors(18, 16)

V1, V2 = address("documents", "v1"), address("documents", "v2")
A, B = "[1,0,0,0,0,0,0,0]", "[0,1,0,0,0,0,0,0]"
INDEX = "CREATE INDEX own ON documents USING hnsw (embedding vector_cosine_ops)"


@pytest.fixture
def connection(database):
    """Rows 1 and 2 have vectors, row 3 has none."""
    connection = database.connect()
    install(connection)
    connection.execute(
        "CREATE TABLE documents (id int PRIMARY KEY, body text, embedding vector(8), clicks int DEFAULT 0)"
    )
    connection.execute(f"INSERT INTO documents VALUES (1, 'one', '{A}'), (2, 'two', '{B}'), (3, 'three', NULL)")
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection)


@pytest.fixture
def v1(connection):
    return adopt_version(connection, "documents", "v1", "embedding")


@pytest.fixture
def cut_over(connection, run, v1):
    """v2 active, v1 retained."""
    connection.execute(INDEX)
    embed(connection, add_version(connection, "documents", "v2", {"dimensions": 4}))
    indexing.build(run, V2)
    lifecycle.cut_over(run, V2)
    return find(connection, V1), find(connection, V2)


def rows_on_disk(connection):
    return connection.execute(
        "SELECT pg_relation_filenode('documents'), array_agg((ctid, xmin, xmax, id)::text ORDER BY id) FROM documents"
    ).fetchone()


def provenance(connection, key):
    """Version id, whether the hash is of the text, whether the time is right; for one row."""
    return connection.execute(
        "SELECT embedding_version_id, embedding_source_hash = pgvmig.source_hash(body), "
        "embedding_embedded_at > now() - interval '1 minute' FROM documents WHERE id = %s",
        [key],
    ).fetchone()


NONE = (None, None, None)


@pytest.mark.parametrize("index", [None, INDEX])
def test_no_row_is_rewritten(connection, index):
    if index:
        connection.execute(index)
    before = rows_on_disk(connection)
    v1 = adopt_version(connection, "documents", "v1", "embedding")
    assert rows_on_disk(connection) == before
    assert (v1.state, v1.writer, v1.adopted, v1.vector_column) == ("active", "application", True, "embedding")
    assert stale(connection, v1) == []
    connection.execute("SELECT pgvmig.release_version('documents', 'v1')")
    assert rows_on_disk(connection) == before


def test_the_views_show_what_is_there(connection, v1):
    shown = (
        "SELECT id, body, embedding::text, embedding_space, embedding_model, embedding_source_hash FROM {} ORDER BY id"
    )
    for view in ("documents_v1", "documents_current"):
        assert connection.execute(shown.format(view)).fetchall() == [
            (1, "one", A, "v1", "hash", None),
            (2, "two", B, "v1", "hash", None),
        ]
    columns = [column.name for column in connection.execute("SELECT * FROM documents_current").description]
    assert (columns[:3], columns[-6:]) == (
        ["id", "body", "clicks"],
        ["embedding", "embedding_space", "embedding_model", "embedding_model_version", "embedding_source_hash",
         "embedding_embedded_at"],
    )  # fmt: skip
    assert connection.execute("SELECT version, view::text FROM pgvmig.active_space('documents')").fetchone() == (
        "v1",
        "documents_v1",
    )


APPLICATION = [
    f"INSERT INTO documents VALUES (10, 'ten', '{A}')",
    f"INSERT INTO documents VALUES (11, 'eleven', '{A}', 5)",
    "INSERT INTO documents (id, body) VALUES (12, 'twelve')",
    f"INSERT INTO documents (body, embedding, id) SELECT 'more', '{A}', i FROM generate_series(13, 14) AS i",
    f"INSERT INTO documents VALUES (1, 'x', '{A}') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    f"INSERT INTO documents VALUES (2, 'x', '{A}') ON CONFLICT DO NOTHING",
    f"UPDATE documents SET body = 'both', embedding = '{B}' WHERE id = 2",
    "UPDATE documents SET clicks = clicks + 1",
    "UPDATE documents SET embedding = NULL WHERE id = 10",
    "UPDATE documents SET id = 30 WHERE id = 3",
    "DELETE FROM documents WHERE id = 13",
    "WITH gone AS (DELETE FROM documents WHERE id = 14 RETURNING *) INSERT INTO documents SELECT 15, body FROM gone",
]


def work(connection):
    """What the application does all day; returns what it is told and what it finds then."""
    answers = [connection.execute(statement).statusmessage for statement in APPLICATION]
    with connection.cursor() as cursor, cursor.copy("COPY documents (id, body, embedding) FROM STDIN") as copy:
        copy.write_row((20, "twenty", A))
    found = connection.execute("SELECT id, body, embedding::text, clicks FROM documents ORDER BY id").fetchall()
    searched = connection.execute(f"SELECT id FROM documents ORDER BY embedding <=> '{A}', id").fetchall()
    return answers, found, searched


def test_unmodified_application_statements_pass_before_and_after(connection, run):
    with connection.transaction(force_rollback=True):
        before = work(connection)
    adopt_version(connection, "documents", "v1", "embedding")
    with connection.transaction(force_rollback=True):
        assert work(connection) == before
    adding.release(run, V1)
    assert work(connection) == before


def test_the_application_needs_no_new_rights(connection, v1):
    role = f"{connection.info.dbname}_application"
    connection.execute(f"CREATE ROLE {role}")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON documents TO {role}")
    try:
        connection.execute(f"SET ROLE {role}")
        work(connection)
    finally:
        connection.execute("RESET ROLE")
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")
    assert provenance(connection, 20) == (v1.version_id, True, True)


@pytest.mark.parametrize("replication_role", ["origin", "replica"])
def test_new_vectors_are_recorded_as_the_versions(connection, v1, replication_role):
    connection.execute(f"SET session_replication_role = {replication_role}")
    known = (v1.version_id, True, True)
    assert provenance(connection, 1) == NONE  # from before the adoption: nobody knows
    connection.execute(f"INSERT INTO documents VALUES (10, 'ten', '{A}'), (11, 'eleven', NULL)")
    assert (provenance(connection, 10), provenance(connection, 11)) == (known, NONE)
    connection.execute(f"UPDATE documents SET embedding = '{B}' WHERE id IN (1, 11)")
    assert (provenance(connection, 1), provenance(connection, 11)) == (known, known)
    connection.execute(f"UPDATE documents SET body = 'changed', embedding = '{A}' WHERE id = 1")
    assert provenance(connection, 1) == known
    connection.execute("UPDATE documents SET embedding = NULL WHERE id = 1")
    assert provenance(connection, 1) == NONE


def test_the_hash_stays_that_of_the_text_which_was_embedded(connection, v1):
    connection.execute(f"INSERT INTO documents VALUES (10, 'ten', '{A}')")
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 10")
    assert provenance(connection, 10) == (v1.version_id, False, True)
    connection.execute("UPDATE documents SET body = 'ten' WHERE id = 10")
    assert provenance(connection, 10) == (v1.version_id, True, True)


def test_text_that_another_trigger_changes_is_what_is_hashed(connection, v1):
    connection.execute(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.body := upper(NEW.body); RETURN NEW; END'"
    )
    connection.execute("CREATE TRIGGER zzz BEFORE INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION shout()")
    connection.execute(f"INSERT INTO documents VALUES (10, 'ten', '{A}')")
    assert provenance(connection, 10) == (v1.version_id, True, True)


@pytest.fixture
def writer(connection):
    """A role that may write the table and nothing else; roles belong to the server, so it goes again."""
    role = f"pgvmig_writer_{os.getpid()}"
    connection.execute(f"CREATE ROLE {role}; GRANT ALL ON documents TO {role}")
    yield role
    connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


def test_functions_of_the_input_run_with_the_writers_rights(connection, writer):
    """The table's owner may redefine what the input calls: with our rights he would become whoever installed us."""
    connection.execute("CREATE FUNCTION clean(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT $1 $$")
    adopt_version(connection, "documents", "v1", "embedding", {**CONTRACT, "input": "public.clean(body)"})
    connection.execute(
        "CREATE OR REPLACE FUNCTION clean(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN current_user; END $$"
    )
    connection.execute(f"SET ROLE {writer}")
    connection.execute(f"INSERT INTO documents (id, body, embedding) VALUES (50, 'fifty', '{A}')")
    connection.execute("RESET ROLE")
    assert connection.execute(
        "SELECT embedding_source_hash = pgvmig.source_hash(%s) FROM documents WHERE id = 50", [writer]
    ).fetchone() == (True,)


def test_renaming_the_vector_column_does_not_break_the_application(connection, v1):
    connection.execute("ALTER TABLE documents RENAME COLUMN embedding TO vectors")
    connection.execute(f"INSERT INTO documents (id, body, vectors) VALUES (50, 'fifty', '{A}')")
    connection.execute(f"UPDATE documents SET vectors = '{A}', body = 'changed' WHERE id = 50")
    connection.execute("UPDATE documents SET vectors = NULL WHERE id = 50")
    assert connection.execute("SELECT embedding_source_hash FROM documents WHERE id = 50").fetchone() == (None,)


def test_rows_whose_vector_lags_are_listed_until_it_comes(connection, v1):
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    connection.execute("INSERT INTO documents (id, body) VALUES (10, 'ten')")
    connection.execute("UPDATE documents SET embedding = NULL WHERE id = 2")
    assert stale(connection, v1) == [1, 10, 2]
    connection.execute("UPDATE documents SET clicks = 1")
    connection.execute(f"UPDATE documents SET embedding = '{B}' WHERE id IN (1, 10)")
    assert stale(connection, v1) == [2]
    connection.execute("DELETE FROM documents WHERE id = 2")
    assert stale(connection, v1) == []


def test_after_a_cutover_the_worker_takes_over(connection, run, cut_over):
    v1, v2 = cut_over
    assert (v1.state, v1.writer, v2.state) == ("retained", "worker", "active")
    connection.execute("INSERT INTO documents (id, body) VALUES (10, 'ten')")
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    assert (stale(connection, v1), stale(connection, v2)) == ([10, 1], [10, 1])
    assert connection.execute(
        "SELECT walked FROM pgvmig.backfill WHERE version_id = %s", [v1.version_id]
    ).fetchone() == (False,)


def test_the_workers_own_provenance_is_kept(connection, cut_over):
    v1, _ = cut_over
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    connection.execute(
        f"UPDATE documents SET embedding = '{B}', embedding_version_id = %s, "
        "embedding_source_hash = pgvmig.source_hash(body), embedding_embedded_at = '2001-01-01' WHERE id = 1",
        [v1.version_id],
    )
    assert provenance(connection, 1) == (v1.version_id, True, False)
    assert stale(connection, v1) == []


def test_what_the_application_still_writes_is_recorded(connection, cut_over):
    v1, _ = cut_over
    connection.execute(f"UPDATE documents SET body = 'changed', embedding = '{B}' WHERE id = 1")
    assert provenance(connection, 1) == (v1.version_id, True, True)
    assert stale(connection, v1) == []


def test_there_and_back_and_there_again(connection, run, cut_over):
    for version in cut_over:
        embed(connection, version)
    assert switch.roll_back(run, V2)["version"] == "v1"
    shown = "SELECT DISTINCT embedding_space FROM documents_current"
    assert connection.execute(shown).fetchall() == [("v1",)]
    assert find(connection, V1).writer == "worker"
    lifecycle.cut_over(run, V2)
    assert connection.execute(shown).fetchall() == [("v2",)]


def test_an_adopted_version_that_never_had_an_index_is_gone_back_to_without_one(connection, run, cut_over):
    connection.execute("DROP INDEX own")
    for version in cut_over:
        embed(connection, version)
    switch.roll_back(run, V2)
    assert find(connection, V1).state == "active"


def test_a_column_without_dimensions_has_an_index_of_smaller_vectors_or_of_the_cast(connection, run):
    connection.execute("DELETE FROM documents WHERE embedding IS NULL")
    connection.execute("ALTER TABLE documents ALTER COLUMN embedding TYPE vector")
    adopt_version(connection, "documents", "v1", "embedding")
    with pytest.raises(errors.ConflictError) as refused:
        indexing.build(run, V1)
    cast = (
        'CREATE INDEX CONCURRENTLY ON "public"."documents" USING hnsw (("embedding"::"public"."vector"(8)) '
        '"public"."vector_cosine_ops")'
    )
    assert str(refused.value) == (
        "documents.embedding is vector without dimensions. PostgreSQL can index a cast of it only, which searches have "
        "to name; a type with dimensions rewrites the table under a lock. Next: searches know an index of smaller "
        f'vectors, which has its dimensions: quantize="halfvec"; or for queries that name the cast: {cast}'
    )
    assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)
    assert indexing.build(run, V1, quantize="halfvec")
    indexing.drop(run, V1, version_stays=True)
    connection.execute(cast)


def test_retiring_leaves_the_applications_column(connection, run, cut_over):
    outcome = retire(run, V1)
    assert (outcome["changed"], outcome["kept_column"]) == (True, "embedding")
    assert connection.execute("SELECT to_regclass('own') IS NOT NULL, count(embedding) FROM documents").fetchone() == (
        True,
        2,
    )
    connection.execute(f"INSERT INTO documents (id, body, embedding) VALUES (10, 'ten', '{A}')")
    with pytest.raises(errors.ConflictError) as error:
        adding.adopt(run, V1, "embedding", CONTRACT)
    assert str(error.value) == (
        "documents v1 is retired. Nobody has followed its column since then: its vectors may be of older texts. "
        "Next: op.add_embedding() adds it again, empty"
    )


def test_releasing_leaves_column_vectors_and_index(connection, run):
    def shape():
        return connection.execute(
            """SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
               WHERE attrelid = 'documents'::regclass AND attnum > 0 AND NOT attisdropped
               UNION ALL SELECT array_agg(tgname::text) FROM pg_trigger WHERE tgrelid = 'documents'::regclass
               UNION ALL SELECT array_agg(relname::text ORDER BY relname) FROM pg_class
               WHERE relnamespace IN ('public'::regnamespace, 'pgvmig'::regnamespace)
               UNION ALL SELECT array_agg(proname::text ORDER BY proname) FROM pg_proc
               WHERE pronamespace = 'pgvmig'::regnamespace"""
        ).fetchall()

    connection.execute(INDEX)
    before = shape()
    for _ in range(2):
        adopt_version(connection, "documents", "v1", "embedding")
        adding.release(run, V1)
        assert shape() == before
    assert connection.execute("SELECT count(embedding) FROM documents").fetchone() == (2,)
    verbs = connection.execute("SELECT verb, from_state, to_state FROM pgvmig.event ORDER BY event_id").fetchall()
    assert verbs[:3] == [("adopt", None, "active"), ("release", "active", "ready"), ("release", "ready", None)]


def test_an_input_of_generated_columns_leaves_the_hash_unknown(connection):
    """A BEFORE trigger sees them as NULL: better none than a wrong one."""
    connection.execute("ALTER TABLE documents ADD COLUMN upper text GENERATED ALWAYS AS (upper(body)) STORED")
    v1 = adopt_version(connection, "documents", "v1", "embedding", {"input": "upper"})
    connection.execute(f"INSERT INTO documents VALUES (10, 'ten', '{A}')")
    recorded = """SELECT embedding_version_id, embedding_source_hash, embedding_embedded_at IS NOT NULL
                  FROM documents WHERE id = 10"""
    assert connection.execute(recorded).fetchone() == (v1.version_id, None, True)
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 10")
    assert stale(connection, v1) == [10]


def test_a_column_of_another_name_and_a_slot_of_its_own(connection):
    connection.execute("ALTER TABLE documents RENAME embedding TO vec")
    v1 = adopt_version(connection, "documents", "v1", "vec")
    assert v1.version_id_column == "vec_version_id"
    columns = [column.name for column in connection.execute("SELECT * FROM documents_v1").description]
    assert columns[:4] == ["id", "body", "clicks", "embedding"]
    v2 = add_version(connection, "documents", "v2")
    assert connection.execute("SELECT * FROM documents_v2").description[3].name == "embedding"
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    assert (stale(connection, v1), stale(connection, v2)) == ([1], [1])


def test_a_whole_life_goes_up_and_down_on_an_empty_table(database, connection, tmp_path):
    """A retirement's downgrade adds v1 anew, without a vector; the adoption's downgrade takes that away."""
    connection.execute("TRUNCATE documents")
    project = OwnProject(database.url, tmp_path / "migrations")
    project.revision(
        'op.adopt_embedding("documents", "v1", "embedding", CONTRACT)', 'op.release_embedding("documents", "v1")'
    )
    project.revision(
        'op.add_embedding("documents", "v2", CONTRACT | {"model": "other"})', 'op.drop_embedding("documents", "v2")'
    )
    project.revision('op.cut_over_embedding("documents", "v2")', 'op.roll_back_embedding("documents", "v2")')
    added = 'op.add_embedding("documents", "v1", CONTRACT, columns=["id", "body", "clicks"], key=["id"])'
    project.revision('op.retire_embedding("documents", "v1")', added)
    for _ in range(2):
        project.upgrade("head")
        project.downgrade("base")
        assert connection.execute("SELECT count(*) FROM pgvmig.version").fetchone() == (0,)
        assert connection.execute("SELECT to_regclass('documents_current')").fetchone() == (None,)
    # one that has vectors by then is not taken for the column that was adopted
    project.upgrade("head")
    project.downgrade("r3")
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one')")
    embed(connection, find(connection, V1))
    with pytest.raises(errors.IllegalTransitionError, match="documents v1 was not adopted, pgvmig made its columns"):
        adding.release(ConnectionRunner(connection), V1)


def test_adoption_is_a_revision_with_its_downgrade(database, connection, tmp_path):
    project = OwnProject(database.url, tmp_path / "migrations")
    project.revision(
        'op.adopt_embedding("documents", "v1", "embedding", CONTRACT)', 'op.release_embedding("documents", "v1")'
    )
    project.revision('op.index_embedding("documents", "v1")', 'op.drop_embedding_index("documents", "v1")')
    with pytest.raises(errors.GateError) as error:
        project.upgrade("head")
    assert str(error.value) == (
        "documents v1 is not ready for its index: 1 of 3 rows have no vector. "
        "Next: its application writes them; to build it now, alembic -x pgvmig_early_index=documents.v1"
    )
    for _ in range(2):
        project.upgrade("head", "pgvmig_early_index=documents.v1")
        assert find(connection, V1).writer == "application"
        assert connection.execute("SELECT to_regclass('documents_embedding_hnsw') IS NOT NULL").fetchone() == (True,)
        project.downgrade("base", "pgvmig_drop_index=documents.v1")
        assert connection.execute("SELECT count(embedding) FROM documents").fetchone() == (2,)
    events = connection.execute(
        "SELECT DISTINCT source, revision FROM pgvmig.event WHERE verb IN ('adopt', 'release')"
    ).fetchall()
    assert events == [("alembic", "r1")]

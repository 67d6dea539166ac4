"""`alembic upgrade --sql`: complete and readable without a database, and the same database as online afterwards."""

import re
import subprocess

import pytest
from lifecycle import EVIDENCE, embed, find, prove
from migrating import OwnProject, Project

from pgvmig import embedded, indexing
from pgvmig.address import address
from pgvmig.errors import UsageError
from pgvmig.runner import ConnectionRunner

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.bare]

CATALOG = """
    SELECT 'view', c.oid::regclass::text, pg_get_viewdef(c.oid) || c.reloptions::text FROM pg_class c
    WHERE c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'column', a.attrelid::regclass || '.' || a.attname,
        format_type(a.atttypid, a.atttypmod) || a.attnotnull FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relnamespace IN ('public'::regnamespace, 'pgvmig'::regnamespace)
    UNION ALL SELECT 'constraint', n.conrelid::regclass || '.' || n.conname, pg_get_constraintdef(n.oid)
    FROM pg_constraint n WHERE n.connamespace IN ('public'::regnamespace, 'pgvmig'::regnamespace)
    UNION ALL SELECT 'trigger', t.tgname, pg_get_triggerdef(t.oid) || t.tgenabled::text
    FROM pg_trigger t WHERE NOT tgisinternal
    UNION ALL SELECT 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) || i.indisvalid
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid) FROM pg_proc p
    WHERE p.pronamespace = 'pgvmig'::regnamespace
    UNION ALL SELECT 'version', version, concat_ws(',', state, writer, adopted, layout, fingerprint, vector_column,
        view, object_name, activated_from) FROM pgvmig.version
    UNION ALL SELECT 'contract', fingerprint, canonical FROM pgvmig.contract
    UNION ALL SELECT 'slot', slot, concat_ws(',', relation, key_columns, key_numbers, view_columns, view_numbers,
        current_view) FROM pgvmig.slot
    UNION ALL SELECT 'route', slot, concat_ws(',', relation, version_id, percent) FROM pgvmig.route
    UNION ALL SELECT 'event', to_char(row_number() OVER (ORDER BY event_id), '00'),
        concat_ws(',', source, verb, version, from_state, to_state, revision, reason)
    FROM pgvmig.event WHERE verb <> 'index'
    UNION ALL SELECT 'revision', version_num, '' FROM alembic_version
    ORDER BY 1, 2, 3
"""


@pytest.fixture
def apply(database):
    """Run a script with psql as a DBA does: stop at the first error."""

    def run(script):
        psql = embedded._package(18) / "pginstall18" / "bin" / "psql"
        done = subprocess.run(
            [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={database.dsn}"],
            input=script, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_script_makes_the_same_database(server, database, apply):
    apply(Project(None).sql("head"))
    # a script knows no rows, so it leaves the index to `pgvmig index`; online the table is seen to be empty
    indexing.build(ConnectionRunner(database.connect()), address("documents", "v2"))
    offline = database.connect().execute(CATALOG).fetchall()
    with server.database() as other:
        Project(other.url).upgrade("head")
        online = other.connect().execute(CATALOG).fetchall()
    assert offline == online
    assert ("version", "v2") in [row[:2] for row in online]


def test_step_by_step_with_rows_between(database, apply):
    """The scripts of single steps, as a DBA applies them while the backfill runs in between."""
    project, connection = Project(None), database.connect()
    apply(project.sql("0003"))
    connection.execute("INSERT INTO documents (title, body) SELECT 't', 'b' || i FROM generate_series(1, 20) AS i")
    make_ready(connection, "v1", apply)
    apply(project.sql("0003:0004"))
    assert connection.execute("SELECT embedding_space, count(*) FROM documents_current GROUP BY 1").fetchall() == [
        ("v1", 20)
    ]
    apply(project.sql("0004:0005"))
    make_ready(connection, "v2", apply)
    apply(project.sql("0005:0006"))
    assert connection.execute("SELECT embedding_space, count(*) FROM documents_current GROUP BY 1").fetchall() == [
        ("v2", 20)
    ]
    apply(project.sql("0006:0005"))
    assert connection.execute("SELECT embedding_space, count(*) FROM documents_current GROUP BY 1").fetchall() == [
        ("v1", 20)
    ]


def make_ready(connection, version, apply):
    """Do what the worker, `pgvmig index` and `pgvmig verify` do; the switch's script asks for each."""
    where, steps = address("documents", version), {"v1": "0003:0004", "v2": "0005:0006"}
    cut_over = Project(None).sql(steps[version])
    with pytest.raises(AssertionError, match=f"documents {version} is not ready: 20 of 20 rows have no vector"):
        apply(cut_over)
    embed(connection, find(connection, where))
    with pytest.raises(AssertionError, match=f"documents {version} is not ready: .*index"):
        apply(cut_over)
    indexing.build(ConnectionRunner(connection), where)
    with pytest.raises(AssertionError, match=f"documents {version} is not ready: nobody has verified"):
        apply(cut_over)
    prove(connection, find(connection, where))


def test_the_script_of_the_way_down_leaves_nothing(database, apply):
    project, connection = Project(None), database.connect()
    for _ in range(2):
        apply(project.sql("head"))
        apply(project.sql("head:base"))
        left = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^alembic'"
        assert connection.execute(left).fetchall() == []
        assert connection.execute("SELECT to_regnamespace('pgvmig')").fetchone() == (None,)
        connection.execute("DROP TABLE IF EXISTS alembic_version")  # Alembic's own


def test_the_way_down_destroys_nothing_by_accident(database, apply):
    project, connection = Project(None), database.connect()
    apply(project.sql("0003"))
    connection.execute("INSERT INTO documents (title, body) VALUES ('t', 'b')")
    embed(connection, find(connection, address("documents", "v1")))
    with pytest.raises(AssertionError, match="documents v1 has vectors, its index is not dropped"):
        apply(project.sql("0003:base"))
    with pytest.raises(AssertionError, match="pgvmig still looks after documents v1"):
        apply(project.sql("0001:base"))
    assert connection.execute("SELECT count(embedding_v1) FROM documents").fetchone() == (1,)
    apply(project.sql("0003:base", "pgvmig_drop=documents.v1"))
    assert connection.execute("SELECT to_regclass('documents')").fetchone() == (None,)


@pytest.fixture(scope="module")
def script():
    return Project(None).sql("head")


@pytest.fixture
def index_script(tmp_path):
    """The script of a project that builds its index in a revision of its own."""
    project = OwnProject(None, tmp_path / "migrations")
    project.revision('op.add_embedding("documents", "v1", CONTRACT, columns=["id", "body"], key=["id"])')
    project.revision('op.index_embedding("documents", "v1")')
    return project.sql("head")


LITERAL = [
    "CREATE SCHEMA pgvmig;",
    'LOCK TABLE "documents" IN ACCESS EXCLUSIVE MODE',
    'ALTER TABLE "documents"\n    ADD COLUMN "embedding_v2_embedded_at" timestamptz',
    'ADD COLUMN "embedding_v2" "vector"(384)',
    'CREATE VIEW "documents_v2" WITH (security_invoker = true) AS\nSELECT d."id",\n    d."title",',
    '"d"."embedding_v2"::"vector" AS "embedding",\n    \'v2\'::text AS "embedding_space",\n    \'all-Mini',
    '-- CREATE INDEX CONCURRENTLY IF NOT EXISTS "documents_embedding_v2_hnsw" ON "documents"\n--     USING hnsw (',
    'USING hnsw ("embedding_v2" "vector_cosine_ops");',
    "SELECT pgvmig.plan_index('\"documents\"', 'v2', '{\"method\": \"hnsw\"",
    "\"cut_over\"('\"documents\"', 'v2'",
    'DROP INDEX CONCURRENTLY IF EXISTS "documents_embedding_v1_hnsw";',
    "SELECT pgvmig.begin_retire('\"documents\"', 'v1'",
    "SELECT pgvmig.finish_retire('\"documents\"', 'v1'",
    "INSERT INTO alembic_version",
]  # fmt: skip


@pytest.mark.parametrize("text", LITERAL)
def test_people_and_linters_find_the_statements(script, text):
    assert text in script


def test_the_index_step_says_what_it_does(index_script):
    assert 'CREATE INDEX CONCURRENTLY IF NOT EXISTS "documents_embedding_v1_hnsw" ON "documents"\n' in index_script
    assert 'ALTER TABLE "documents" VALIDATE CONSTRAINT "documents_embedding_v1_whole";' in index_script


def test_every_step_says_what_it_is(script):
    notes = re.findall(r"^-- pgvmig: (.*)$", script, re.MULTILINE)
    assert [re.match(r"(add|the index|cut|retire)", note)[1] for note in notes] == [
        "add", "the index", "cut", "add", "the index", "cut", "retire",
    ]  # fmt: skip
    assert "-- pgvmig: add documents v2 (all-MiniLM-L6-v2, 384 dimensions, cosine)" in script


def test_what_is_concurrent_stands_outside_transactions(script, index_script):
    found = 0
    for text in (script, index_script):
        for match in re.finditer("^(CREATE|DROP) INDEX CONCURRENTLY", text, re.MULTILINE):
            before = re.findall(r"^(BEGIN|COMMIT);", text[: match.start()], re.MULTILINE)
            assert before[-1] == "COMMIT"
            found += 1
    assert found >= 2


def test_events_of_a_script_carry_their_revision(database, apply):
    apply(Project(None).sql("head"))
    events = database.connect().execute("SELECT DISTINCT source, revision FROM pgvmig.event ORDER BY 2").fetchall()
    assert events == [("alembic", number) for number in ("0003", "0004", "0005", "0006", "0007")]


@pytest.mark.parametrize("missing", ["columns", "key"])
def test_what_a_catalog_would_say_must_be_written_down(tmp_path, missing):
    project = OwnProject(None, tmp_path / "migrations")
    given = {"columns": '["id", "body"]', "key": '["id"]'}
    del given[missing]
    literals = ", ".join(f"{name}={value}" for name, value in given.items())
    project.revision(f'op.add_embedding("documents", "v1", CONTRACT, {literals})')
    with pytest.raises(UsageError) as error:
        project.sql("head")
    assert str(error.value) == (
        "documents v1: offline SQL cannot ask the catalog for the table's columns and key. "
        "Next: write columns=[...] and key=[...] into the operation"
    )


def test_an_index_needs_the_revision_that_adds_its_version(tmp_path):
    project = OwnProject(None, tmp_path / "migrations")
    project.revision("pass")
    project.revision('op.index_embedding("documents", "v2")')
    with pytest.raises(UsageError) as error:
        project.sql("r1:r2")
    assert str(error.value) == (
        "documents v2: offline SQL knows a version only from the revision that adds it. "
        "Next: begin the range with that revision: alembic upgrade <the one before it>:head --sql; where the database "
        "has it, after_backfill=True records the index, and pgvmig index builds it"
    )


def test_a_column_that_the_views_would_hide_is_found_when_the_script_runs(database, apply, tmp_path):
    database.connect().execute("CREATE TABLE documents (id int PRIMARY KEY, body text, embedding vector(8))")
    project = OwnProject(None, tmp_path / "migrations")
    project.revision("op.install_pgvmig()")
    project.revision('op.add_embedding("documents", "v1", CONTRACT, columns=["id", "body", "embedding"], key=["id"])')
    with pytest.raises(AssertionError, match="column embedding, which is what the views call the vector"):
        apply(project.sql("head"))


def test_other_operations_offline(database, apply, tmp_path):
    """Adoption, a schema, a refresh, force and a way down without an index step: what the demo has not."""
    project = OwnProject(None, tmp_path / "migrations")
    contract = '{**CONTRACT, "input": "body || \' 100 % it\'\'s :x\'", "model": "a\\\\b"}'
    project.revision("op.install_pgvmig()", "op.uninstall_pgvmig()")
    project.revision(
        f'op.adopt_embedding("notes", "v1", "vec", {contract}, schema="App", columns=["id", "body"], key=["id"])',
        'op.release_embedding("notes", "v1", schema="App")',
    )
    project.revision(
        'op.index_embedding("notes", "v1", options={"m": 8}, schema="App")',
        'op.drop_embedding_index("notes", "v1", schema="App")',
    )
    project.revision('op.refresh_embedding_views("notes", schema="App")')
    project.revision(
        'op.add_embedding("notes", "v2", CONTRACT, schema="App", columns=["id", "body"], key=["id"])',
        'op.drop_embedding("notes", "v2", schema="App")',
    )
    project.revision(
        'op.cut_over_embedding("notes", "v2", schema="App", force="coverage,index,'
        + ",".join(EVIDENCE)
        + ": a drill, it's 100 %\")",
        'op.roll_back_embedding("notes", "v2", schema="App")',
    )
    connection = database.connect()
    connection.execute('CREATE SCHEMA "App"')
    connection.execute('CREATE TABLE "App".notes (id int PRIMARY KEY, body text, vec vector(8))')
    connection.execute("INSERT INTO \"App\".notes VALUES (1, 'one', '[1,0,0,0,0,0,0,0]')")
    apply(project.sql("head"))
    states = "SELECT version, state, writer FROM pgvmig.version ORDER BY 1"
    assert connection.execute(states).fetchall() == [("v1", "retained", "worker"), ("v2", "active", "worker")]
    assert connection.execute("SELECT DISTINCT reason FROM pgvmig.event WHERE reason <> ''").fetchall() == [
        ("a drill, it's 100 %",)
    ]
    assert connection.execute('SELECT pgvmig."App_notes_v1_input"(d) FROM "App".notes d').fetchone() == (
        "one 100 % it's :x",
    )
    apply(project.sql("head:base", "pgvmig_drop_index=App.notes.v1"))
    assert connection.execute('SELECT id, body, vec FROM "App".notes').fetchone() == (1, "one", "[1,0,0,0,0,0,0,0]")
    assert connection.execute("SELECT to_regnamespace('pgvmig')").fetchone() == (None,)

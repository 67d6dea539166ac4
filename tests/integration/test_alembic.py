"""The demo's revisions: every operation with its downgrade, forwards, back and forwards again."""

import shutil

import psycopg
import pytest
from lifecycle import embed, find, prove, retire, stale
from migrating import Project

from pgvmig import indexing, switch
from pgvmig.address import address
from pgvmig.catalog import standbys
from pgvmig.errors import GateError, IllegalTransitionError
from pgvmig.runner import ConnectionRunner

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.bare]

V1, V2 = address("documents", "v1"), address("documents", "v2")
AT_ONCE = "pgvmig_soak=documents.v1:0s"


@pytest.fixture
def project(database):
    return Project(database.url)


@pytest.fixture
def connection(database):
    return database.connect()


def build_index(connection, where):
    """Do what `pgvmig index` does."""
    return indexing.build(ConnectionRunner(connection), where)


def make_ready(connection, where):
    """Do what the worker, `pgvmig index` and `pgvmig verify` do."""
    embed(connection, find(connection, where))
    build_index(connection, where)
    prove(connection, find(connection, where))


@pytest.fixture
def documents(project, connection):
    """The table with 20 rows, before any version."""
    project.upgrade("0002")
    standbys.none(connection)
    connection.execute("INSERT INTO documents (title, body) SELECT 't' || i, 'b' || i FROM generate_series(1, 20) AS i")


@pytest.fixture
def v1(project, connection, documents):
    """v1 active, indexed, complete."""
    project.upgrade("0003")
    make_ready(connection, V1)
    project.upgrade("0004")


@pytest.fixture
def v2(project, connection, v1):
    """v2 indexed and complete beside it."""
    project.upgrade("0005")
    make_ready(connection, V2)


def states(connection):
    return dict(connection.execute("SELECT version, state FROM pgvmig.version ORDER BY version").fetchall())


def shown(connection):
    """What the current view shows: version and number of rows, and the route to it."""
    view = "SELECT embedding_space, count(*) FROM documents_current GROUP BY 1"
    return connection.execute(view).fetchone(), connection.execute("SELECT pgvmig.route('documents', '1')").fetchone()


def revision(connection):
    return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def exists(connection, name):
    return connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()[0]


def test_an_empty_database_goes_all_the_way_up_and_down_and_up(project, connection):
    for _ in range(2):
        project.upgrade("head")
        assert states(connection) == {"v1": "retired", "v2": "active"}
        project.downgrade("base")
        left = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        assert connection.execute(left).fetchall() == [("alembic_version",), ("alembic_version_pkc",)]
        assert not exists(connection, "pgvmig.version")
    project.upgrade("head")


def test_every_revision_can_be_taken_back_and_done_again(project, connection):
    """On an empty table; with rows each step is tested below."""
    for number in range(1, 8):
        project.upgrade(f"{number:04}")
        project.downgrade("-1")
        project.upgrade(f"{number:04}")
    assert states(connection) == {"v1": "retired", "v2": "active"}


def test_adding_and_dropping(project, connection, documents):
    columns = (
        "SELECT attname FROM pg_attribute WHERE attrelid = 'documents'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    before = connection.execute(columns).fetchall()
    for _ in range(2):
        project.upgrade("0003")
        assert states(connection) == {"v1": "added"}
        assert exists(connection, "documents_v1")
        connection.execute("INSERT INTO documents (title, body) VALUES ('new', 'new')")
        assert len(stale(connection, find(connection, V1))) == 1
        project.downgrade("0002")
        assert (states(connection), exists(connection, "documents_v1")) == ({}, False)
        assert connection.execute(columns).fetchall() == before
        connection.execute("INSERT INTO documents (title, body) VALUES ('new', 'new')")


def test_the_index_is_recorded_and_built_after_the_backfill(project, connection, documents):
    for _ in range(2):
        project.upgrade("0003")
        assert connection.execute("SELECT index_plan ->> 'method' FROM pgvmig.version").fetchone() == ("hnsw",)
        assert not exists(connection, "documents_embedding_v1_hnsw")
        embed(connection, find(connection, V1))
        assert build_index(connection, V1)
        assert exists(connection, "documents_embedding_v1_hnsw")
        project.downgrade("0002", "pgvmig_drop=documents.v1")
        assert not exists(connection, "documents_embedding_v1_hnsw")


def test_building_the_index_validates_the_check(project, connection, v1):
    checks = "SELECT conname, convalidated FROM pg_constraint WHERE conrelid = 'documents'::regclass AND contype = 'c'"
    assert connection.execute(checks).fetchall() == [("documents_embedding_v1_whole", True)]


def test_the_first_cutover_and_its_downgrade(project, connection, v1):
    assert shown(connection) == (("v1", 20), ("v1",))
    project.downgrade("-1")
    assert states(connection) == {"v1": "ready"}
    assert not exists(connection, "documents_current")
    project.upgrade("+1")
    assert shown(connection) == (("v1", 20), ("v1",))


def test_downgrading_the_cutover_is_the_rollback(project, connection, v2):
    for _ in range(2):
        project.upgrade("0006")
        assert states(connection) == {"v1": "retained", "v2": "active"}
        assert shown(connection) == (("v2", 20), ("v2",))
        project.downgrade("-1")
        assert states(connection) == {"v1": "active", "v2": "retained"}
        assert shown(connection) == (("v1", 20), ("v1",))
        # the version that was left is kept fresh
        connection.execute("UPDATE documents SET body = body || '!' WHERE id = 1")
        queues = [stale(connection, find(connection, where)) for where in (V1, V2)]
        assert queues == [[1], [1]]
        for where in (V1, V2):
            embed(connection, find(connection, where))


def test_retiring_and_adding_again(project, connection, v2):
    project.upgrade("0007", AT_ONCE)
    assert states(connection) == {"v1": "retired", "v2": "active"}
    for name in ("documents_v1", "documents_embedding_v1_hnsw", "pgvmig.documents_v1_stale"):
        assert not exists(connection, name)
    assert shown(connection) == (("v2", 20), ("v2",))
    project.downgrade("-1")
    assert states(connection) == {"v1": "added", "v2": "active"}
    assert connection.execute("SELECT count(*), count(embedding_v1) FROM documents").fetchone() == (20, 0)
    project.upgrade("+1")
    assert states(connection) == {"v1": "retired", "v2": "active"}


def test_a_rollback_to_what_was_retired_is_refused(project, connection, v2):
    project.upgrade("0007", AT_ONCE)
    with pytest.raises(IllegalTransitionError) as error:
        switch.roll_back(ConnectionRunner(connection), V2)
    assert str(error.value) == (
        "documents v2 cannot be rolled back: the version before it is retired. "
        "Next: add it again as a new version, backfill it and cut over to it"
    )
    project.downgrade("0006")  # added again, and empty
    with pytest.raises(GateError, match=r"documents v1 is not ready: 20 of 20 rows have no vector\."):
        project.downgrade("0005")
    assert (revision(connection), shown(connection)) == ("0006", (("v2", 20), ("v2",)))


def test_a_failed_gate_says_what_is_missing_and_keeps_what_came_before(project, connection, v1):
    connection.execute("INSERT INTO documents (title, body) SELECT 't', 'b' FROM generate_series(21, 1000)")
    embed(connection, find(connection, V1))
    project.upgrade("0005")
    embed(connection, find(connection, V2), "id <= 412")
    indexing.build(ConnectionRunner(connection), V2, early=True)
    with pytest.raises(GateError) as error:
        project.upgrade("head")
    assert str(error.value) == (
        "documents v2 is not ready: 588 of 1,000 rows have no vector. Next: pgvmig backfill documents v2"
    )
    assert (revision(connection), states(connection)) == ("0005", {"v1": "active", "v2": "added"})
    assert exists(connection, "documents_embedding_v2_hnsw")
    assert shown(connection) == (("v1", 1000), ("v1",))


def test_a_cutover_asks_for_what_verify_found(project, connection, v1):
    project.upgrade("0005")
    embed(connection, find(connection, V2))
    build_index(connection, V2)
    with pytest.raises(GateError) as error:
        project.upgrade("0006")
    assert str(error.value) == (
        "documents v2 is not ready: nobody has verified that the vectors are of their rows' texts yet. "
        "Next: pgvmig verify documents v2"
    )
    assert (revision(connection), states(connection)) == ("0005", {"v1": "active", "v2": "added"})


@pytest.fixture
def index_step(project, tmp_path, connection, v1):
    """The project as it is before the second cutover, with a revision that builds the index there and then."""
    folder = tmp_path / "migrations"
    shutil.copytree(project.folder, folder)
    for later in ("0006", "0007"):
        next((folder / "versions").glob(f"{later}_*")).unlink()
    (folder / "versions" / "0006_index.py").write_text(
        "from alembic import op\n\nrevision, down_revision = '0006', '0005'\n\n\n"
        "def upgrade():\n    op.index_embedding('documents', 'v2')\n\n\n"
        "def downgrade():\n    op.drop_embedding_index('documents', 'v2')\n"
    )
    project.upgrade("0005")
    return Project(project.url, folder)


def test_an_index_waits_for_its_backfill(index_step, connection):
    embed(connection, find(connection, V2), "id > 3")
    for told in ((), ("pgvmig_early_index=documents.v1",), ("pgvmig_early_index=v2",)):
        with pytest.raises(GateError) as error:
            index_step.upgrade("0006", *told)
        assert str(error.value) == (
            "documents v2 is not ready for its index: 3 of 20 rows have no vector. Next: pgvmig backfill documents v2"
        )
    assert not exists(connection, "documents_embedding_v2_hnsw")
    for _ in range(2):
        index_step.upgrade("0006", "pgvmig_early_index=documents.v2")
        assert exists(connection, "documents_embedding_v2_hnsw")
        index_step.downgrade("0005", "pgvmig_drop_index=documents.v2")
        assert not exists(connection, "documents_embedding_v2_hnsw")


def test_a_tenth_may_be_missing_when_the_index_is_built(index_step, connection):
    embed(connection, find(connection, V2), "id > 2")
    index_step.upgrade("0006")


def test_events_carry_the_revision(project, connection, v2):
    project.upgrade("head", AT_ONCE)
    events = connection.execute(
        "SELECT revision, source, verb, version, from_state, to_state FROM pgvmig.event "
        "WHERE to_state IS NOT NULL ORDER BY event_id"
    ).fetchall()
    assert events == [
        ("0003", "alembic", "add", "v1", None, "added"),
        ("0004", "alembic", "cut over", "v1", "added", "ready"),
        ("0004", "alembic", "cut over", "v1", "ready", "active"),
        ("0005", "alembic", "add", "v2", None, "added"),
        ("0006", "alembic", "cut over", "v1", "active", "retained"),
        ("0006", "alembic", "cut over", "v2", "added", "ready"),
        ("0006", "alembic", "cut over", "v2", "ready", "active"),
        ("0007", "alembic", "retire", "v1", "retained", "retired"),
    ]


def test_operations_whose_state_holds_do_nothing(project, connection, v2):
    """The command line got there first; Alembic catches up, and the other way round."""
    run = ConnectionRunner(connection, "cli")
    switch.cut_over(run, V2)
    project.upgrade("0006")
    assert (revision(connection), states(connection)) == ("0006", {"v1": "retained", "v2": "active"})
    switch.roll_back(run, V2)
    project.downgrade("0005")
    assert (revision(connection), states(connection)) == ("0005", {"v1": "active", "v2": "retained"})
    project.upgrade("0006")
    assert switch.cut_over(run, V2) == {"changed": False, "version": "v2"}
    assert switch.roll_back(run, V1) == {"changed": False, "version": "v2"}
    retire(run, V1)
    project.upgrade("0007", AT_ONCE)
    assert retire(run, V1) == {"changed": False, "version": "v1"}
    project.downgrade("0006")
    connection.execute("UPDATE alembic_version SET version_num = '0007'")
    project.downgrade("0006")
    assert states(connection) == {"v1": "added", "v2": "active"}


def test_an_index_that_is_there_is_not_built_again(index_step, connection):
    embed(connection, find(connection, V2))
    assert build_index(connection, V2)
    before = connection.execute("SELECT 'documents_embedding_v2_hnsw'::regclass::oid").fetchone()
    index_step.upgrade("0006")
    assert connection.execute("SELECT 'documents_embedding_v2_hnsw'::regclass::oid").fetchone() == before
    assert not build_index(connection, V2)


def test_what_an_interrupted_build_left_is_built_again(database, index_step, connection):
    """A snapshot of before the build holds it up; then it is cancelled."""
    embed(connection, find(connection, V2))
    reader = database.connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM documents")
    connection.execute("SET statement_timeout = '500ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(
            "CREATE INDEX CONCURRENTLY documents_embedding_v2_hnsw ON documents "
            "USING hnsw (embedding_v2 vector_cosine_ops)"
        )
    reader.execute("ROLLBACK")
    connection.execute("RESET statement_timeout")
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'documents_embedding_v2_hnsw'::regclass"
    assert connection.execute(valid).fetchone() == (False,)
    index_step.upgrade("0006")
    assert connection.execute(valid).fetchone() == (True,)

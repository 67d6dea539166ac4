"""The operations in users' own Alembic environments: env.py, version table, schema and revisions of their own."""

import importlib.util

import pytest
from lifecycle import CONTRACT, add_version, embed, find, install, stale
from migrating import OwnProject

from pgvmig.address import address
from pgvmig.catalog import standbys
from pgvmig.errors import ConfigError, GateError, SchemaVersionError

pytestmark = pytest.mark.bare

V1 = address("documents", "v1")

ADD = 'op.add_embedding("documents", "v1", CONTRACT)', 'op.drop_embedding("documents", "v1")'
TABLE = (
    'op.create_table("documents", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text))',
    'op.drop_table("documents")',
)
INSTALL = "op.install_pgvmig()", "op.uninstall_pgvmig()"

ASYNC_ENV = """
import asyncio
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    context.configure(connection=connection, version_table="my_revisions", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)

asyncio.run(main())
"""


@pytest.fixture
def project(database, tmp_path):
    project = OwnProject(database.url, tmp_path / "migrations")
    project.revision(*TABLE)
    project.revision(*INSTALL)
    return project


@pytest.fixture
def connection(database):
    return database.connect()


def states(connection):
    return connection.execute("SELECT version, state FROM pgvmig.version ORDER BY version").fetchall()


def whole_path(project):
    """Add the revisions of a whole path to a project that has a table and the control schema."""
    project.revision(*ADD)
    project.revision('op.index_embedding("documents", "v1")', 'op.drop_embedding_index("documents", "v1")')
    project.revision('op.cut_over_embedding("documents", "v1")', 'op.roll_back_embedding("documents", "v1")')


def test_a_whole_path_in_an_environment_of_ones_own(project, connection):
    whole_path(project)
    for _ in range(2):
        project.upgrade("head")
        assert states(connection) == [("v1", "active")]
        assert connection.execute("SELECT version_num FROM my_revisions").fetchall() == [("r5",)]
        project.downgrade("base")
        assert connection.execute("SELECT to_regclass('documents'), to_regnamespace('pgvmig')").fetchone() == (
            None,
            None,
        )


@pytest.mark.skipif(
    importlib.util.find_spec("greenlet") is None, reason="SQLAlchemy's asyncio needs greenlet, which is not installed"
)
@pytest.mark.parametrize("driver", ["psycopg_async", "asyncpg"])
def test_an_asynchronous_environment(database, tmp_path, driver):
    if driver == "asyncpg":
        pytest.importorskip("asyncpg")
    url = database.url.replace("postgresql+psycopg", f"postgresql+{driver}")
    project = OwnProject(url, tmp_path / "migrations", env=ASYNC_ENV)
    project.revision(*TABLE)
    project.revision(*INSTALL)
    whole_path(project)
    project.upgrade("head")
    assert states(database.connect()) == [("v1", "active")]
    project.downgrade("r4")
    standbys.none(database.connect())
    database.connect().execute("INSERT INTO documents (id, body) VALUES (1, 'one')")
    with pytest.raises(GateError) as error:
        project.upgrade("head")
    assert str(error.value) == (
        "documents v1 is not ready: 1 of 1 rows have no vector. Next: pgvmig backfill documents v1"
    )


OPERATIONS = [
    "op.install_pgvmig()",
    "op.upgrade_pgvmig(1)",
    "op.uninstall_pgvmig()",
    ADD[0],
    ADD[1],
    'op.adopt_embedding("documents", "v1", "body", CONTRACT)',
    'op.release_embedding("documents", "v1")',
    'op.index_embedding("documents", "v1")',
    'op.drop_embedding_index("documents", "v1")',
    'op.cut_over_embedding("documents", "v1")',
    'op.roll_back_embedding("documents", "v1")',
    'op.retire_embedding("documents", "v1")',
    'op.refresh_embedding_views("documents")',
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_transaction_for_all_revisions_is_refused(database, tmp_path, operation):
    project = OwnProject(database.url, tmp_path / "migrations", options="")
    project.revision(operation)
    with pytest.raises(ConfigError) as error:
        project.upgrade("head")
    assert str(error.value) == (
        "env.py runs all revisions in one transaction. A gate that fails in the last would undo the first, and a "
        "lock's retries would hold earlier locks. Next: context.configure(..., transaction_per_migration=True) in "
        "env.py"
    )


@pytest.mark.parametrize("operation", [operation for operation in OPERATIONS if "pgvmig(" not in operation])
def test_operations_need_the_control_schema(database, tmp_path, operation):
    project = OwnProject(database.url, tmp_path / "migrations")
    project.revision(operation)
    with pytest.raises(SchemaVersionError) as error:
        project.upgrade("head")
    assert str(error.value) == (
        "this database has no control schema (pgvmig). Next: pgvmig init, or op.install_pgvmig() in a revision"
    )


def test_operations_refuse_another_control_schema(project, connection):
    project.upgrade("head")
    connection.execute("UPDATE pgvmig.installation SET schema_version = 2")
    project.revision(*ADD)
    with pytest.raises(SchemaVersionError, match="the control schema is version 2, this pgvmig knows 1"):
        project.upgrade("head")
    assert states(connection) == []


def test_upgrading_the_control_schema_is_a_revision(project, connection):
    project.revision("op.upgrade_pgvmig(1)")
    project.upgrade("head")
    project.downgrade("-1")
    project.revision("op.upgrade_pgvmig(2)")
    with pytest.raises(SchemaVersionError, match="brings control schema version 1, 2 is asked for"):
        project.upgrade("head")


def test_a_revision_fails_as_a_whole(project, connection):
    project.revision(f"{ADD[0]}; op.execute('SELECT 1 / 0')")
    with pytest.raises(Exception, match="division by zero"):
        project.upgrade("head")
    assert states(connection) == []
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'documents'::regclass AND attnum > 0"
    assert connection.execute(columns).fetchone() == (2,)


def test_other_operations_of_the_same_revision_mean_what_they_say(project, connection):
    """A percent sign and a colon after ours, which goes to the driver without parameters."""
    project.revision(
        f"{ADD[0]}; op.execute(\"INSERT INTO documents VALUES (1, '100 %% of % and %(x)s')\"); "
        "op.execute(sa.text('INSERT INTO documents VALUES (2, :text)').bindparams(text='50 %')); "
        "op.bulk_insert(sa.table('documents', sa.column('id'), sa.column('body')), [{'id': 3, 'body': '%s'}])"
    )
    project.upgrade("head")
    bodies = connection.execute("SELECT array_agg(body ORDER BY id) FROM documents").fetchone()[0]
    assert bodies == ["100 %% of % and %(x)s", "50 %", "%s"]
    assert stale(connection, find(connection, V1)) == [1, 2, 3]


def test_texts_with_percent_signs_quotes_and_colons(project, connection):
    contract = {
        **CONTRACT,
        "input": "body || ' 100 % :x %(y)s it''s \\'",
        "model": "m%s:'x'\\",
        "query_prefix": '%"{x}',
    }
    project.revision(f'op.add_embedding("documents", "v1", {contract!r})', ADD[1])
    project.upgrade("head")
    assert find(connection, V1).definition == {**find(connection, V1).definition, **contract}
    connection.execute("INSERT INTO documents VALUES (1, 'x')")
    embed(connection, find(connection, V1))
    shown = connection.execute("SELECT embedding_model, embedding_space FROM documents_v1").fetchone()
    assert shown == ("m%s:'x'\\", "v1")
    assert connection.execute("SELECT pgvmig.documents_v1_input(d) FROM documents d").fetchone() == (
        "x 100 % :x %(y)s it's \\",
    )


def test_a_schema_and_a_slot(database, tmp_path):
    connection = database.connect()
    connection.execute('CREATE SCHEMA "App"')
    connection.execute('CREATE TABLE "App".notes (id int PRIMARY KEY, body text)')
    project = OwnProject(database.url, tmp_path / "migrations")
    project.revision(*INSTALL)
    which = '"notes", "v1", schema="App", slot="title"'
    project.revision(
        'op.add_embedding("notes", "v1", CONTRACT, schema="App", slot="title")', f"op.drop_embedding({which})"
    )
    project.revision(f"op.index_embedding({which})", f"op.drop_embedding_index({which})")
    project.revision(f"op.cut_over_embedding({which})", f"op.roll_back_embedding({which})")
    for _ in range(2):
        project.upgrade("head")
        assert connection.execute('SELECT count(*) FROM "App".notes_title_current').fetchone() == (0,)
        assert connection.execute(
            "SELECT view::text FROM pgvmig.active_space('\"App\".notes', 'title')"
        ).fetchone() == ('"App".notes_title_v1',)
        project.downgrade("r1")
        left = "SELECT relname FROM pg_class WHERE relnamespace = '\"App\"'::regnamespace AND relkind <> 'i'"
        assert connection.execute(left).fetchall() == [("notes",)]


def test_a_table_found_by_the_search_path(database, tmp_path):
    """The revision names no schema; messages and -x name the one in which the table was found."""
    connection = database.connect()
    install(connection)
    connection.execute("CREATE SCHEMA app")
    connection.execute("CREATE TABLE app.documents (id int PRIMARY KEY, body text)")
    connection.execute(f'ALTER DATABASE "{database.name}" SET search_path = app, public')
    project = OwnProject(database.url, tmp_path / "migrations")
    whole_path(project)
    project.upgrade("head")
    assert connection.execute(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 'documents_v1'"
    ).fetchone() == ("app",)
    project.downgrade("r1")
    connection.execute("INSERT INTO app.documents VALUES (1, 'one')")
    embed(connection, find(connection, V1))
    with pytest.raises(Exception, match=r"alembic -x pgvmig_drop=app\.documents\.v1 downgrade") as error:
        project.downgrade("base")
    assert type(error.value).__name__ == "DestructionRefusedError"
    project.downgrade("base", "pgvmig_drop=app.documents.v1")
    assert states(connection) == []


def test_columns_that_the_application_adds_are_shown_after_a_refresh(project, connection):
    whole_path(project)
    project.revision('op.add_column("documents", sa.Column("lang", sa.Text))')
    project.revision('op.refresh_embedding_views("documents")', 'op.refresh_embedding_views("documents")')
    project.upgrade("head")
    columns = """SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"""
    for view in ("documents_v1", "documents_current"):
        names = [name for (name,) in connection.execute(columns, [view])]
        assert (names[0], names[-2:]) == ("id", ["embedding_embedded_at", "lang"])
    project.downgrade("-1")
    assert len(connection.execute(columns, ["documents_current"]).fetchall()) == 9
    project.upgrade("+1")


def test_the_users_own_triggers_are_named(project, connection, caplog):
    project.upgrade("head")
    connection.execute("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    for name, when in (("audit", "AFTER UPDATE"), ("other", "BEFORE INSERT"), ("body", "BEFORE UPDATE OF body")):
        connection.execute(f"CREATE TRIGGER {name} {when} ON documents FOR EACH ROW EXECUTE FUNCTION touch()")
    project.revision(*ADD)
    with caplog.at_level("WARNING", logger="alembic.pgvmig"):
        project.upgrade("head")
    (message,) = [record.getMessage() for record in caplog.records if record.name == "alembic.pgvmig"]
    assert message == (
        "documents v1: every batch of the backfill fires your triggers audit (AFTER ROW, touch); see that they bear "
        'one update of every row, or use layout="table", which updates none. Next: pgvmig plan documents v1'
    )


def test_versions_added_elsewhere_are_found(project, connection):
    project.upgrade("head")
    add_version(connection, "documents", "v1")
    whole_path(project)
    project.upgrade("head")
    assert states(connection) == [("v1", "active")]

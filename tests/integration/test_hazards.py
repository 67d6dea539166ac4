"""What a version would do to others: subscribers that lack what is added, the user's own triggers."""

import subprocess

import pytest
from lifecycle import CONTRACT, add_version, adopt_version, embed, install
from migrating import OwnProject

from pgvmig import adding, embedded, hazards
from pgvmig.address import Table, address
from pgvmig.cli import cli, output
from pgvmig.errors import PublishedTableError
from pgvmig.runner import ConnectionRunner

V2 = address("documents", "v2")
ADD = 'op.add_embedding("documents", "v2", CONTRACT, columns=["id", "body"], key=["id"]{})'


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text, vec vector(8))")
    connection.execute("CREATE TABLE other (id int PRIMARY KEY)")
    connection.execute("INSERT INTO documents (id, body) SELECT i, 'text ' || i FROM generate_series(1, 10) AS i")
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection)


@pytest.fixture
def project(database, tmp_path, connection):
    return OwnProject(database.url, tmp_path / "migrations")


def columns(connection, table="documents"):
    found = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped", [table]
    )
    return [name for (name,) in found]


def refusal(project, connection, operation, *told):
    """Run a revision that must be refused, and return what it says; it has added nothing."""
    before = columns(connection)
    project.revision(operation)
    with pytest.raises(PublishedTableError) as error:
        project.upgrade("head", *told)
    assert columns(connection) == before
    assert connection.execute("SELECT to_regclass('documents_v2_vectors')").fetchone() == (None,)
    return str(error.value)


STOP = (
    "Subscribers lack the columns that documents v2 adds: at the next change they stop "
    '("is missing replicated column"), and their slots keep this server\'s WAL until its disk is full. '
)
NO_SIDE_TABLE = (
    "Subscribers lack the side table that documents v2 adds: at the next change they stop "
    '("target relation does not exist"), and their slots keep this server\'s WAL until its disk is full. '
)
PREPARE = "prepare the subscribers (the same columns there), then alembic -x pgvmig_published=documents.v2 upgrade ..."
APART = 'Next: layout="table", whose side table is not published, or '
REFUSED = [
    (
        ["CREATE PUBLICATION docs FOR TABLE documents"],
        "column",
        "documents is published by docs without a column list. " + STOP + APART
        + "ALTER PUBLICATION docs SET TABLE public.documents (id, body, vec), or " + PREPARE,
    ),
    (
        [
            "CREATE PUBLICATION docs FOR TABLE documents WHERE (id > 3), other",
            "CREATE PUBLICATION b FOR TABLE documents",
        ],
        "column",
        "documents is published by b, docs without a column list. " + STOP + APART
        + "ALTER PUBLICATION b SET TABLE public.documents (id, body, vec); "
        "BEGIN; ALTER PUBLICATION docs DROP TABLE public.documents; "
        "ALTER PUBLICATION docs ADD TABLE public.documents (id, body, vec) WHERE ((id > 3)); COMMIT, or " + PREPARE,
    ),
    (
        ["CREATE PUBLICATION docs FOR TABLE documents", "ALTER TABLE documents REPLICA IDENTITY FULL"],
        "column",
        "documents is published by docs without a column list. " + STOP + APART + PREPARE,
    ),
    (
        ["CREATE PUBLICATION everything FOR ALL TABLES"],
        "column",
        "documents is published by everything (FOR ALL TABLES) without a column list. " + STOP
        + "Next: publish the tables by name instead, or " + PREPARE,
    ),
    (
        ["CREATE PUBLICATION everything FOR ALL TABLES"],
        "table",
        "documents is published by everything (FOR ALL TABLES) without a column list. " + NO_SIDE_TABLE
        + "Next: publish the tables by name instead, or " + PREPARE.replace("the same columns", "the same side table"),
    ),
    (
        ["CREATE PUBLICATION app FOR TABLES IN SCHEMA public"],
        "table",
        "documents is published by app (FOR TABLES IN SCHEMA) without a column list. " + NO_SIDE_TABLE
        + "Next: publish the tables by name instead, or " + PREPARE.replace("the same columns", "the same side table"),
    ),
]  # fmt: skip


@pytest.mark.majors(18, 16)
@pytest.mark.parametrize(("prepared", "layout", "message"), REFUSED, ids=[f"{a[-1]}, {b}" for a, b, _ in REFUSED])
def test_a_published_table_is_refused_until_somebody_decides(project, connection, prepared, layout, message):
    for statement in prepared:
        connection.execute(statement)
    assert refusal(project, connection, ADD.format(f', layout="{layout}"'), "pgvmig_published=documents.v3") == message
    project.upgrade("head", "pgvmig_published=documents.v2")
    assert connection.execute("SELECT layout FROM pgvmig.version").fetchall() == [(layout,)]


def test_the_side_table_of_a_table_published_by_name_is_nobodys_business(project, connection):
    connection.execute("CREATE PUBLICATION docs FOR TABLE documents")
    project.revision(ADD.format(', layout="table"'))
    project.upgrade("head")
    assert connection.execute("SELECT tablename FROM pg_publication_tables").fetchall() == [("documents",)]


@pytest.mark.majors(18, 16)
def test_the_column_list_that_the_message_proposes_is_enough(project, connection):
    connection.execute("CREATE PUBLICATION docs FOR TABLE documents, other")
    message = refusal(project, connection, ADD.format(""))
    (statements,) = [part for part in message.split(", or ") if part.startswith("BEGIN")]
    connection.execute(statements)
    project.upgrade("head")
    published = "SELECT tablename, attnames FROM pg_publication_tables ORDER BY 1"
    assert connection.execute(published).fetchall() == [("documents", ["id", "body", "vec"]), ("other", ["id"])]
    embed(connection, add_version(connection, "documents", "v3"))


def test_adoption_adds_columns_as_well(project, connection):
    connection.execute("CREATE PUBLICATION docs FOR TABLE documents")
    message = refusal(project, connection, 'op.adopt_embedding("documents", "v2", "vec", CONTRACT)')
    assert message.startswith("documents is published by docs without a column list. " + STOP)
    project.upgrade("head", "pgvmig_published=documents.v2")
    assert "vec_source_hash" in columns(connection)


def test_other_publications_hold_up_nobody(connection):
    connection.execute("CREATE PUBLICATION others FOR TABLE other")
    connection.execute("CREATE PUBLICATION listed FOR TABLE documents (id, body)")
    connection.execute("CREATE SCHEMA elsewhere")
    connection.execute("CREATE PUBLICATION schemas FOR TABLES IN SCHEMA elsewhere")
    assert add_version(connection, "documents", "v2").state == "added"


def test_a_script_asks_when_it_runs(database, connection, tmp_path):
    psql = embedded._package(18) / "pginstall18" / "bin" / "psql"

    def apply(script):
        command = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={database.dsn}"]
        return subprocess.run(command, input=script, capture_output=True, text=True, check=False)

    offline = OwnProject(None, tmp_path / "offline")
    offline.revision(ADD.format(""))
    connection.execute("CREATE PUBLICATION docs FOR TABLE documents")
    refused = apply(offline.sql("head"))
    assert refused.returncode != 0
    assert "documents is published by docs without a column list" in refused.stderr
    assert "pgvmig_published=documents.v2" in refused.stderr
    assert "embedding_v2" not in columns(connection)
    assert apply(offline.sql("head", "pgvmig_published=documents.v2")).returncode == 0
    assert "embedding_v2" in columns(connection)


TOUCH = "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
TRIGGERS = {
    "BEFORE UPDATE ON documents FOR EACH ROW": "t (BEFORE ROW, touch)",
    "AFTER INSERT OR UPDATE ON documents FOR EACH STATEMENT": "t (AFTER STATEMENT, touch)",
    "AFTER UPDATE ON documents FOR EACH ROW WHEN (old.body IS DISTINCT FROM new.body)":
        "t (AFTER ROW, touch, WHEN (old.body IS DISTINCT FROM new.body))",
    "BEFORE UPDATE OF vec ON documents FOR EACH ROW": "t (BEFORE ROW, touch)",
    "BEFORE UPDATE OF body ON documents FOR EACH ROW": None,
    "AFTER INSERT OR DELETE ON documents FOR EACH ROW": None,
}  # fmt: skip


@pytest.mark.majors(18, 16)
@pytest.mark.parametrize("definition", TRIGGERS)
def test_triggers_that_a_vectors_update_fires(connection, run, definition):
    connection.execute(TOUCH)
    connection.execute(f"CREATE TRIGGER t {definition} EXECUTE FUNCTION touch()")
    adopt_version(connection, "documents", "v1", "vec")  # its own triggers are not the user's
    found = hazards.triggers(run, Table(None, "documents"), ["vec"])
    assert [str(trigger) for trigger in found] == ([TRIGGERS[definition]] if TRIGGERS[definition] else [])


def test_triggers_that_do_not_fire_in_our_session(connection, run):
    connection.execute(TOUCH)
    connection.execute("CREATE TRIGGER t BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION touch()")
    found = {}
    for state in ("DISABLE", "ENABLE REPLICA", "ENABLE", "ENABLE ALWAYS"):
        connection.execute(f"ALTER TABLE documents {state} TRIGGER t")
        found[state] = len(hazards.triggers(run, Table(None, "documents")))
    assert found == {"DISABLE": 0, "ENABLE REPLICA": 0, "ENABLE": 1, "ENABLE ALWAYS": 1}


def test_rules_are_named_too(connection, run):
    connection.execute("CREATE RULE r AS ON UPDATE TO documents DO ALSO SELECT 1")
    assert [str(t) for t in hazards.triggers(run, Table(None, "documents"))] == ["r (INSTEAD STATEMENT, rule)"]


MIND = (
    "all_of_it (FOR ALL TABLES) publishes schema pgvmig too: subscribers that lack it stop at its first row. "
    "Next: pg_dump --schema=pgvmig --schema-only | psql SUBSCRIBER, or publish the tables by name"
)


@pytest.mark.bare
def test_installing_where_every_table_is_published(database, tmp_path, caplog, monkeypatch, capsys):
    connection = database.connect()
    connection.execute("CREATE PUBLICATION all_of_it FOR ALL TABLES")
    project = OwnProject(database.url, tmp_path / "migrations")
    project.revision("op.install_pgvmig()")
    with caplog.at_level("WARNING", logger="alembic.pgvmig"):
        project.upgrade("head")
    assert [record.getMessage() for record in caplog.records if record.name == "alembic.pgvmig"] == [MIND]
    connection.execute("DROP SCHEMA pgvmig CASCADE")
    monkeypatch.setattr("sys.argv", ["pgvmig", "init", "--dsn", database.dsn])
    assert output.run(cli) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Mind: {MIND}"


@pytest.mark.bare
def test_elsewhere_installing_is_quiet(database, tmp_path, caplog):
    project = OwnProject(database.url, tmp_path / "migrations")
    project.revision("op.install_pgvmig()")
    with caplog.at_level("WARNING", logger="alembic.pgvmig"):
        project.upgrade("head")
    assert [record.getMessage() for record in caplog.records if record.name == "alembic.pgvmig"] == []


def test_the_control_schema_can_be_written_where_every_table_is_published(connection, run):
    connection.execute("CREATE PUBLICATION all_of_it FOR ALL TABLES")
    with connection.transaction():
        adding.add(run, V2, CONTRACT, prepared=True)
    connection.execute("INSERT INTO pgvmig.pause (reason) VALUES ('a test')")
    assert connection.execute("DELETE FROM pgvmig.pause").rowcount == 1
    connection.execute("DELETE FROM documents WHERE id < 4")
    connection.execute("UPDATE documents SET body = 'another'")
    connection.execute("DELETE FROM pgvmig.documents_v2_stale")

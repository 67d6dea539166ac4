"""`pgvmig scaffold` in projects that `alembic init` made: two lines of revisions, of which one waits for nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle import embed, find, prove
from scaffolding import UserProject

from pgvmig import indexing, switch
from pgvmig.address import address
from pgvmig.catalog import standbys
from pgvmig.runner import ConnectionRunner

pytestmark = pytest.mark.bare

V1, V2 = address("documents", "v1"), address("documents", "v2")
DRIVERS = {"generic": "psycopg", "async": "psycopg_async", "pyproject": "psycopg", "pyproject_async": "asyncpg"}


@pytest.fixture
def project_of(database, tmp_path):
    """Run `alembic init` with a template, in a folder of its own."""

    def init(template="generic"):
        url = database.url.replace("+psycopg", f"+{DRIVERS[template]}")
        project = UserProject(tmp_path / template, url, template)
        project.folder.mkdir()
        project.init()
        return project

    return init


@pytest.fixture
def connection(database):
    return database.connect()


def states(connection):
    return dict(connection.execute("SELECT version, state FROM pgvmig.version ORDER BY version").fetchall())


def make_ready(connection, where):
    """Do what the worker, `pgvmig index` and `pgvmig verify` do."""
    embed(connection, find(connection, where))
    indexing.build(ConnectionRunner(connection), where)
    prove(connection, find(connection, where))


def fill_in(path, upgrade):
    path.write_text(path.read_text().replace("    pass", f"    {upgrade}", 1))


def operations(path):
    """Return the lines of a revision that call an operation."""
    return [line.strip() for line in Path(path).read_text().splitlines() if line.strip().startswith("op.")]


@pytest.mark.parametrize("template", ["generic", "async"])
def test_a_slow_backfill_blocks_nothing_but_its_own_cutover(project_of, server, connection, template):
    project = project_of(template)
    project.alembic("revision", "-m", "the application's first")
    assert project.scaffold()["deploy"] == "alembic upgrade main@head"
    project.alembic("upgrade", "main@head")
    project.alembic("revision", "--autogenerate", "-m", "documents")
    project.alembic("upgrade", "main@head")
    standbys.none(connection)
    connection.execute("INSERT INTO documents (body) SELECT 'b' || i FROM generate_series(1, 20) AS i")
    project.alembic("check")

    written = project.scaffold("cutover", "documents", "v1")
    assert operations(written["revision"]["path"]) == [
        "op.cut_over_embedding('documents', 'v1')",
        "op.roll_back_embedding('documents', 'v1')",
    ]
    assert written["apply"] == "alembic upgrade embeddings@head"
    fill_in(
        project.new_revision("unrelated", "--head", "main@head"),
        "op.execute(\"CREATE OR REPLACE FUNCTION unrelated() RETURNS int LANGUAGE sql AS 'SELECT 1'\")",
    )
    with pytest.raises(RuntimeError, match="Multiple head revisions are present for given argument 'head'"):
        project.alembic("upgrade", "head")
    for target in ("embeddings@head", "heads"):
        with pytest.raises(RuntimeError, match=r"documents v1 is not ready: 20 of 20 rows have no vector"):
            project.alembic("upgrade", target)
    project.alembic("upgrade", "main@head")
    assert connection.execute("SELECT unrelated()").fetchone() == (1,)
    assert states(connection) == {"v1": "added"}

    make_ready(connection, V1)
    project.alembic("upgrade", "embeddings@head")
    assert states(connection) == {"v1": "active"}
    project.alembic("check")
    project.alembic("downgrade", "embeddings@-1")
    assert states(connection) == {"v1": "ready"}
    project.alembic("upgrade", "heads")


def test_from_one_model_to_the_next(project_of, server, connection):
    """All of it on an empty table, where no gate asks for anything; then on databases that have nothing yet."""
    project = project_of()
    project.scaffold()
    project.alembic("upgrade", "main@head")
    project.alembic("revision", "--autogenerate", "-m", "v1")
    project.alembic("upgrade", "main@head")
    project.scaffold("cutover", "documents", "v1")
    project.alembic("upgrade", "heads")
    second_model(project)
    project.alembic("revision", "--autogenerate", "-m", "v2", "--head", "main@head")
    project.alembic("upgrade", "main@head")
    project.alembic("check")
    added, cut_over = [project.revision_of(name) for name in ("v2", "cut_over_documents_v1")]
    change_of_the_index(project)
    written = project.scaffold("cutover", "documents", "v2")
    assert (written["revision"]["depends_on"], written["revision"]["after"]) == (added, cut_over)
    project.alembic("upgrade", "embeddings@head")
    assert states(connection) == {"v1": "retained", "v2": "active"}
    project.alembic("downgrade", "embeddings@-1")
    assert states(connection) == {"v1": "active", "v2": "retained"}
    project.alembic("upgrade", "heads")

    retired = project.scaffold("retire", "documents", "v1")
    # a new database would have retired it else, before what the main line still says of it
    assert retired["revision"]["depends_on"] == project.revision_of("another_index_for_v1")
    project.alembic("upgrade", "embeddings@head")
    assert states(connection) == {"v1": "retired", "v2": "active"}
    project.alembic("check")
    project.alembic("downgrade", "embeddings@-1")
    assert states(connection) == {"v1": "added", "v2": "active"}
    assert find(connection, V1).contract.model == "hash"
    empty_databases_go_up_and_down(project, server)


def change_of_the_index(project):
    """Write a revision about v1 after the one that adds v2."""
    project.alembic("revision", "-m", "another index for v1", "--head", "main@head")
    (path,) = project.folder.rglob("*_another_index_for_v1.py")
    change = "op.index_embedding('documents', 'v1', options={'m': 8}, after_backfill=True)"
    path.write_text(path.read_text().replace("    pass", f"    {change}", 1))
    project.alembic("upgrade", "main@head")


def second_model(project):
    models = project.folder / "models.py"
    models.write_text(models.read_text().replace('model="hash"', 'model="other"'))


def empty_databases_go_up_and_down(project, server):
    """All revisions of both lines, without gates, as CI runs them."""
    with server.database() as other:
        fresh = UserProject(project.folder, other.url.replace("+psycopg", f"+{DRIVERS[project.template]}"))
        fresh.connect_there()
        for _ in range(2):
            fresh.alembic("upgrade", "heads")
            assert states(other.connect()) == {"v1": "retired", "v2": "active"}
            fresh.alembic("check")
            fresh.alembic("downgrade", "base")
            assert other.connect().execute("SELECT to_regnamespace('pgvmig')").fetchone() == (None,)


def test_a_retirement_has_the_contract_of_the_catalog(project_of, connection):
    """Whatever became of the revision that added it: names that need quotes, another layout, an index with options."""
    project = project_of()
    project.scaffold()
    project.alembic("upgrade", "main@head")
    connection.execute('CREATE SCHEMA "App"')
    connection.execute('CREATE TABLE "App"."Notizen" (id bigint PRIMARY KEY, "Größe" text)')
    fill_in(
        project.new_revision("add", "--head", "main@head"),
        "op.add_embedding('Notizen', 'v1', {'model': \"it's\", 'model_version': '1', 'dimensions': 2500, "
        "'input': '\"Größe\"', 'metric': 'l2'}, layout='table', schema='App', slot='text', search={'ef_search': 80}); "
        "op.index_embedding('Notizen', 'v1', options={'m': 8}, after_backfill=True, schema='App', slot='text')",
    )
    project.alembic("upgrade", "main@head")
    planned = project.scaffold("retire", "App.Notizen.text", "v1", "--dry-run")
    assert planned["revision"]["upgrade"] == "op.retire_embedding('Notizen', 'v1', schema='App', slot='text')"
    assert planned["revision"]["downgrade"] == (
        """\
op.add_embedding(
    'Notizen',
    'v1',
    {
        'model': "it's",
        'model_version': '1',
        'dimensions': 2500,
        'input': '"Größe"',
        'metric': 'l2',
        'vector_type': 'halfvec',
    },
    layout='table',
    columns=['id', 'Größe'],
    key=['id'],
    schema='App',
    slot='text',
    search={'ef_search': 80},
)
op.index_embedding(
    'Notizen',
    'v1',
    options={'m': 8},
    schema='App',
    slot='text',
    after_backfill=True,
)"""
    )
    project.scaffold("retire", "App.Notizen.text", "v1")
    project.alembic("upgrade", "heads")
    assert states(connection) == {"v1": "retired"}
    project.alembic("downgrade", "embeddings@-1")
    assert states(connection) == {"v1": "added"}
    assert connection.execute("SELECT search, index_plan ->> 'options' FROM pgvmig.version").fetchone() == (
        {"ef_search": 80},
        '{"m": 8}',
    )


def test_what_would_not_lead_where_the_database_is_is_refused(project_of, connection):
    project = project_of()
    project.scaffold()
    project.alembic("upgrade", "head")
    project.alembic("revision", "--autogenerate", "-m", "v1")
    project.alembic("upgrade", "head")
    switch.cut_over(ConnectionRunner(connection), V1)
    assert refusal(project, "retire", "documents", "v1") == (
        "documents v1 is active",
        "Whoever searches would find nothing",
        "cut over to the next version first: pgvmig scaffold cutover documents <version>",
    )
    second_model(project)
    project.alembic("revision", "--autogenerate", "-m", "v2")
    project.alembic("upgrade", "head")
    switch.cut_over(ConnectionRunner(connection), V2)
    assert refusal(project, "retire", "documents", "v1") == (
        "documents v2 is active, and no revision cuts over to it",
        "An empty database, made from the revisions, would have no active version",
        "pgvmig scaffold cutover documents v2; where it is active, that revision does nothing",
    )
    project.scaffold("cutover", "documents", "v2")
    project.scaffold("retire", "documents", "v1")
    project.alembic("upgrade", "heads")
    assert states(connection) == {"v1": "retired", "v2": "active"}
    assert refusal(project, "cutover", "documents", "v1") == (
        "documents v1 is retired",
        "It has no vectors that anybody could search",
        "add its contract as the next version: op.add_embedding() in a revision",
    )


def refusal(project, *arguments):
    with pytest.raises(RuntimeError) as error:
        project.scaffold(*arguments)
    found = json.loads(str(error.value))["error"]
    return found["found"], found["hazard"], found["next"]


@pytest.mark.parametrize("template", ["pyproject", "pyproject_async"])
def test_what_is_there_is_not_done_again(project_of, template):
    project = project_of(template)
    before = project.env.read_text()
    planned = project.scaffold("--dry-run")
    assert (planned["changed"], planned["dry_run"], planned["revision"]["path"]) == (True, True, None)
    assert (project.files(), project.env.read_text()) == ([], before)
    done = project.scaffold()
    assert done["env"]["diff"] == planned["env"]["diff"]
    assert (project.env.parent / "env.py.bak").read_text() == before
    assert done["revision"]["label"] == "main"
    again = project.scaffold()
    assert (again["changed"], again["revision"]["revision"]) == (False, done["revision"]["revision"])
    assert again["deploy"] == "alembic upgrade main@head"
    project.alembic("upgrade", "main@head")
    project.alembic("revision", "--autogenerate", "-m", "v1")
    project.alembic("upgrade", "head")
    written = project.scaffold("cutover", "documents", "v1")
    again = project.scaffold("cutover", "documents", "v1")
    assert (again["changed"], again["revision"]["path"]) == (False, written["revision"]["path"])
    assert f"There already: {written['revision']['revision']}" in project.pgvmig(
        "scaffold", "cutover", "documents", "v1"
    )
    assert project.alembic("upgrade", "heads") is not None


def test_what_it_says(project_of, connection):
    project = project_of()
    said = project.pgvmig("scaffold", "--dry-run")
    assert "+        transaction_per_migration=True," in said
    assert "env.py would be changed so." in said
    assert "Would be written: pgvmig control schema, after nothing\n    op.install_pgvmig(version=1)\n" in said
    said = project.pgvmig("scaffold")
    assert "Written; what it was is in" in said
    assert "Deploys run: alembic upgrade main@head\nNext: alembic upgrade main@head; declare an Embedding(...)" in said
    project.env.write_text(project.env.read_text().replace("models.metadata", "None"))
    assert "target_metadata in env.py is None: give it your models' metadata" in project.pgvmig("scaffold")
    project.alembic("upgrade", "head")
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    contract = "{'model': 'hash', 'model_version': '1', 'dimensions': 2500, 'input': 'body'}"
    fill_in(project.new_revision("v1"), f"op.add_embedding('documents', 'v1', {contract})")
    # what a revision says is seen with the logging of `alembic init`
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True)
    assert "INFO  [alembic.pgvmig] documents v1: " in done.stderr
    said = project.pgvmig("scaffold", "cutover", "documents", "v1")
    assert (
        "It begins the line embeddings. From now on `alembic upgrade head` is ambiguous; deploys run: alembic" in said
    )
    assert "Until then `alembic check` and --autogenerate refuse to compare." in said
    assert "documents v1 is added in this database. It will be refused until its gates pass: pgvmig verify" in said


def test_lines_that_the_project_has_already(project_of, connection):
    """A main line without a label that has the control schema, several heads, several folders for revisions."""
    project = project_of()
    (project.folder / "more").mkdir()
    project.configure("version_locations = %(here)s/migrations/versions:%(here)s/more", "path_separator = :")
    first = project.new_revision("first", "--version-path", str(project.folder / "more"), "--rev-id", "f1")
    fill_in(first, "op.install_pgvmig()")
    done = project.scaffold()
    assert (done["revision"]["revision"], done["deploy"]) == ("f1", "alembic upgrade f1@head")
    project.alembic("upgrade", "f1@head")
    project.alembic("revision", "--autogenerate", "-m", "v1", "--rev-id", "f2")
    project.alembic("upgrade", "head")
    project.alembic("revision", "-m", "another", "--rev-id", "f3", "--head", "f1", "--splice")
    with pytest.raises(RuntimeError) as error:
        project.scaffold("cutover", "documents", "v1")
    assert json.loads(str(error.value))["error"]["found"] in (
        "the main line has 2 heads: f2, f3",
        "the main line has 2 heads: f3, f2",
    )
    written = project.scaffold("cutover", "documents", "v1", "--head", "f2")
    assert written["revision"]["depends_on"] == "f2"
    assert written["revision"]["path"].startswith(str(project.folder / "more"))
    assert written["deploy"] == "alembic upgrade f1@head"
    project.alembic("upgrade", "heads")
    assert states(connection) == {"v1": "active"}


def test_no_project(database, tmp_path):
    project = UserProject(tmp_path, database.url)
    found, _, advice = refusal(project)
    assert found.startswith("Alembic finds no project here: No 'script_location' key found in configuration")
    assert advice == "alembic init migrations, or pgvmig scaffold --config path/to/alembic.ini"
    assert refusal(project, "--config", "nowhere.ini")[0] == "there is no nowhere.ini"
    project.init()
    (template,) = tmp_path.rglob("script.py.mako")
    template.unlink()
    found, _, advice = refusal(project)
    assert found == f"{template} is missing, from which Alembic writes revisions"
    assert advice == "take the one that `alembic init elsewhere` makes; then run this again"

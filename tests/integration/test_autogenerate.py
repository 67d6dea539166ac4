"""`alembic revision --autogenerate`: a changed declaration is a revision that goes up, down, up, and to SQL."""

import psycopg
import pytest
from declaring import ModelProject, body, calls, documents, embedding
from sqlalchemy import Column, Computed, MetaData, Table, Text

pytestmark = pytest.mark.bare

V1 = """\
op.add_embedding(
    'documents',
    'v1',
    {
        'model': 'hash',
        'model_version': '1',
        'dimensions': 8,
        'input': 'body',
        'provider': 'new',
    },
    columns=['id', 'title', 'body'],
    key=['id'],
)
op.index_embedding('documents', 'v1', after_backfill=True)"""


@pytest.fixture
def project(database, tmp_path):
    return ModelProject(database.url, tmp_path / "migrations", metadata=documents(embedding()))


@pytest.fixture
def connection(database):
    return database.connect()


def test_the_first_revision_of_all(project, connection):
    """Control schema, table and version in their order; the way back in the reverse one."""
    revision = project.autogenerate()
    up, down = body(revision), body(revision, "downgrade")
    assert up.startswith("op.install_pgvmig(version=1)\nop.create_table('documents',")
    assert up.endswith(V1)
    assert down.splitlines() == [
        "op.drop_embedding_index('documents', 'v1')",
        "op.drop_embedding('documents', 'v1')",
        "op.drop_table('documents')",
        "op.uninstall_pgvmig()",
    ]
    for _ in range(2):
        project.upgrade()
        project.check()
        project.downgrade("base")
    assert connection.execute("SELECT to_regclass('documents'), to_regnamespace('pgvmig')").fetchone() == (None, None)


def test_another_space_is_one_version(project):
    """Every key of the contract is in the unit tests; here is what only a database can mix up."""
    project.autogenerate()
    project.upgrade()
    for change, line in (
        ({"model": "other"}, "'model': 'other'"),
        ({"dimensions": 16}, "'dimensions': 16"),
        ({"query_prefix": "100 %s: "}, "'query_prefix': '100 %s: '"),
    ):
        found = project.difference(documents(embedding(**change)))
        assert found.calls == ["add_embedding", "index_embedding"]
        assert f"\n        {line},\n" in found.up
        assert found.down.splitlines() == [
            "op.drop_embedding_index('documents', 'v2')",
            "op.drop_embedding('documents', 'v2')",
        ]
    assert project.difference(documents(embedding())).calls == []


def test_the_script_is_made_from_what_the_revisions_say(project, database, connection):
    """Without a database, and with nothing but the literals; another database, made by the script, needs nothing."""
    project.autogenerate()
    project.upgrade()
    project.metadata = documents(
        embedding(model="other", layout="table", search={"ef_search": 90}, index_options={"m": 24}),
        Column("lang", Text),
    )
    project.autogenerate()
    project.upgrade()
    project.check()
    project.metadata = documents(embedding(model="third"), Column("lang", Text))
    third = project.autogenerate()
    assert "columns=['id', 'title', 'body', 'embedding', 'lang']," in body(third)
    script = ModelProject(None, project.folder.parent / "other")
    script.folder = project.folder
    text = script.sql()
    assert 'ADD COLUMN "embedding_v3" "vector"(8)' in text
    project.downgrade("base")
    connection.execute("DROP TABLE my_revisions")
    with psycopg.connect(database.dsn, autocommit=True) as fresh:
        fresh.execute(text)
    project.check()
    project.downgrade("base")


def test_index_and_search_settings_are_no_space(project, connection):
    project.autogenerate()
    project.upgrade()
    project.metadata = documents(embedding(index_options={"m": 24}, search={"ef_search": 90}))
    revision = project.autogenerate()
    assert body(revision).splitlines() == [
        "op.index_embedding('documents', 'v1', options={'m': 24}, after_backfill=True)",
        "op.set_embedding_search('documents', 'v1', {'ef_search': 90})",
    ]
    assert body(revision, "downgrade").splitlines() == [
        "op.set_embedding_search('documents', 'v1', {})",
        "op.index_embedding('documents', 'v1', after_backfill=True)",
    ]
    said = "SELECT index_plan -> 'options', search FROM pgvmig.version"
    for _ in range(2):
        project.upgrade()
        project.check()
        assert connection.execute(said).fetchone() == ({"m": 24}, {"ef_search": 90})
        project.downgrade("a1")
        assert connection.execute(said).fetchone() == ({}, {})


def test_a_column_of_the_same_revision_is_embedded_and_shown(project, connection):
    project.autogenerate()
    project.upgrade()
    project.metadata = documents(embedding(input="body || coalesce(lang, '')"), Column("lang", Text))
    revision = project.autogenerate()
    assert calls(body(revision)) == [
        "add_column",
        "refresh_embedding_views",
        "add_embedding",
        "index_embedding",
    ]
    for _ in range(2):
        project.upgrade()
        project.check()
        shown = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'documents_v2'::regclass AND attname = 'lang'"
        assert connection.execute(shown).fetchone() == (1,)
        project.downgrade("a1")


def test_a_column_that_the_views_were_not_to_show(project, connection):
    """Somebody chose what the views show; a new column is not added to it."""
    project.autogenerate()
    path = next((project.folder / "versions").glob("a1*.py"))
    path.write_text(path.read_text().replace("columns=['id', 'title', 'body']", "columns=['id', 'body']"))
    project.upgrade()
    project.metadata = documents(embedding(model="other"), Column("lang", Text))
    revision = project.autogenerate()
    assert "refresh" not in body(revision)
    assert "columns=['id', 'body']," in body(revision)
    project.upgrade()
    project.check()


def test_a_table_that_is_there_with_a_unique_key_and_a_generated_column(database, tmp_path):
    metadata = MetaData()
    Table("notes", metadata, Column("code", Text, nullable=False, unique=True), Column("body", Text), embedding())
    project = ModelProject(database.url, tmp_path / "migrations", metadata=metadata)
    shout = "shout text GENERATED ALWAYS AS (upper(body)) STORED"
    database.connect().execute(f"CREATE TABLE notes (code text NOT NULL UNIQUE, body text, {shout})")
    metadata.tables["notes"].append_column(Column("shout", Text, Computed("upper(body)", persisted=True)))
    assert "columns=['code', 'body', 'shout'],\n    key=['code']," in body(project.autogenerate())
    project.upgrade()
    project.check()

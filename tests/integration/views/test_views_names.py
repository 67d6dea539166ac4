"""What views and their columns are called, in whatever schema, slot and spelling."""

import psycopg
import pytest
from lifecycle import add_version
from psycopg import sql
from vectors import cut_over, write
from viewing import (
    ROW_1,
    V1,
    V2,
    VECTOR_COLUMNS,
    columns,
    definition,
    rendered_by_sql,
)

from pgvmig.errors import ConflictError
from pgvmig.names import current_view_name, fit, view_columns, view_name

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]


@pytest.mark.parametrize("name", VECTOR_COLUMNS)
def test_a_column_that_the_views_would_hide_is_refused(connection, name):
    connection.execute(sql.SQL("ALTER TABLE documents ADD COLUMN {} text").format(sql.Identifier(name)))
    with pytest.raises(ConflictError, match=f"documents has a column {name}") as caught:
        add_version(connection, "documents", "v1", V1)
    assert caught.value.hazard == "One of the two would be hidden"
    assert "documents_v1" not in [row[0] for row in connection.execute("SELECT relname FROM pg_class")]


def test_a_column_of_that_name_that_came_later_is_refused_as_well(connection, versions):
    connection.execute("ALTER TABLE documents ADD COLUMN embedding_space text")
    with pytest.raises(psycopg.Error, match="embedding_space"):
        connection.execute("SELECT pgvmig.refresh_views('documents')")
    assert list(columns(connection, "documents_current")) == ["id", "tenant", "title", "body", *VECTOR_COLUMNS]


@pytest.mark.parametrize("name", ["documents_v1", "documents_current"])
def test_a_view_of_that_name_that_is_not_ours_stays(connection, name):
    connection.execute(sql.SQL("CREATE VIEW {} AS SELECT 'mine' AS own").format(sql.Identifier(name)))

    def both():
        cut_over(connection, add_version(connection, "documents", "v1", V1))

    with pytest.raises(Exception, match=f'relation "{name}" already exists'):
        both()
    assert connection.execute(sql.SQL("SELECT own FROM {}").format(sql.Identifier(name))).fetchone() == ("mine",)
    assert connection.execute("SELECT count(*) FROM pgvmig.version WHERE state = 'active'").fetchone() == (0,)


@pytest.mark.parametrize("table", ["d" * 63, "ü" * 31, "d" * 60])
def test_long_names_are_cut_and_recorded(connection, table):
    connection.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, body text)").format(sql.Identifier(table)))
    v1, v2 = (add_version(connection, table, name, V2) for name in ("v1", "v2"))
    for version in (v1, v2):
        assert version.view_name == view_name(table, "embedding", version.version)
        assert len(version.view_name.encode()) <= 63
        cut_over(connection, version)
    assert v1.view_name != v2.view_name
    name = connection.execute(
        "SELECT c.relname FROM pgvmig.slot s JOIN pg_class c ON c.oid = s.current_view"
    ).fetchone()
    assert name == (current_view_name(table, "embedding"),)


@pytest.mark.parametrize("slot", ["s" * 63, "ß" * 30])
def test_a_slots_long_name_gives_the_same_columns_in_both_renderings(connection, slot):
    version = add_version(connection, "documents", "v1", V2, slot=slot)
    assert list(columns(connection, sql.Identifier(version.view_name).as_string(None)))[4:] == list(view_columns(slot))
    assert rendered_by_sql(connection, version) == definition(connection, sql.Identifier(version.view_name).as_string())


def test_both_languages_cut_names_alike(connection):
    for name in ("documents", "ü" * 40, "x" * 62 + "ü", "x" * 53 + "ü" * 9, "x" * 70, 'a"b' * 30, ""):
        assert connection.execute("SELECT pgvmig.fit(%s)", (name,)).fetchone() == (fit(name),)


def test_a_table_in_another_schema(connection):
    connection.execute('CREATE SCHEMA "App 1"')
    connection.execute('CREATE TABLE "App 1".documents (id int PRIMARY KEY, body text)')
    connection.execute('INSERT INTO "App 1".documents VALUES (1, $$one$$)')
    version = add_version(connection, "documents", "v1", V1, schema="App 1")
    write(connection, version, {1: ROW_1})
    cut_over(connection, version)
    row = connection.execute('SELECT id, embedding_space FROM "App 1".documents_current').fetchone()
    assert row == (1, "v1")
    found = connection.execute("SELECT version, view::text FROM pgvmig.active_space('\"App 1\".documents')").fetchone()
    assert found == ("v1", '"App 1".documents_v1')
    assert connection.execute("SELECT pgvmig.require_space('\"App 1\".documents', 'v1')").fetchone() == (True,)


def test_another_slot_beside_the_first(connection, versions):
    v1 = add_version(connection, "documents", "v1", V2 | {"input": "title"}, slot="heading")
    write(connection, v1, {1: [0, 0, 0, 1]})
    cut_over(connection, v1)
    found = columns(connection, "documents_heading_current")
    assert list(found)[:4] == ["id", "tenant", "title", "body"]
    assert list(found)[4:] == [name.replace("embedding", "heading", 1) for name in VECTOR_COLUMNS]
    row = connection.execute("SELECT id, heading, heading_space FROM documents_heading_current").fetchone()
    assert row == (1, "[0,0,0,1]", "v1")
    active = "SELECT version, view::text, dimensions FROM pgvmig.active_space('documents', {})"
    assert connection.execute(active.format("'heading'")).fetchone() == ("v1", "documents_heading_v1", 4)
    assert connection.execute(active.format("slot => 'embedding'")).fetchone() == ("v1", "documents_v1", 8)
    assert connection.execute("SELECT pgvmig.require_space('documents', 'v1', 'heading')").fetchone() == (True,)
    cut_over(connection, versions[1])
    assert connection.execute(active.format("'heading'")).fetchone() == ("v1", "documents_heading_v1", 4)


def test_a_slot_named_like_a_column_of_the_table_is_refused(connection):
    with pytest.raises(ConflictError, match="documents has a column title"):
        add_version(connection, "documents", "v1", V1, slot="title")


def test_names_that_need_quotes(connection):
    connection.execute('CREATE TABLE "My ""Docs" (id int PRIMARY KEY, "Body %s" text)')
    connection.execute('INSERT INTO "My ""Docs" VALUES (1, $$one$$)')
    contract = V1 | {"input": '"Body %s"', "model": "it's {one} 100%s", "model_version": 'a"b\\c'}
    version = add_version(connection, 'My "Docs', "v1", contract)
    write(connection, version, {1: ROW_1})
    cut_over(connection, version)
    row = connection.execute('SELECT embedding_model, embedding_model_version FROM "My ""Docs_current"').fetchone()
    assert row == ("it's {one} 100%s", 'a"b\\c')
    assert rendered_by_sql(connection, version) == definition(connection, '"My ""Docs_v1"')


def test_pgvector_need_not_be_on_the_search_path(connection):
    connection.execute("CREATE SCHEMA extensions")
    connection.execute("ALTER EXTENSION vector SET SCHEMA extensions")
    v1, v2 = add_version(connection, "documents", "v1", V1), add_version(connection, "documents", "v2", V2)
    write(connection, v1, {1: ROW_1})
    cut_over(connection, v1)
    cut_over(connection, v2)
    assert columns(connection, "documents_current")["embedding"] == "extensions.vector"
    assert rendered_by_sql(connection, v1) == definition(connection, "documents_v1")

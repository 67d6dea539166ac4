"""Views after the table has changed, and that both writers of them, Python and SQL, agree."""

import psycopg
import pytest
from lifecycle import add_version, adopt_version
from vectors import cut_over, roll_back
from viewing import (
    SHOWN,
    V1,
    V2,
    VECTOR_COLUMNS,
    columns,
    definition,
    identity,
    rendered_by_sql,
)

from pgvmig import adding
from pgvmig.runner import ConnectionRunner

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]


def refresh(connection):
    return connection.execute("SELECT pgvmig.refresh_views('documents')").fetchone()[0]


def every_view(connection):
    return [list(columns(connection, view)) for view in ("documents_v1", "documents_v2", "documents_current")]


def test_added_columns_come_at_the_end_of_every_view(connection, versions):
    before = identity(connection, "documents_current")
    connection.execute("ALTER TABLE documents ADD COLUMN author text DEFAULT 'me', ADD COLUMN pages int")
    assert every_view(connection) == [SHOWN] * 3
    assert refresh(connection) == ["author", "pages"]
    assert every_view(connection) == [[*SHOWN, "author", "pages"]] * 3
    assert refresh(connection) == []
    cut_over(connection, versions[1])
    assert connection.execute("SELECT author, embedding_space FROM documents_current WHERE id = 1").fetchone() == (
        "me",
        "v2",
    )
    roll_back(connection, versions[1])
    assert every_view(connection) == [[*SHOWN, "author", "pages"]] * 3
    assert identity(connection, "documents_current") == before


def test_columns_added_after_a_cutover_and_after_its_rollback(connection, versions):
    cut_over(connection, versions[1])
    connection.execute("ALTER TABLE documents ADD COLUMN author text")
    assert refresh(connection) == ["author"]
    roll_back(connection, versions[1])
    assert every_view(connection) == [[*SHOWN, "author"]] * 3
    connection.execute("ALTER TABLE documents ADD COLUMN pages int")
    assert refresh(connection) == ["pages"]
    cut_over(connection, versions[1])
    assert every_view(connection) == [[*SHOWN, "author", "pages"]] * 3


def test_a_later_version_shows_the_columns_that_were_refreshed_in(connection, versions):
    connection.execute("ALTER TABLE documents ADD COLUMN author text")
    connection.execute("ALTER TABLE documents RENAME COLUMN title TO heading")
    refresh(connection)
    v3 = add_version(connection, "documents", "v3", V1 | {"model": "three"})
    assert list(columns(connection, "documents_v3")) == [*SHOWN, "author"]
    assert rendered_by_sql(connection, v3) == definition(connection, "documents_v3")
    cut_over(connection, v3)
    cut_over(connection, versions[1])
    assert every_view(connection) == [[*SHOWN, "author"]] * 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_renamed_column_keeps_its_name_in_the_views(connection, versions, when):
    if when == "after":
        cut_over(connection, versions[1])
    connection.execute("ALTER TABLE documents RENAME COLUMN body TO contents")
    assert refresh(connection) == []
    assert every_view(connection) == [SHOWN] * 3
    read = "SELECT body FROM documents_current WHERE id = 1"
    assert connection.execute(read).fetchone() == ("one",)
    (roll_back if when == "after" else cut_over)(connection, versions[1])
    assert every_view(connection) == [SHOWN] * 3
    assert connection.execute(read).fetchone() == ("one",)
    assert rendered_by_sql(connection, versions[0]) == definition(connection, "documents_v1")


def test_prepared_statements_survive_a_refresh(connection, versions, database):
    reader = database.connect(prepare_threshold=0)
    query = "SELECT id, embedding_space FROM documents_current WHERE id = 1"
    assert reader.execute(query, prepare=True).fetchone() == (1, "v1")
    connection.execute("ALTER TABLE documents ADD COLUMN author text")
    refresh(connection)
    assert reader.execute(query, prepare=True).fetchone() == (1, "v1")


def test_refresh_of_a_table_without_versions_says_so(connection):
    with pytest.raises(psycopg.Error, match="documents has no versions") as caught:
        refresh(connection)
    assert (caught.value.sqlstate, caught.value.diag.message_hint) == ("PV003", "op.add_embedding adds one")


def test_operations_refresh_by_the_same_function(connection, versions):
    connection.execute("ALTER TABLE documents ADD COLUMN author text")
    adding.refresh_views(ConnectionRunner(connection), "documents")
    assert every_view(connection) == [[*SHOWN, "author"]] * 3


# Both writers of a view


def test_python_and_sql_render_the_same_view(connection, versions):
    for version in versions:
        assert rendered_by_sql(connection, version) == definition(connection, version.view_name)


def test_the_current_view_is_the_versions_to_the_letter(connection, versions):
    assert definition(connection, "documents_current") == definition(connection, "documents_v1")
    cut_over(connection, versions[1])
    assert definition(connection, "documents_current") == definition(connection, "documents_v2")


def test_both_render_a_chosen_list_with_the_vector_in_the_middle(connection):
    version = add_version(connection, "documents", "v1", V1, columns=["id", "embedding", "body"])
    assert list(columns(connection, "documents_v1")) == ["id", *VECTOR_COLUMNS, "body"]
    assert rendered_by_sql(connection, version) == definition(connection, "documents_v1")


def test_both_render_an_adopted_column_and_halfvec(connection):
    connection.execute("ALTER TABLE documents ADD COLUMN embedding vector(8)")
    adopted = adopt_version(connection, "documents", "v1", "embedding", V1)
    half = add_version(connection, "documents", "v2", V2 | {"vector_type": "halfvec"})
    assert rendered_by_sql(connection, adopted) == definition(connection, "documents_v1")
    assert rendered_by_sql(connection, half) == definition(connection, "documents_v2")
    assert columns(connection, "documents_v2")["embedding"] == "halfvec"
    assert list(columns(connection, "documents_current")) == SHOWN

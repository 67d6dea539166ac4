"""The gate parity: whoever reads the current view finds the same rights, columns and rows through the new version."""

import os

import pytest
from gating import V2, Gated
from psycopg import sql

from pgvmig import switch
from pgvmig.terms import Terms

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]

READ = "SELECT count(*), min(embedding_space) FROM {}"


@pytest.fixture
def table(database):
    """v1 is active, v2 is complete."""
    table = Gated(database)
    table.add("v1")
    table.add("v2", dimensions=4)
    return table


@pytest.fixture
def reader(table):
    """A role with no rights yet; roles belong to the server, so it goes again."""
    role = f"pgvmig_reader_{os.getpid()}"
    table.execute(f"CREATE ROLE {role}")
    yield role
    table.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


def grant_behind(table, view, role):
    """Grant what reading the view takes, column by column, and no more."""
    for relation, columns in table.execute(
        "SELECT b.relation::text, string_agg(quote_ident(a.attname), ', ') "
        "FROM pgvmig.columns_behind(%s::regclass) AS b "
        "JOIN pg_attribute a ON a.attrelid = b.relation AND a.attnum = b.number GROUP BY 1",
        view,
    ):
        table.execute(f"GRANT SELECT ({columns}) ON {relation} TO {role}")


def read_as(table, role, view="documents_current"):
    with table.connection.transaction():
        table.execute(f"SET LOCAL ROLE {role}")
        return table.execute(READ.format(view))[0]


def switch_over(table):
    gates = ["coverage", "index", "way_back", "hashes", "health", "recall", "identity", "visibility"]
    return switch.cut_over(table.run, V2, Terms(skip=gates, reason="a test"))


def test_a_reader_of_columns_would_lose_the_vectors(table, reader, layout):
    table.execute(f"GRANT SELECT ON documents_current TO {reader}")
    parity = table.ask("parity")
    assert parity.passed  # he cannot read what is behind it today either
    grant_behind(table, "documents_current", reader)
    assert read_as(table, reader) == (20, "v1")
    parity = table.ask("parity")
    columns, relation = {
        "column": ("embedding_v2_embedded_at, embedding_v2_source_hash, embedding_v2", "public.documents"),
        "table": ("key_id, embedding, source_hash, embedded_at", "public.documents_v2_vectors"),
    }[layout]
    assert (parity.passed, parity.found, parity.next) == (
        False,
        f"{reader} may read public.documents_current, and not what it would show: {columns} of {relation}",
        f"GRANT SELECT ({columns}) ON {relation} TO {reader}",
    )
    table.do(parity)
    assert table.ask("parity").found.startswith("who reads public.documents_current (")
    assert table.ask("privacy").passed
    switch_over(table)
    assert read_as(table, reader) == (20, "v2")


@pytest.mark.parametrize("everybody", [False, True])
def test_a_reader_of_version_views_would_find_the_new_one_closed(table, reader, everybody):
    grantee = "PUBLIC" if everybody else reader
    table.execute(f"GRANT SELECT ON documents, documents_current TO {grantee}")
    for relation in ("documents_v1_vectors", "documents_v2_vectors"):
        if table.execute("SELECT to_regclass(%s) IS NOT NULL", relation)[0][0]:
            table.execute(f"GRANT SELECT ON {relation} TO {grantee}")
    assert table.ask("parity").passed  # he reads the current view only
    table.execute(f"GRANT SELECT ON documents_v1 TO {grantee}")
    parity = table.ask("parity")
    assert (parity.passed, parity.found, parity.next) == (
        False,
        f"{grantee} may read public.documents_v1, and not public.documents_v2",
        f"GRANT SELECT ON public.documents_v2 TO {grantee}",
    )
    table.do(parity)
    assert table.ask("parity").passed
    assert read_as(table, reader, "documents_v2") == (20, "v2")


@pytest.mark.layouts("column")
def test_a_reader_of_some_columns_of_a_view(table, reader):
    table.execute(f"GRANT SELECT ON documents TO {reader}")
    for view in ("documents_current", "documents_v1"):
        table.execute(f"GRANT SELECT (id, body) ON {view} TO {reader}")
    parity = table.ask("parity")
    assert parity.next == f"GRANT SELECT (id, body) ON public.documents_v2 TO {reader}"
    table.do(parity)
    assert table.ask("parity").passed


def test_a_view_that_runs_with_its_owners_rights_shows_hidden_rows(table):
    table.execute("ALTER VIEW documents_v2 SET (security_invoker = false)")
    parity = table.ask("parity")
    assert (parity.passed, parity.found) == (
        False,
        "public.documents_current runs with the rights of its reader and public.documents_v2 with those of its owner",
    )
    table.do(parity)
    assert table.ask("parity").passed


@pytest.mark.layouts("table")
@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (
            "DROP POLICY pgvmig_as_the_row ON documents_v2_vectors",
            "row-level security hides every vector in public.documents_v2_vectors from readers: its policy is gone",
        ),
        (
            "CREATE POLICY odd ON documents_v2_vectors AS RESTRICTIVE USING (key_id % 2 = 1)",
            "public.documents_v2_vectors has policies of its own, which hide vectors of rows that are shown: odd",
        ),
    ],
)
def test_vectors_are_hidden_exactly_with_their_rows(table, reader, plant, found):
    table.execute("CREATE POLICY most ON documents USING (id > 5)")
    table.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    table.execute(f"GRANT SELECT ON documents, documents_current, documents_v2 TO {reader}")
    table.execute("SELECT pgvmig.refresh_views('documents')")
    assert read_as(table, reader, "documents_v2") == (15, "v2")
    table.execute(plant)
    assert read_as(table, reader, "documents_v2")[0] < 15
    parity = table.ask("parity")
    assert (parity.passed, parity.found) == (False, found)
    table.do(parity)
    assert read_as(table, reader, "documents_v2") == (15, "v2")
    assert table.ask("parity").passed


def test_a_column_that_was_added_to_the_current_view_by_hand(table):
    table.execute("ALTER TABLE documents ADD COLUMN lang text")
    ((text,),) = table.execute("SELECT rtrim(pg_get_viewdef('documents_current'), ';')")
    shown = text.replace("embedded_at AS embedding_embedded_at", "embedded_at AS embedding_embedded_at, d.lang", 1)
    table.execute(sql.SQL("CREATE OR REPLACE VIEW documents_current WITH (security_invoker = true) AS " + shown))
    parity = table.ask("parity")
    assert (parity.passed, parity.found, parity.next) == (
        False,
        "public.documents_current shows lang, and public.documents_v2 does not",
        "SELECT pgvmig.refresh_views('public.documents')",
    )
    table.do(parity)
    assert table.ask("parity").passed
    shown = text.replace("embedded_at AS embedding_embedded_at",
                         "embedded_at AS embedding_embedded_at, d.lang, upper(d.note) AS loud", 1)  # fmt: skip
    table.execute(sql.SQL("CREATE OR REPLACE VIEW documents_current WITH (security_invoker = true) AS " + shown))
    assert table.ask("parity").next == (
        "show loud in a view of your own over public.documents_current, which has the columns of the version that "
        "it shows"
    )


def test_another_type_of_vector_is_no_lost_column(database):
    table = Gated(database)
    table.add("v1")
    table.add("v2", vector_type="halfvec")
    assert table.ask("parity").passed


def test_without_a_current_view_nobody_can_miss_anything(database):
    table = Gated(database)
    table.add("v2")
    parity = table.ask("parity")
    assert (parity.passed, parity.found) == (True, "there is no current view yet that anybody could miss")


def test_a_view_that_somebody_dropped_is_made_anew(table, reader):
    table.execute(f"GRANT SELECT ON documents TO {reader}")
    if table.execute("SELECT to_regclass('documents_v2_vectors') IS NOT NULL")[0][0]:
        table.execute(f"GRANT SELECT ON documents_v2_vectors TO {reader}")
    before = table.execute("SELECT pg_get_viewdef('documents_v2')")
    table.execute("DROP VIEW documents_v2")
    parity = table.ask("parity")
    assert (parity.passed, parity.found) == (False, "the view of v2 is gone")
    assert table.ask("index").found == "the view of v2 is gone, no search goes through it"
    table.do(parity)
    assert table.ask("parity").passed
    assert table.execute("SELECT pg_get_viewdef('documents_v2')") == before
    assert read_as(table, reader, "documents_v2") == (20, "v2")

"""Version views and the current view: what they show, what a swap leaves alone, and who may read them."""

import threading

import psycopg
import pytest
from lifecycle import add_version
from psycopg import errors as pg
from psycopg import sql
from vectors import cut_over, roll_back, write
from viewing import (
    ROW_1,
    V1,
    VECTOR_COLUMNS,
    become,
    columns,
    grant,
    identity,
    plan,
    spaces,
)

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]


# What a view shows


def test_view_shows_the_table_the_vector_and_its_provenance(connection, versions):
    found = columns(connection, "documents_v2")
    assert list(found) == ["id", "tenant", "title", "body", *VECTOR_COLUMNS]
    row = connection.execute("SELECT * FROM documents_v2 WHERE id = 3").fetchone()
    assert row[4:8] == ("[0,0,1,0]", "v2", "two", "1")
    assert row[8] == connection.execute("SELECT sha256('three')").fetchone()[0]
    assert row[9] is not None


def test_vector_has_no_dimensions_in_its_type(connection, versions):
    assert {columns(connection, view)["embedding"] for view in ("documents_v1", "documents_v2")} == {"vector"}
    assert columns(connection, "documents_current")["embedding"] == "vector"
    assert columns(connection, versions[1].vector_table_name)[versions[1].vector_column] == "vector(4)"


def test_rows_without_a_vector_are_not_in_it(connection, versions):
    assert connection.execute("SELECT array_agg(id ORDER BY id) FROM documents_v1").fetchone() == ([1, 2],)
    assert connection.execute("SELECT count(*) FROM documents_v2").fetchone() == (3,)


def test_a_wrong_guard_is_settled_when_the_query_is_planned(connection, versions):
    query = "SELECT id FROM documents_current WHERE embedding_space = '{}' ORDER BY embedding <=> '[1,0,0,0]' LIMIT 5"
    assert "One-Time Filter: false" in plan(connection, query.format("v2"))
    # Executed, a comparison of 8 with 4 dimensions would be an error.
    assert connection.execute(query.format("v2")).fetchall() == []
    with pytest.raises(pg.DataException, match="different vector dimensions"):
        connection.execute(query.format("v1"))


def test_the_right_guard_costs_nothing(connection, versions):
    query = "SELECT id FROM documents_current {} ORDER BY embedding <=> '[1,0,0,0,0,0,0,0]' LIMIT 5"
    guarded = plan(connection, query.format("WHERE embedding_space = 'v1'"))
    assert guarded == plan(connection, query.format(""))


def test_views_are_read_only(connection, versions):
    statements = ("INSERT INTO {} (id) VALUES (9)", "UPDATE {} SET body = 'x' WHERE id = 1", "DELETE FROM {}")
    for view in ("documents_v1", "documents_v2", "documents_current"):
        for statement in statements:
            with pytest.raises(psycopg.Error, match=f"view public.{view} is read-only") as caught:
                connection.execute(statement.format(view))
            assert caught.value.sqlstate == "PV005"
            assert caught.value.diag.message_hint == "write to the table; the worker writes the vectors"
    assert connection.execute("SELECT count(*) FROM documents WHERE body <> 'x'").fetchone() == (3,)


# What a swap leaves alone


def test_swap_keeps_oid_owner_grants_options_and_comments(connection, versions, role):
    grant(connection, role, "SELECT ON documents_current")
    grant(connection, role, "SELECT (id), SELECT (title) ON documents_current")
    connection.execute("ALTER VIEW documents_current SET (security_barrier = true)")
    connection.execute("COMMENT ON VIEW documents_current IS 'what the search service reads'")
    connection.execute("COMMENT ON COLUMN documents_current.id IS 'the key'")
    before = identity(connection, "documents_current")
    assert "security_barrier=true" in before[3]
    for _ in range(2):
        cut_over(connection, versions[1])
        assert spaces(connection) == ["v2"]
        assert identity(connection, "documents_current") == before
        roll_back(connection, versions[1])
        assert spaces(connection) == ["v1"]
        assert identity(connection, "documents_current") == before


def test_swap_keeps_what_depends_on_the_view(connection, versions):
    connection.execute("CREATE VIEW titles AS SELECT id, embedding, embedding_space FROM documents_current")
    connection.execute("CREATE MATERIALIZED VIEW kept AS SELECT id, embedding FROM documents_current")
    connection.execute(
        "CREATE FUNCTION nearest() RETURNS bigint LANGUAGE sql BEGIN ATOMIC "
        "SELECT id FROM documents_current ORDER BY embedding <=> '[0,0,1,0]' LIMIT 1; END"
    )
    cut_over(connection, versions[1])
    assert connection.execute("SELECT count(*), min(embedding_space) FROM titles").fetchone() == (3, "v2")
    assert connection.execute("SELECT nearest()").fetchone() == (3,)
    connection.execute("REFRESH MATERIALIZED VIEW kept")
    assert connection.execute("SELECT count(*) FROM kept").fetchone() == (3,)


def test_prepared_statements_survive_swaps_between_dimensions(connection, versions, database):
    reader = database.connect(prepare_threshold=0)
    query = "SELECT embedding, embedding_space FROM documents_current WHERE id = 1"

    def read():
        return reader.execute(query, prepare=True).fetchone()

    for _ in range(6):  # PostgreSQL tries a generic plan from the sixth execution on
        assert read() == ("[1,0,0,0,0,0,0,0]", "v1")
    cut_over(connection, versions[1])
    assert read() == ("[1,0,0,0]", "v2")
    roll_back(connection, versions[1])
    assert read() == ("[1,0,0,0,0,0,0,0]", "v1")
    assert reader.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0] >= 1


def test_swap_waits_for_a_reader_and_kills_nobody(connection, versions, database):
    reader = database.connect(autocommit=False)
    reader.execute("SELECT FROM documents_current LIMIT 1")
    with pytest.raises(pg.LockNotAvailable, match="no lock in 2 attempts"):
        connection.execute(
            "SELECT pgvmig.execute_patiently('LOCK documents_current IN ACCESS EXCLUSIVE MODE', '20 ms', 2)"
        )
    assert spaces(connection) == ["v1"]
    leaves = threading.Timer(0.5, reader.rollback)
    leaves.start()
    cut_over(connection, versions[1])
    leaves.join()
    assert spaces(connection) == spaces(reader) == ["v2"]


def test_a_current_view_that_somebody_dropped_comes_back_with_the_next_switch(connection, versions):
    connection.execute("DROP VIEW documents_current")
    cut_over(connection, versions[1])
    assert spaces(connection) == ["v2"]
    assert "security_invoker=true" in identity(connection, "documents_current")[3]


# Who may read


def test_row_level_security_holds_before_and_after_a_swap(connection, versions, role):
    connection.execute("UPDATE documents SET tenant = 'b' WHERE id = 1")
    connection.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    connection.execute("CREATE POLICY own ON documents USING (tenant = 'b')")
    grant(connection, role, "SELECT ON documents, documents_v1, documents_v2, documents_current")
    connection.execute("SELECT pgvmig.refresh_views('documents')")  # tables of vectors learn of the new reader

    def visible(view):
        become(connection, role)
        rows = connection.execute(sql.SQL("SELECT array_agg(id) FROM {}").format(sql.Identifier(view))).fetchone()[0]
        connection.execute("RESET ROLE")
        return rows

    assert visible("documents_v1") == visible("documents_current") == [1]
    cut_over(connection, versions[1])
    assert visible("documents_v2") == visible("documents_current") == [1]
    connection.execute("ALTER TABLE documents ADD COLUMN later int")
    connection.execute("SELECT pgvmig.refresh_views('documents')")
    assert visible("documents_v1") == visible("documents_v2") == visible("documents_current") == [1]


def test_who_reads_the_table_reads_its_views(connection, role):
    connection.execute(sql.SQL("GRANT SELECT ON documents TO {} WITH GRANT OPTION").format(sql.Identifier(role)))
    grant(connection, "pg_monitor", "SELECT ON documents")
    v1 = add_version(connection, "documents", "v1", V1)
    write(connection, v1, {1: ROW_1})
    cut_over(connection, v1)
    privileges = (
        "SELECT bool_and(has_table_privilege(r, v, p)) FROM unnest(%s::text[]) v, unnest(%s::text[]) p, "
        "unnest(%s::text[]) r"
    )
    both = ["documents_v1", "documents_current"]
    assert connection.execute(privileges, (both, ["SELECT", "SELECT WITH GRANT OPTION"], [role])).fetchone() == (True,)
    assert connection.execute(privileges, (both, ["SELECT"], ["pg_monitor"])).fetchone() == (True,)
    assert connection.execute(privileges, (both, ["SELECT WITH GRANT OPTION"], ["pg_monitor"])).fetchone() == (False,)
    become(connection, role)
    assert spaces(connection) == ["v1"]


def test_nobody_else_reads_them(connection, versions, role):
    become(connection, role)
    for view in ("documents_v1", "documents_current"):
        with pytest.raises(pg.InsufficientPrivilege, match=f"permission denied for view {view}"):
            spaces(connection, view)


def test_views_belong_to_the_tables_owner(connection, role):
    connection.execute(sql.SQL("ALTER TABLE documents OWNER TO {}").format(sql.Identifier(role)))
    cut_over(connection, add_version(connection, "documents", "v1", V1))
    owners = connection.execute(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname IN ('documents_v1', 'documents_current')"
    ).fetchall()
    assert owners == [(role,)]


def test_everybodys_grant_is_copied_as_everybodys(connection, role):
    connection.execute("GRANT SELECT ON documents TO PUBLIC")
    cut_over(connection, add_version(connection, "documents", "v1", V1))
    become(connection, role)
    assert spaces(connection) == []

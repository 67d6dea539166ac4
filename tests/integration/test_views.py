"""Version views and the current view: what they show, what a swap leaves alone, and that both writers of them agree."""

import threading

import psycopg
import pytest
from lifecycle import add_version, adopt_version, find, install
from psycopg import errors as pg
from psycopg import sql
from vectors import cut_over, roll_back, write

from pgvmig import adding
from pgvmig.address import address
from pgvmig.errors import ConflictError
from pgvmig.names import current_view_name, fit, view_columns, view_name
from pgvmig.runner import ConnectionRunner

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]

V1 = {"model": "one"}
V2 = {"model": "two", "dimensions": 4}
ROW_1 = [1.0, 0, 0, 0, 0, 0, 0, 0]
VECTOR_COLUMNS = [
    "embedding",
    "embedding_space",
    "embedding_model",
    "embedding_model_version",
    "embedding_source_hash",
    "embedding_embedded_at",
]


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, tenant name DEFAULT 'a', title text, body text)")
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    return connection


@pytest.fixture
def versions(connection):
    """v1 (8 dimensions) on rows 1 and 2, active; v2 (4 dimensions) on all rows."""
    v1, v2 = add_version(connection, "documents", "v1", V1), add_version(connection, "documents", "v2", V2)
    write(connection, v1, {1: ROW_1, 2: [0, 1, 0, 0, 0, 0, 0, 0]})
    write(connection, v2, {1: [1, 0, 0, 0], 2: [0, 1, 0, 0], 3: [0, 0, 1, 0]})
    cut_over(connection, v1)
    return v1, v2


@pytest.fixture
def role(connection):
    """A role of this test's own, that owns nothing."""
    name = f"{connection.info.dbname}_reader"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    connection.execute("RESET ROLE")
    connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def columns(connection, view):
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        (view,),
    )
    return dict(rows.fetchall())


def identity(connection, view):
    return connection.execute(
        "SELECT oid, relowner, relacl::text, reloptions, obj_description(oid, 'pg_class'), col_description(oid, 1), "
        "(SELECT array_agg(tgname ORDER BY tgname) FROM pg_trigger WHERE tgrelid = c.oid), "
        "(SELECT array_agg(attacl::text) FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL) "
        "FROM pg_class c WHERE oid = %s::regclass",
        (view,),
    ).fetchone()


def definition(connection, view):
    return connection.execute("SELECT pg_get_viewdef(%s::regclass)", (view,)).fetchone()[0]


def spaces(connection, view="documents_current"):
    query = sql.SQL("SELECT DISTINCT embedding_space FROM {}").format(sql.Identifier(view))
    return [row[0] for row in connection.execute(query)]


def plan(connection, query):
    return "\n".join(row[0] for row in connection.execute(f"EXPLAIN (COSTS OFF) {query}"))


def grant(connection, role, *what):
    for each in what:
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(each), sql.Identifier(role)))


def become(connection, role):
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


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


# Names


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


# refresh_views


def refresh(connection):
    return connection.execute("SELECT pgvmig.refresh_views('documents')").fetchone()[0]


def every_view(connection):
    return [list(columns(connection, view)) for view in ("documents_v1", "documents_v2", "documents_current")]


SHOWN = ["id", "tenant", "title", "body", *VECTOR_COLUMNS]


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


# Both writers of a view


def rendered_by_sql(connection, version):
    """Return how PostgreSQL prints the view that pgvmig.view_query() writes."""
    query = connection.execute(
        "SELECT pgvmig.view_query(v) FROM pgvmig.version v WHERE version_id = %s", (version.version_id,)
    ).fetchone()[0]
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE VIEW rendered_by_sql AS " + query)
        return definition(connection, "rendered_by_sql")


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


# The functions for services


def test_active_space_is_what_a_service_needs(connection, versions):
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute("SELECT * FROM pgvmig.active_space('documents')").fetchone()
    assert row.pop("fingerprint") == versions[0].contract.fingerprint
    assert row == {
        "version": "v1",
        "view": "documents_v1",
        "provider": "new",
        "model": "one",
        "model_version": "1",
        "dimensions": 8,
        "metric": "cosine",
        "query_prefix": "",
        "search": {},
    }
    assert connection.execute("SELECT pgvmig.route('documents', 'any key')").fetchone() == ("v1",)


def test_before_the_first_cutover_there_is_no_space(connection):
    add_version(connection, "documents", "v1", V1)
    assert connection.execute("SELECT count(*) FROM pgvmig.active_space('documents')").fetchone() == (0,)
    assert connection.execute("SELECT pgvmig.route('documents', 'k')").fetchone() == (None,)
    with pytest.raises(psycopg.Error, match="documents has no active version, not v1") as caught:
        connection.execute("SELECT pgvmig.require_space('documents', 'v1')")
    assert caught.value.sqlstate == "PV001"


def test_switch_route_and_view_in_one_transaction(connection, versions, database):
    watcher = database.connect()
    with connection.transaction(force_rollback=True):
        cut_over(connection, versions[1])
        assert watcher.execute("SELECT pgvmig.route('documents', 'k')").fetchone() == ("v1",)
        assert watcher.execute("SELECT version FROM pgvmig.active_space('documents')").fetchone() == ("v1",)
    assert spaces(connection) == ["v1"]
    assert connection.execute("SELECT pgvmig.route('documents', 'k')").fetchone() == ("v1",)


def test_require_space_raises_with_what_to_do(connection, versions):
    cut_over(connection, versions[1])
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(
            "SELECT id FROM documents_current WHERE pgvmig.require_space('documents', 'v1') "
            "ORDER BY embedding <=> '[1,0,0,0,0,0,0,0]' LIMIT 5"
        )
    assert caught.value.sqlstate == "PV001"
    assert caught.value.diag.message_primary == "public.documents_current shows v2, not v1"
    assert caught.value.diag.message_detail == (
        "Vectors of two models are not comparable: the query would be ranked, and wrongly."
    )
    assert caught.value.diag.message_hint == (
        "ask pgvmig.active_space('public.documents') again and embed the query with its model"
    )


def test_require_space_is_asked_once_and_before_any_row(connection, versions):
    text = plan(connection, "SELECT id FROM documents_current WHERE pgvmig.require_space('documents', 'v1') AND id > 0")
    assert "One-Time Filter: pgvmig.require_space(" in text


def test_verbs_are_not_everybodys(connection, versions, role):
    grant(connection, role, "SELECT ON documents")
    become(connection, role)
    for call in ("cut_over('documents', 'v2')", "roll_back('documents')", "refresh_views('documents')"):
        with pytest.raises(pg.InsufficientPrivilege):
            connection.execute(f"SELECT pgvmig.{call}")


def test_a_rollback_to_nothing_takes_the_current_view_away(connection, versions):
    roll_back(connection, versions[0])
    assert connection.execute("SELECT to_regclass('documents_current')").fetchone() == (None,)
    assert connection.execute("SELECT count(*) FROM pgvmig.active_space('documents')").fetchone() == (0,)
    cut_over(connection, find(connection, address("documents", "v1")))
    assert spaces(connection) == ["v1"]


def test_operations_refresh_by_the_same_function(connection, versions):
    connection.execute("ALTER TABLE documents ADD COLUMN author text")
    adding.refresh_views(ConnectionRunner(connection), "documents")
    assert every_view(connection) == [[*SHOWN, "author"]] * 3


def test_events_tell_of_a_switch(connection, versions):
    cut_over(connection, versions[1])
    rows = connection.execute(
        "SELECT version, from_state, to_state, reason FROM pgvmig.event WHERE verb = 'cut over' ORDER BY event_id"
    ).fetchall()
    assert rows[-3:] == [
        ("v1", "active", "retained", "a test"),
        ("v2", "added", "ready", "a test"),
        ("v2", "ready", "active", "a test"),
    ]

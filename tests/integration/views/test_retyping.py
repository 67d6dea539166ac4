"""A switch between vector and halfvec: the current view is made anew, and wears all that it wore."""

import psycopg
import pytest
from lifecycle import add_version, adopt_version, install
from psycopg import errors as pg
from psycopg import sql
from vectors import SKIPPED, cut_over, roll_back, write
from viewing import ROW_1, V1, V2, become, columns, grant, plan, spaces

from pgvmig import indexing, switch
from pgvmig.address import address
from pgvmig.errors import GateError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

HALF = V2 | {"vector_type": "halfvec"}
HERE = address("documents", "v2")
BUT_INDEX = Terms(skip=[gate for gate in SKIPPED if gate != "index"], reason="a test")


@pytest.fixture
def versions(connection):
    """v1 (vector) is active, v2 (halfvec) is complete as well."""
    v1, v2 = add_version(connection, "documents", "v1", V1), add_version(connection, "documents", "v2", HALF)
    write(connection, v1, {1: ROW_1})
    write(connection, v2, {1: [1, 0, 0, 0], 2: [0, 1, 0, 0], 3: [0, 0, 1, 0]})
    cut_over(connection, v1)
    return v1, v2


@pytest.fixture
def dressed(connection, versions, role):
    """The current view with all that a view can wear, and views over it, one of them over two others."""
    name = sql.Identifier(role)
    for statement in (
        "GRANT SELECT ON documents TO {}",
        "SELECT pgvmig.refresh_views('documents')",  # tables of vectors learn of the new reader
        "GRANT SELECT, INSERT ON documents_current TO {} WITH GRANT OPTION",
        "GRANT SELECT (id, title), UPDATE (title) ON documents_current TO pg_monitor",
        "GRANT SELECT ON documents_current TO PUBLIC",
        "GRANT USAGE ON SCHEMA public TO {}",
        "SET ROLE {}",
        "GRANT SELECT ON documents_current TO pg_read_all_stats",
        "RESET ROLE",
        "ALTER VIEW documents_current SET (security_barrier = true)",
        "ALTER VIEW documents_current ALTER COLUMN title SET DEFAULT 'none'",
        "COMMENT ON VIEW documents_current IS 'what the service''s search reads'",
        "COMMENT ON COLUMN documents_current.id IS 'the key'",
        "CREATE FUNCTION accept() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER a_users INSTEAD OF UPDATE ON documents_current FOR EACH ROW EXECUTE FUNCTION accept()",
        "COMMENT ON TRIGGER a_users ON documents_current IS 'of the service'",
        'CREATE SCHEMA "Over it"',
        (
            'CREATE VIEW "Over it".titles (key, "The vector") WITH (security_barrier) AS '
            "SELECT id, embedding FROM documents_current WHERE title IS NULL"
        ),
        "CREATE VIEW spaces AS SELECT DISTINCT embedding_space FROM documents_current",
        'CREATE VIEW both_of_them AS SELECT * FROM "Over it".titles, spaces ORDER BY "The vector" <-> \'[1,0,0,0]\'',
        'GRANT SELECT ON "Over it".titles TO {}',
        "GRANT SELECT (key) ON both_of_them TO {}",
        "ALTER VIEW spaces OWNER TO {}",
        "COMMENT ON COLUMN both_of_them.embedding_space IS 'which one'",
        # what a new view would be given beside
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pg_read_all_settings",
    ):
        connection.execute(sql.SQL(statement).format(name))
    yield versions
    connection.execute("ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM pg_read_all_settings")


VIEWS = ("documents_current", '"Over it".titles', "spaces", "both_of_them")


def dresses(connection):
    return [connection.execute("SELECT pgvmig.view_dress(%s::regclass)", [view]).fetchone()[0] for view in VIEWS]


def oids(connection):
    return [connection.execute("SELECT %s::regclass::oid", [view]).fetchone()[0] for view in VIEWS]


@pytest.mark.majors(18, 16)
@pytest.mark.layouts
def test_everything_but_the_oids_is_the_same_there_and_back(connection, dressed, role):
    before, numbers = dresses(connection), oids(connection)
    grantors = {(g["grantee"], g["grantor"]) for g in before[0]["grants"]}
    assert ("pg_read_all_stats", role) in grantors  # as in the view that was granted on
    cut_over(connection, dressed[1])
    assert columns(connection, "documents_current")["embedding"] == "halfvec"
    assert columns(connection, '"Over it".titles')["The vector"] == "halfvec"
    assert dresses(connection) == before
    assert not set(oids(connection)) & set(numbers)
    assert connection.execute("SELECT key FROM both_of_them").fetchall() == [(1,), (2,), (3,)]
    become(connection, role)
    assert connection.execute("SELECT key FROM both_of_them").fetchall() == [(1,), (2,), (3,)]
    connection.execute("RESET ROLE")
    roll_back(connection, dressed[1])
    assert columns(connection, "documents_current")["embedding"] == "vector"
    assert dresses(connection) == before
    assert spaces(connection) == ["v1"]


def test_the_outcome_and_the_warning_say_what_changes(connection, versions):
    connection.execute("CREATE VIEW titles AS SELECT id, title FROM documents_current")
    run, told = ConnectionRunner(connection), []
    terms = Terms(skip=SKIPPED, reason="a test")
    outcome = switch.cut_over(run, HERE, terms, tell=told.append)
    assert outcome["retyped"] == {"from": "vector", "to": "halfvec"}
    assert told == [
        (
            "The vector changes from vector to halfvec: public.documents_current, public.titles will be made anew, "
            "with the same owner, grants, comments, options and triggers, but under another OID, so a prepared "
            "statement that returns the vector fails (cached plan must not change result type) until it is prepared "
            "again, and who reads the vector in binary gets the other type."
        )
    ]
    back = switch.roll_back(run, HERE, terms, tell=told.append)
    assert (back["retyped"], len(told)) == ({"from": "halfvec", "to": "vector"}, 2)
    events = "SELECT detail -> 'retyped' FROM pgvmig.event WHERE verb = 'roll back' AND to_state = 'active'"
    assert connection.execute(events).fetchone() == ({"from": "halfvec", "to": "vector"},)


OBSTACLES = [
    ("CREATE MATERIALIZED VIEW kept AS SELECT id FROM documents_current", "materialized view public.kept"),
    (
        "CREATE FUNCTION best() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT min(id) FROM documents_current; END",
        "function public.best()",
    ),
    (
        "CREATE FUNCTION of_row(documents_current) RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        "function public.of_row(public.documents_current)",
    ),
    (
        ("CREATE TABLE other (id bigint); CREATE POLICY own ON other USING (id IN (SELECT id FROM documents_current))"),
        "policy own on table public.other",
    ),
    (
        "CREATE RULE noted AS ON DELETE TO documents_current DO INSTEAD NOTHING",
        "rule noted on view public.documents_current",
    ),
    ("CREATE TEMP VIEW mine AS SELECT id FROM documents_current", "temporary view mine"),
    (
        "CREATE VIEW first AS SELECT id FROM documents_current; CREATE TABLE rows (c first)",
        "column c of table public.rows",
    ),
]


def test_what_cannot_be_made_again_is_named_and_nothing_is_dropped(connection, versions):
    for statement, name in OBSTACLES:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
            before = connection.execute("SELECT pgvmig.view_identity('documents_current')").fetchone()
            with pytest.raises(psycopg.Error) as refused, connection.transaction():
                cut_over(connection, versions[1])
            assert (refused.value.sqlstate, refused.value.diag.message_primary) == (
                "PV004",
                (
                    "public.documents_current changes from vector to halfvec and must be made anew, and so must what "
                    f"cannot be: {name}"
                ),
            )
            assert refused.value.diag.message_hint.startswith("drop it or have it read the table, switch, and make it")
            assert connection.execute("SELECT pgvmig.view_identity('documents_current')").fetchone() == before
            assert spaces(connection) == ["v1"]


def test_a_view_that_only_takes_a_vector_is_named_and_everything_stays(connection, versions):
    connection.execute(
        "CREATE VIEW longest AS SELECT max(public.vector_norm(embedding)) AS length FROM documents_current"
    )
    connection.execute("CREATE VIEW over_it AS SELECT * FROM documents_current")
    with pytest.raises(psycopg.Error) as refused:
        cut_over(connection, versions[1])
    assert refused.value.sqlstate == "PV004"
    assert refused.value.diag.message_primary.startswith("public.longest cannot be made again over halfvec: function")
    assert spaces(connection) == spaces(connection, "over_it") == ["v1"]


def test_what_is_not_its_own_cannot_be_made_again_by_the_caller(connection, versions, role):
    connection.execute("CREATE VIEW theirs AS SELECT id FROM documents_current")
    grant(connection, role, "ALL ON ALL TABLES IN SCHEMA pgvmig", "USAGE ON SCHEMA pgvmig")
    become(connection, role)
    query = "SELECT pgvmig.retyping(v) -> 'obstacles' FROM pgvmig.version v WHERE version = 'v2'"
    assert connection.execute(query).fetchone()[0] == [
        f"view public.{name}, which belongs to {connection.info.user}" for name in ("documents_current", "theirs")
    ]


def test_prepared_statements_fail_until_they_are_prepared_again(connection, versions, database):
    reader = database.connect()
    reader.execute("PREPARE whole AS SELECT embedding FROM documents_current")
    reader.execute("PREPARE keys AS SELECT id FROM documents_current ORDER BY embedding <=> '[1,0,0,0]'")
    reader.execute("EXECUTE whole")
    cut_over(connection, versions[1])
    with pytest.raises(pg.FeatureNotSupported, match="cached plan must not change result type"):
        reader.execute("EXECUTE whole")
    assert reader.execute("EXECUTE keys").fetchall() == [(1,), (2,), (3,)]
    reader.execute("DEALLOCATE whole")
    reader.execute("PREPARE whole AS SELECT embedding FROM documents_current")
    assert len(reader.execute("EXECUTE whole").fetchall()) == 3


def test_columns_are_added_before_and_after_it_and_its_rollback(connection, versions):
    connection.execute("CREATE VIEW over_it AS SELECT id, embedding FROM documents_current")
    for number, step in enumerate((None, cut_over, roll_back), 1):
        if step is not None:
            step(connection, versions[1])
        connection.execute(f"ALTER TABLE documents ADD COLUMN extra_{number} int")
        connection.execute("SELECT pgvmig.refresh_views('documents')")
        for view in ("documents_v1", "documents_v2", "documents_current"):
            assert list(columns(connection, view))[-1] == f"extra_{number}"
    types = [columns(connection, view)["embedding"] for view in ("documents_v1", "documents_v2", "documents_current")]
    assert types == ["vector", "halfvec", "vector"]


# The plan of the current view


@pytest.fixture
def indexed(connection):
    """Two versions, complete and indexed, the first active."""
    run = ConnectionRunner(connection)
    for name, contract in (("v1", V1), ("v2", HALF)):
        version = add_version(connection, "documents", name, contract)
        unit = [1.0] + [0.0] * (version.contract.dimensions - 1)
        write(connection, version, {1: unit, 2: unit, 3: unit})
        indexing.build(run, address("documents", name))
    switch.cut_over(run, address("documents", "v1"), BUT_INDEX)
    return run, BUT_INDEX


@pytest.mark.layouts
def test_a_switch_whose_current_view_cannot_use_the_index_is_not_committed(connection, indexed):
    run, terms = indexed
    connection.execute("ALTER VIEW documents_current SET (security_barrier = true)")
    with pytest.raises(GateError) as refused:
        switch.cut_over(run, HERE, terms)
    assert refused.value.found.startswith("documents v2 is not ready: the planner cannot use public.documents_")
    assert refused.value.found.endswith("_hnsw for a search through public.documents_current")
    assert refused.value.next_step == (
        "compare the options of public.documents_current and public.documents_v2 (\\d+ in psql), or skip the gate index"
    )
    assert refused.value.data["gates"]["index"]["passed"] is False
    assert spaces(connection) == ["v1"]
    assert switch.cut_over(run, HERE, Terms(skip=SKIPPED, reason="no search goes there"))["changed"]
    with pytest.raises(GateError, match=r"documents v1 is not ready: the planner cannot use public\.documents_"):
        switch.roll_back(run, HERE, terms)
    connection.execute("ALTER VIEW documents_current RESET (security_barrier)")
    assert switch.roll_back(run, HERE, terms)["changed"]
    connection.execute("SET enable_seqscan = off")
    query = "SELECT id FROM documents_current ORDER BY embedding <=> '[1,0,0,0,0,0,0,0]' LIMIT 1"
    assert "hnsw" in plan(connection, query)


# The current view's dress, while there is no current view


def test_leaving_the_first_version_keeps_what_the_view_wore_for_the_next(connection, versions, role):
    roll_back(connection, versions[0])  # as it was made: for the table's readers
    connection.execute("SELECT pgvmig.cut_over('documents', 'v1', skip => %s, reason => 'a test')", [SKIPPED])
    grant(connection, role, "SELECT ON documents_current")
    grant(connection, "pg_monitor", "SELECT (id) ON documents_current")
    for statement in (
        "COMMENT ON VIEW documents_current IS 'searched'",
        "ALTER VIEW documents_current SET (security_barrier = true)",
        "ALTER VIEW documents_current RENAME TO searched",
        "CREATE FUNCTION accept() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER a_users INSTEAD OF UPDATE ON searched FOR EACH ROW EXECUTE FUNCTION accept()",
    ):
        connection.execute(statement)
    before = connection.execute("SELECT pgvmig.view_dress('searched')").fetchone()[0]
    roll_back(connection, versions[0])
    assert connection.execute("SELECT to_regclass('searched')").fetchone() == (None,)
    cut_over(connection, versions[1])
    assert connection.execute("SELECT pgvmig.view_dress('searched')").fetchone()[0] == before
    assert connection.execute("SELECT current_dress FROM pgvmig.slot").fetchone() == (None,)


def test_what_is_gone_meanwhile_is_left_out_with_a_warning(database, connection, versions):
    leaver = f"{connection.info.dbname}_leaver"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(leaver)))
    grant(connection, leaver, "SELECT ON documents_current")
    grant(connection, "pg_monitor", "SELECT ON documents_current")
    connection.execute("CREATE FUNCTION accept() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    connection.execute(
        "CREATE TRIGGER a_users INSTEAD OF UPDATE ON documents_current FOR EACH ROW EXECUTE FUNCTION accept()"
    )
    roll_back(connection, versions[0])
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(leaver)))
    connection.execute("DROP FUNCTION accept()")
    notices = []
    connection.add_notice_handler(lambda notice: notices.append((notice.severity, notice.message_primary)))
    cut_over(connection, versions[1])
    dress = connection.execute("SELECT pgvmig.view_dress('documents_current')").fetchone()[0]
    grantees = {g["grantee"] for g in dress["grants"]}
    assert "pg_monitor" in grantees
    assert leaver not in grantees
    assert [t["name"] for t in dress["triggers"]] == ["pgvmig_read_only"]
    (warning,) = [said for severity, said in notices if severity == "WARNING"]
    assert warning.startswith("public.documents_current is made again without what had been: CREATE TRIGGER a_users")


def test_a_switch_of_adopted_vectors_has_no_index_to_be_held_to(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text, embedding halfvec(4))")
    connection.execute("INSERT INTO documents VALUES (1, 'one', '[1,0,0,0]')")
    adopt_version(connection, "documents", "v1", "embedding", HALF)
    run = ConnectionRunner(connection)
    v2 = add_version(connection, "documents", "v2", V1)
    write(connection, v2, {1: ROW_1})
    indexing.build(run, HERE)
    terms = BUT_INDEX
    assert switch.cut_over(run, HERE, terms)["retyped"] == {"from": "halfvec", "to": "vector"}
    assert switch.roll_back(run, HERE, terms)["retyped"] == {"from": "vector", "to": "halfvec"}

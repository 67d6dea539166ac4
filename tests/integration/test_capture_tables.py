"""Capture on tables as they are: their keys, names, generated columns, collations, roles and search_path."""

import pytest
from lifecycle import add_version, embed, forget_stale, install, outcomes, record_outcome, stale
from psycopg import IsolationLevel, sql
from psycopg import errors as pg

from pgvmig.errors import ConflictError

pytestmark = pytest.mark.majors(18, 16)

ODD = 'select "from" ü.%s; --'


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    return connection


@pytest.fixture
def role(connection):
    """A role that owns nothing and has no rights."""
    name = f"{connection.info.dbname}_application"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    connection.execute("RESET ROLE")
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def exercise(connection, version, table, key):
    """Insert, update, change of key, delete: every one of them through a quoted name."""
    first, second = "1", ODD

    def run(statement):  # literals and not parameters: a percent sign in a name is a percent sign
        names = {"table": table, "key": sql.Identifier(key)}
        connection.execute(sql.SQL(statement).format(**names, first=sql.Literal(first), second=sql.Literal(second)))

    run("INSERT INTO {table} ({key}, body) VALUES ({first}, 'one')")
    assert stale(connection, version) == [first]
    forget_stale(connection, version)
    run("UPDATE {table} SET body = 'two'")
    assert stale(connection, version) == [first]
    record_outcome(connection, version, first, "failed", "two")
    run("UPDATE {table} SET {key} = {second}")
    assert (stale(connection, version), outcomes(connection, version)) == ([second], [])
    run("DELETE FROM {table} WHERE {key} = {second}")
    assert stale(connection, version) == []


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("smallint", 1, 2),
        ("int", 1, 2),
        ("bigint", 2**40, 2**41),
        ("numeric(20, 3)", "1.500", "2.500"),
        ("uuid", "00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ("text", "", ODD),
        ('text COLLATE "C"', "Ä", "\x01\t\n'\\"),
        ("varchar(10)", "a", "ab"),
        ("char(4)", "a   ", "ab  "),
        ("bytea", "\\x00", "\\xff"),
        ("date", "2024-01-25", "infinity"),
        ("timestamptz", "2024-01-25 00:00:00+00", "2024-01-25 00:00:00.000001+00"),
        ("inet", "10.0.0.1", "::1"),
        ("boolean", True, False),
        ("int[]", [1, 2], [1, 3]),
        ("mood", "sad", "glad"),
        ("positive", 1, 2),
    ],
)
def test_keys_are_kept_in_their_own_type(connection, kind, first, second):
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    connection.execute("CREATE DOMAIN positive AS int CHECK (value > 0)")
    connection.execute(f"CREATE TABLE documents (key {kind} PRIMARY KEY, body text)")
    version = add_version(connection, "documents", "v1")
    queue_type = """SELECT format_type(atttypid, atttypmod), attcollation FROM pg_attribute
                    WHERE attrelid = %s::regclass AND attname = %s"""
    assert (
        connection.execute(queue_type, ["documents", "key"]).fetchone()
        == connection.execute(queue_type, ["pgvmig.documents_v1_stale", "key_key"]).fetchone()
    )
    connection.execute("SET timezone = 'UTC'")
    as_text = sql.SQL("SELECT %s::{}::text").format(sql.SQL(kind.split(" COLLATE")[0]))
    texts = [connection.execute(as_text, [value]).fetchone()[0] for value in (first, second)]
    connection.execute(f"INSERT INTO documents VALUES (%s::{kind.split(' COLLATE')[0]}, 'one')", [first])
    stored = "SELECT array_agg(key_key::text) FROM pgvmig.documents_v1_stale"
    assert connection.execute(stored).fetchone() == ([texts[0]],)
    connection.execute(f"UPDATE documents SET key = %s::{kind.split(' COLLATE')[0]}", [second])
    assert connection.execute(stored).fetchone() == ([texts[1]],)
    connection.execute("DELETE FROM documents")
    assert stale(connection, version) == []


def test_composite_keys(connection):
    connection.execute(
        'CREATE TABLE documents (tenant uuid, "No" int, body text, lang text, PRIMARY KEY (lang, tenant, "No"))'
    )
    version = add_version(connection, "documents", "v1")
    assert version.key_columns == ["lang", "tenant", "No"]
    tenant = "00000000-0000-0000-0000-000000000001"
    connection.execute(
        "INSERT INTO documents (tenant, \"No\", lang) SELECT %s, i, 'de' FROM generate_series(1, 3) i", [tenant]
    )
    connection.execute('DELETE FROM documents WHERE "No" = 2')
    connection.execute("UPDATE documents SET lang = 'en' WHERE \"No\" = 3")
    assert [(lang, str(uuid), number) for lang, uuid, number in stale(connection, version)] == [
        ("de", tenant, 1),
        ("en", tenant, 3),
    ]


def test_a_unique_key_without_nulls_will_do(connection):
    connection.execute(
        "CREATE TABLE documents (a int NOT NULL, b int NOT NULL, c int UNIQUE, body text, UNIQUE (a, b))"
    )
    connection.execute("CREATE UNIQUE INDEX partial ON documents (a) WHERE a > 0")
    connection.execute("CREATE UNIQUE INDEX covering ON documents (b, a) INCLUDE (c)")
    assert add_version(connection, "documents", "v1").key_columns == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["Documents", "documents.v1", ODD, "Ärger mit ß", "user", "x" * 63, "é" * 31, "stale", "a b"]
)
def test_odd_names(connection, name):
    """Table, key and text column all bear it, in a schema that does as well."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    table = sql.Identifier(name, name)
    key = name[:40] + "k"
    body = name[:40] + "b"
    connection.execute(
        sql.SQL("CREATE TABLE {} ({} text PRIMARY KEY, {} text, body text)").format(
            table, sql.Identifier(key), sql.Identifier(body)
        )
    )
    expression = sql.SQL("coalesce({}, '') || {}.body").format(sql.Identifier(body), sql.Identifier(name))
    version = add_version(connection, name, "v1", {"input": expression.as_string(None)}, schema=name)
    assert (version.key_columns, version.view_schema) == ([key], name)
    exercise(connection, version, table, key)
    connection.execute(sql.SQL("UPDATE {} SET {} = 'changed'").format(table, sql.Identifier(body)))


def test_equal_names_in_two_schemas_are_two_targets(connection):
    connection.execute("CREATE SCHEMA app")
    versions = {}
    for schema in ("public", "app"):
        connection.execute(f"CREATE TABLE {schema}.documents (id int PRIMARY KEY, body text)")
        versions[schema] = add_version(connection, "documents", "v1", schema=schema)
    connection.execute("CREATE TABLE app_documents (id int PRIMARY KEY, body text)")
    versions["prefix"] = add_version(connection, "app_documents", "v1")
    connection.execute("INSERT INTO app.documents VALUES (1, 'one')")
    connection.execute("INSERT INTO app_documents VALUES (2, 'two')")
    assert {name: stale(connection, version) for name, version in versions.items()} == {
        "public": [],
        "app": [1],
        "prefix": [2],
    }


def test_renamed_columns_do_not_break_the_application(connection):
    connection.execute("CREATE TABLE documents (id int, tenant int, body text, PRIMARY KEY (id, tenant))")
    version = add_version(connection, "documents", "v1", {"input": "upper(body)"})
    connection.execute("ALTER TABLE documents RENAME body TO content")
    connection.execute("ALTER TABLE documents RENAME id TO number")
    connection.execute("INSERT INTO documents (number, tenant, content) VALUES (1, 1, 'one'), (2, 1, 'two')")
    forget_stale(connection, version)
    connection.execute("UPDATE documents SET content = 'changed' WHERE number = 1")
    assert stale(connection, version) == [(1, 1)]
    connection.execute("UPDATE documents SET number = 3 WHERE number = 1")
    connection.execute("DELETE FROM documents WHERE number = 2")
    assert stale(connection, version) == [(3, 1)]
    assert connection.execute("SELECT total, missing FROM pgvmig.coverage(1)").fetchone() == (1, 1)
    assert connection.execute("SELECT id, body FROM documents_v1").fetchall() == []  # the views keep their names


def test_a_renamed_table_is_still_followed(connection):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    version = add_version(connection, "documents", "v1")
    connection.execute("ALTER TABLE documents RENAME TO texts")
    connection.execute("INSERT INTO texts VALUES (1, 'one')")
    assert stale(connection, version) == [1]
    assert connection.execute("SELECT total FROM pgvmig.coverage(1)").fetchone() == (1,)


def test_a_column_that_the_input_reads_is_not_dropped_by_accident(connection):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)")
    add_version(connection, "documents", "v1", {"input": "title || body"}, columns=["id", "body"])
    with pytest.raises(pg.DependentObjectsStillExist, match="cannot drop column title of table documents"):
        connection.execute("ALTER TABLE documents DROP COLUMN title")


def test_generated_columns_as_input(connection):
    check_generated_input(connection, "STORED")


@pytest.mark.majors(18)  # the first with virtual columns
def test_virtual_columns_as_input(connection):
    check_generated_input(connection, "VIRTUAL")


def check_generated_input(connection, kind):
    connection.execute(
        "CREATE TABLE documents (id int PRIMARY KEY, title text, body text, "
        f"text text GENERATED ALWAYS AS (coalesce(title, '') || coalesce(body, '')) {kind})"
    )
    version = add_version(connection, "documents", "v1", {"input": "text"})
    connection.execute("INSERT INTO documents VALUES (1, 'one'), (2, 'two')")
    forget_stale(connection, version)
    connection.execute("UPDATE documents SET title = 'changed' WHERE id = 1")
    assert stale(connection, version) == [1]
    inputs = connection.execute("SELECT pgvmig.documents_v1_input(d) FROM documents d ORDER BY id").fetchall()
    assert inputs == [("changed",), ("two",)]


@pytest.mark.majors(18)  # one is enough; the embedded server has no ICU, and CI may not skip a test of 16
def test_texts_that_a_collation_calls_equal_are_two_texts(connection):
    try:
        connection.execute(
            "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except pg.FeatureNotSupported as error:
        pytest.skip(str(error))
    connection.execute("CREATE TABLE documents (id text COLLATE nocase PRIMARY KEY, body text COLLATE nocase)")
    version = add_version(connection, "documents", "v1")
    connection.execute("INSERT INTO documents VALUES ('a', 'text'), ('b', 'text')")
    forget_stale(connection, version)
    connection.execute("UPDATE documents SET body = 'TEXT' WHERE id = 'A'")
    assert stale(connection, version) == ["a"]
    connection.execute("UPDATE documents SET id = 'B' WHERE id = 'b'")
    assert stale(connection, version) == ["a", "B"]
    connection.execute("DELETE FROM documents WHERE id = 'b'")
    assert stale(connection, version) == ["a"]


def test_keys_that_are_handed_on_within_a_statement_stay_marked(connection):
    connection.execute(
        "CREATE TABLE documents (doc int, chunk int, body text, PRIMARY KEY (doc, chunk) DEFERRABLE INITIALLY DEFERRED)"
    )
    version = add_version(connection, "documents", "v1", {}, key=["doc", "chunk"])
    connection.execute("INSERT INTO documents SELECT 1, n, 'chunk ' || n FROM generate_series(1, 5) AS n")
    embed(connection, version)
    forget_stale(connection, version)
    connection.execute("UPDATE documents SET chunk = chunk + 1, body = body || ' edited'")
    assert sorted(set(stale(connection, version))) == [(1, n) for n in range(2, 7)]
    connection.execute("DELETE FROM documents")
    assert stale(connection, version) == []


def test_a_column_called_like_our_alias(connection):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text, d text, q text, entry text)")
    version = add_version(connection, "documents", "v1")
    connection.execute("INSERT INTO documents VALUES (1, 'one', 'd', 'q', 'e')")
    assert connection.execute("SELECT missing FROM pgvmig.coverage(%s)", [version.version_id]).fetchone() == (1,)


def test_inheritance_is_refused(connection):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    connection.execute("CREATE TABLE kid () INHERITS (documents)")
    with pytest.raises(ConflictError, match="documents inherits, or is inherited from"):
        add_version(connection, "documents", "v1")


def test_serializable_transactions_do_not_meet_in_the_log(connection, database):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    version = add_version(connection, "documents", "v1")
    connection.execute("INSERT INTO documents SELECT n, 'text' FROM generate_series(1, 1000) AS n; ANALYZE documents")
    one, two = (database.connect(autocommit=False) for _ in range(2))
    for session in (one, two):
        session.isolation_level = IsolationLevel.SERIALIZABLE
    for old, new, session in ((1, 100_000, one), (501, 900_000, two)):
        session.execute("DELETE FROM documents WHERE id = %s", [old])
        session.execute("INSERT INTO documents VALUES (%s, 'new')", [new])
    one.commit()
    two.commit()
    assert {100_000, 900_000} <= set(stale(connection, version))


def test_values_that_are_equal_and_read_differently_are_two_texts(connection):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, price numeric)")
    version = add_version(connection, "documents", "v1", {"input": "price::text"})
    connection.execute("INSERT INTO documents VALUES (1, 1.0), (2, 2.0)")
    forget_stale(connection, version)
    connection.execute("UPDATE documents SET price = CASE id WHEN 1 THEN 1.00 ELSE 2.0 END")
    assert stale(connection, version) == [1]


def test_the_application_needs_no_rights_on_pgvmig(connection, role):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    version = add_version(connection, "documents", "v1")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON documents TO {role}")
    connection.execute("UPDATE pgvmig.follower SET until = 'infinity'")
    connection.execute(f"SET ROLE {role}")
    connection.execute("INSERT INTO documents VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    connection.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    connection.execute("UPDATE documents SET id = 20 WHERE id = 2")
    connection.execute("DELETE FROM documents WHERE id = 3")
    for table in ("documents_v1_stale", "stale_row", "event", "backfill"):
        with pytest.raises(pg.InsufficientPrivilege):
            connection.execute(f"SELECT FROM pgvmig.{table}")
    connection.execute("RESET ROLE")
    assert stale(connection, version) == [1, 1, 20]
    connection.execute(f"SET ROLE {role}")
    connection.execute("TRUNCATE documents")
    connection.execute("RESET ROLE")
    assert stale(connection, version) == []


def test_nobody_puts_our_triggers_on_a_table_of_his_own(connection, role):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    version = add_version(connection, "documents", "v1")
    connection.execute("INSERT INTO documents VALUES (1, 'one')")
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    connection.execute(f"SET ROLE {role}")
    connection.execute("CREATE TABLE mine (id int)")
    with pytest.raises(pg.InsufficientPrivilege, match="documents_v1_capture"):
        connection.execute(
            "CREATE TRIGGER t AFTER TRUNCATE ON mine EXECUTE FUNCTION pgvmig.documents_v1_capture('forget')"
        )
    for call in ("mark", "forget"):
        with pytest.raises(pg.InsufficientPrivilege):
            connection.execute(f"SELECT pgvmig.documents_v1_{call}(NULL)")
    connection.execute("RESET ROLE")
    assert stale(connection, version) == [1]


def test_an_operator_in_the_tables_schema_does_not_run_with_our_rights(connection, role):
    """PostgreSQL compares varchar as text, so an operator for varchar itself would be the better match."""
    connection.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    connection.execute(f"SET ROLE {role}")
    connection.execute(
        "CREATE FUNCTION same(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$"
    )
    connection.execute("CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = same)")
    connection.execute("RESET ROLE")
    connection.execute("CREATE TABLE documents (path varchar(40) PRIMARY KEY, body text)")
    version = add_version(connection, "documents", "v1")
    connection.execute("INSERT INTO documents VALUES ('a', 'one'), ('b', 'two')")
    connection.execute("UPDATE documents SET path = 'c' WHERE path::text = 'a'")
    connection.execute("DELETE FROM documents WHERE path::text = 'b'")
    assert stale(connection, version) == ["c"]


@pytest.fixture
def hostile(connection):
    """A schema with our functions' and tables' names, and PostgreSQL's, that fail when they are used."""
    connection.execute("CREATE SCHEMA hostile")
    for function in (
        "pg_notify(text, text)", "sha256(bytea)", "convert_to(text, name)", "clock_timestamp()", "upper(text)",
        "record_image_ne(record, record)", "int4eq(int, int)", "format(text, text, text)", "figure(bigint)",
        "set_config(text, text, boolean)", "current_setting(text)", "pg_sleep(float8)", "fit(text)",
    ):  # fmt: skip
        connection.execute(
            f"CREATE FUNCTION hostile.{function} RETURNS boolean LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'hostile'; END $$"
        )
    connection.execute("CREATE OPERATOR hostile.= (FUNCTION = hostile.int4eq, LEFTARG = int, RIGHTARG = int)")
    for table in ("documents", "version", "backfill", "pg_class", "pg_attribute", "documents_v1_stale", "vector"):
        connection.execute(f"CREATE TABLE hostile.{table} (id text)")
    return "hostile, public, pg_catalog"


def test_an_application_with_a_hostile_search_path(connection, hostile):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    version = add_version(connection, "documents", "v1", {"input": "upper(body)"})
    connection.execute("UPDATE pgvmig.follower SET until = 'infinity'")
    connection.execute(f"SET search_path = {hostile}")
    connection.execute("INSERT INTO public.documents VALUES (1, 'one')")
    connection.execute("UPDATE public.documents SET body = 'two'")
    assert stale(connection, version) == [1, 1]
    connection.execute("DELETE FROM public.documents")
    assert stale(connection, version) == []
    connection.execute("SELECT pgvmig.cut_over('public.documents', 'v1')")
    assert connection.execute("SELECT version FROM pgvmig.active_space('public.documents')").fetchone() == ("v1",)
    assert connection.execute("SELECT pgvmig.route('public.documents', '1')").fetchone() == ("v1",)
    assert connection.execute("SHOW search_path").fetchone() == (hostile,)


@pytest.mark.parametrize("path", ["hostile, public", "hostile", ""])
def test_adding_with_a_hostile_or_empty_search_path(connection, hostile, path):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    connection.execute("SELECT set_config('search_path', %s, false)", [path])
    version = add_version(connection, "documents", "v1", {"input": "upper(body)"}, schema="public")
    connection.execute("INSERT INTO public.documents VALUES (1, 'one')")
    assert stale(connection, version) == [1]
    assert connection.execute("SHOW search_path").fetchone() == (path,)

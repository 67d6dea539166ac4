"""The input expression: what is refused, with the way out, and that nothing can be smuggled in."""

from hashlib import sha256

import pytest
from lifecycle import CONTRACT, add_version, install
from psycopg import errors as pg

from pgvmig.errors import InputExpressionError

pytestmark = pytest.mark.majors(18, 16)

HAZARD = (
    "The same row could give another text later, and then nobody can tell stale rows from fresh ones. "
    "Not immutable here: "
)
CONCAT = "write coalesce(title, '') || ' ' || coalesce(body, '') instead of concat_ws(' ', title, body)"
JOINED = "keep the joined text in a column of its own, or wrap array_to_string() over text[] in an IMMUTABLE function"
SETTINGS = "an enum's or a date's text depends on settings: spell it out with CASE, or use an IMMUTABLE function"
EXAMPLE = "input is an SQL expression over one row, such as coalesce(title, '') || ' ' || body"


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'glad')")
    connection.execute(
        "CREATE TABLE documents (id int PRIMARY KEY, title text, body text, tags text[], mood mood, "
        "written timestamptz, meta jsonb)"
    )
    return connection


def refusal(connection, expression):
    before = connection.execute("SELECT count(*) FROM pg_class").fetchone()
    with pytest.raises(InputExpressionError) as error:
        add_version(connection, "documents", "v1", {"input": expression})
    assert connection.execute("SELECT count(*) FROM pg_class").fetchone() == before
    assert connection.execute("SELECT count(*) FROM pgvmig.version").fetchone() == (0,)
    return str(error.value)


@pytest.mark.parametrize(
    ("expression", "culprits", "rewrite"),
    [
        ("concat_ws(' ', title, body)", "concat_ws()", CONCAT),
        ("format('%s %s', title, body)", "format()", CONCAT),
        (
            "array_to_string(tags, ' ')",
            "array_to_string()",
            JOINED,
        ),
        ("body || now()", "now()", SETTINGS),
        ("body || random() || clock_timestamp()", "clock_timestamp(), random()", SETTINGS),
        ("mood::text", "a cast or an operator", SETTINGS),
        ("written::text", "a cast or an operator", SETTINGS),
        ("upper(documents::text) || body", "a cast or an operator", SETTINGS),
    ],
)
def test_what_is_not_immutable_is_refused_with_the_rewrite(connection, expression, culprits, rewrite):
    assert refusal(connection, expression) == (
        f"the input of documents is not immutable: {expression}. {HAZARD}{culprits}. Next: {rewrite}"
    )


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("titel", 'column "titel" does not exist'),
        ("title ||", 'syntax error at or near ")"'),
        ("shout(body)", "function shout(text) does not exist"),
        ("count(body)", "aggregate functions are not allowed in index expressions"),
        ("(SELECT body)", "cannot use subquery in index expression"),
        ("row_number() OVER () || body", "window functions are not allowed in index expressions"),
        ("'a' || 1 / 0 || body", "division by zero"),
    ],
)
def test_what_does_not_run_is_refused(connection, expression, complaint):
    assert refusal(connection, expression) == (
        f"the input of documents does not run: {expression} ({complaint}). Next: {EXAMPLE}"
    )


@pytest.mark.parametrize("expression", ["'constant'", "1 + 1", "'a' || 1"])
def test_what_reads_no_column_is_refused(connection, expression):
    assert refusal(connection, expression) == (
        f"the input of documents reads no column: {expression}. Next: name the columns whose text should be embedded"
    )


@pytest.mark.parametrize(
    "expression",
    [
        "body) FROM documents; DROP TABLE secrets; --",
        "body); DROP TABLE secrets; SELECT (body",
        "body)::text FROM documents UNION SELECT (secret",
        "body)::text, (title",
        "body FROM secrets) --",
        "body --",
        "body /*",
        "body), (title",
        "body))) ; DROP TABLE secrets; --",
        "(SELECT secret FROM secrets LIMIT 1) || body",
        "body' || '",
        "$$ || body",
    ],
)
def test_nothing_can_be_smuggled_in(connection, expression):
    connection.execute("CREATE TABLE secrets (secret text)")
    assert refusal(connection, expression).startswith("the input of documents ")
    assert connection.execute("SELECT to_regclass('secrets') IS NOT NULL").fetchone() == (True,)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("body", "it's 100 % \\ $1 {x}"),
        ("coalesce(title, '') || E'\\n' || body", "\nit's 100 % \\ $1 {x}"),
        ("documents.body", "it's 100 % \\ $1 {x}"),
        ("body || ' %s %(x)s 100 % {braces} $$ $1 it''s'", "it's 100 % \\ $1 {x} %s %(x)s 100 % {braces} $$ $1 it's"),
        ("CASE mood WHEN 'sad' THEN 'low' ELSE 'high' END", "low"),
        ("meta ->> 'a'", "1"),
        ("id", "1"),
        ("title", ""),
        ("shout(body)", "IT'S 100 % \\ $1 {X}"),
    ],
)
def test_what_is_taken_gives_its_text(connection, expression, text):
    """NULL counts as the empty text; functions of the table's own schema are found."""
    connection.execute("CREATE FUNCTION shout(text) RETURNS text IMMUTABLE LANGUAGE sql RETURN upper($1)")
    connection.execute(
        "INSERT INTO documents VALUES (1, NULL, %s, NULL, 'sad', NULL, '{\"a\": 1}')", ["it's 100 % \\ $1 {x}"]
    )
    add_version(connection, "documents", "v1", {"input": expression})
    assert connection.execute("SELECT pgvmig.documents_v1_input(d) FROM documents d").fetchone() == (text,)


def test_the_callers_search_path_is_not_searched(connection):
    connection.execute("CREATE SCHEMA elsewhere")
    connection.execute("CREATE FUNCTION elsewhere.shout(text) RETURNS text IMMUTABLE LANGUAGE sql RETURN upper($1)")
    connection.execute("SET search_path = elsewhere, public")
    assert "function shout(text) does not exist" in refusal(connection, "shout(body)")
    add_version(connection, "documents", "v1", {"input": "elsewhere.shout(body)"})
    assert connection.execute("SHOW search_path").fetchone() == ("elsewhere, public",)


def test_the_hash_is_of_the_text_as_utf8(connection):
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'Käse 𝄞')")
    add_version(connection, "documents", "v1", CONTRACT)
    row = connection.execute("SELECT pgvmig.source_hash(pgvmig.documents_v1_input(d)) FROM documents d").fetchone()
    assert row == (sha256("Käse 𝄞".encode()).digest(),)


def test_a_function_that_says_immutable_is_believed_and_kept(connection):
    connection.execute(
        "CREATE FUNCTION joined(text[]) RETURNS text IMMUTABLE LANGUAGE sql RETURN array_to_string($1, ' ')"
    )
    add_version(connection, "documents", "v1", {"input": "joined(tags)"})
    with pytest.raises(pg.DependentObjectsStillExist):
        connection.execute("DROP FUNCTION joined")

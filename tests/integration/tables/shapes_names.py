"""Shapes by what tables, columns and schemas are called, and where names are looked for."""

from __future__ import annotations

from shape import Row, Shape

# Whoever may create objects in a schema that is searched first could have statements of ours run them.
HOSTILE = """
CREATE SCHEMA evil; CREATE SCHEMA app;
CREATE TABLE evil.documents (id bigint PRIMARY KEY, body text, n int);
INSERT INTO evil.documents VALUES (1, 'evil', 1);
CREATE FUNCTION evil.hit() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE ''evil''; END';
CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE ''evil sha256''; END';
CREATE FUNCTION evil.source_hash(text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE ''evil hash''; END';
CREATE FUNCTION evil.equal(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''evil =''; END';
CREATE OPERATOR evil.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = evil.equal);
CREATE DOMAIN evil.vector AS text CHECK (false);
CREATE TABLE evil.version (x int); CREATE TABLE evil.slot (x int);
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = evil, app, public', current_database()); END $$;
SET search_path = evil, app, public;
"""

NAMES = [
    Shape(
        name="quoted",
        rows=[
            Row("Keys", "`text` and `varchar`, with collations", "any characters in the values"),
            Row("Names", "mixed case, spaces, quotes, dots, percent signs, braces, backslashes"),
        ],
        before='CREATE SCHEMA "My App.x"',
        schema="My App.x",
        table="Docs \"100%\" {x}.'b' \\$capture$",
        columns='"Id %s" text COLLATE "C", "k.{} ""q""" varchar(20) COLLATE "POSIX", '
        'PRIMARY KEY ("k.{} ""q""", "Id %s")',
        values={"Id %s": r"""'{"k\''' || i || ',%s''}'""", 'k.{} "q"': "i % 2"},
        rekey='"Id %s" = "Id %s" || \'%\', "k.{} ""q""" = upper("k.{} ""q""" || \'é\')',
        number="N (%)",
        body='Body "%s" {}',
        slot='Slot 5% "x"',
    ),
    Shape(
        name="reserved",
        rows=[Row("Names", "reserved words"), Row("Names", "non-ASCII letters")],
        before='CREATE SCHEMA "select"',
        schema="select",
        table="order",
        columns='"user" bigint, "ключ" int, PRIMARY KEY ("user", "ключ")',
        values={"user": "i", "ключ": "i"},
        rekey='"user" = "user" + 1000',
        number="número",
        body="टेक्स्ट",
        slot="вложение文書",
    ),
    Shape(
        name="long",
        rows=[
            Row("Keys", "several columns of several types"),
            Row("Names", "63 bytes, in every place", "names made from them are cut and end in a hash"),
        ],
        before=f"CREATE SCHEMA {'s' * 63}",
        schema="s" * 63,
        table="文" * 21,
        columns=f"tenant uuid, {'k' * 62}1 bigint, {'k' * 62}2 text, PRIMARY KEY (tenant, {'k' * 62}1, {'k' * 62}2)",
        values={"tenant": "md5((i % 3)::text)::uuid", "k" * 62 + "1": "i", "k" * 62 + "2": "'k' || i % 2"},
        rekey=f"tenant = md5({'n' * 63}::text)::uuid, {'k' * 62}1 = {'k' * 62}1 + 1000",
        number="n" * 63,
        body="b" * 63,
        slot="é" * 31,
    ),
    Shape(
        name="same-as-ours",
        rows=[Row("Names", "names that pgvmig uses itself"), Row("Names", "a schema that is not on the `search_path`")],
        before="CREATE SCHEMA app",
        schema="app",
        table="version",
        columns="key_id bigint, version_id int, d text, PRIMARY KEY (key_id, version_id, d)",
        values={"key_id": "i", "version_id": "i", "d": "i"},
        rekey="key_id = key_id + 1000",
        number="e",
        body="input",
        slot="vector",
    ),
    Shape(
        name="hostile-path",
        rows=[
            Row(
                "Names",
                "a hostile `search_path`",
                "a table, functions, operators and types of the same names in a schema that is searched first",
            )
        ],
        before=HOSTILE,
        schema="app",
        columns="id varchar(20) PRIMARY KEY",
        values={"id": "'k' || i"},
        rekey="id = id || 'x'",
    ),
]

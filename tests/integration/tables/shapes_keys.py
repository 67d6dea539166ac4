"""Shapes by what identifies a row, with some by their columns."""

from __future__ import annotations

from shape import Row, Shape

# A base type outside of pg_catalog with operators of its own, as citext is: nothing of it is found without its schema.
CASELESS = r"""
CREATE SCHEMA types;
CREATE TYPE types.caseless;
CREATE FUNCTION types.caseless_in(cstring) RETURNS types.caseless LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION types.caseless_out(types.caseless) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE FUNCTION types.caseless_receive(internal) RETURNS types.caseless LANGUAGE internal STABLE STRICT AS 'textrecv';
CREATE FUNCTION types.caseless_send(types.caseless) RETURNS bytea LANGUAGE internal STABLE STRICT AS 'textsend';
CREATE TYPE types.caseless (INPUT = types.caseless_in, OUTPUT = types.caseless_out, RECEIVE = types.caseless_receive,
    SEND = types.caseless_send, INTERNALLENGTH = VARIABLE, STORAGE = extended);
CREATE CAST (types.caseless AS text) WITHOUT FUNCTION;
CREATE CAST (text AS types.caseless) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE FUNCTION types.compared(types.caseless, types.caseless) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
    RETURN bttextcmp(lower($1::text COLLATE "C"), lower($2::text COLLATE "C"));
CREATE FUNCTION types.less(types.caseless, types.caseless) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
    RETURN lower($1::text COLLATE "C") < lower($2::text COLLATE "C");
CREATE FUNCTION types.less_or_equal(types.caseless, types.caseless) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
    RETURN lower($1::text COLLATE "C") <= lower($2::text COLLATE "C");
CREATE FUNCTION types.equal(types.caseless, types.caseless) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
    RETURN lower($1::text COLLATE "C") = lower($2::text COLLATE "C");
CREATE FUNCTION types.greater_or_equal(types.caseless, types.caseless) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
    RETURN lower($1::text COLLATE "C") >= lower($2::text COLLATE "C");
CREATE FUNCTION types.greater(types.caseless, types.caseless) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
    RETURN lower($1::text COLLATE "C") > lower($2::text COLLATE "C");
CREATE OPERATOR types.< (LEFTARG = types.caseless, RIGHTARG = types.caseless, FUNCTION = types.less);
CREATE OPERATOR types.<= (LEFTARG = types.caseless, RIGHTARG = types.caseless, FUNCTION = types.less_or_equal);
CREATE OPERATOR types.= (LEFTARG = types.caseless, RIGHTARG = types.caseless, FUNCTION = types.equal, MERGES);
CREATE OPERATOR types.>= (LEFTARG = types.caseless, RIGHTARG = types.caseless, FUNCTION = types.greater_or_equal);
CREATE OPERATOR types.> (LEFTARG = types.caseless, RIGHTARG = types.caseless, FUNCTION = types.greater);
CREATE OPERATOR CLASS types.caseless_ops DEFAULT FOR TYPE types.caseless USING btree AS
    OPERATOR 1 types.<, OPERATOR 2 types.<=, OPERATOR 3 types.=, OPERATOR 4 types.>=, OPERATOR 5 types.>,
    FUNCTION 1 types.compared(types.caseless, types.caseless);
"""

KEYS = [
    Shape(
        name="identity",
        rows=[
            Row("Keys", "`int`, `GENERATED ALWAYS AS IDENTITY`"),
            Row("Columns", "stored generated columns, also as the input"),
        ],
        columns="id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text DEFAULT 'T', "
        "whole text GENERATED ALWAYS AS (coalesce(body || '', '')) STORED",
        values={},
        rekey="id = DEFAULT",
        input="whole",
    ),
    Shape(
        name="uuid",
        rows=[
            Row("Keys", "`uuid`"),
            Row("Columns", "virtual generated columns, also as the input", "PostgreSQL 18"),
        ],
        columns="id uuid PRIMARY KEY, whole text GENERATED ALWAYS AS (coalesce(body || '', '')) VIRTUAL",
        values={"id": "md5(i::text)::uuid"},
        rekey="id = gen_random_uuid()",
        input="whole",
        major=18,
    ),
    Shape(
        name="extension-type",
        rows=[
            Row(
                "Keys",
                "a type of an extension in a schema that is not on the `search_path`",
                "such as citext: keys that differ in case only are the same key",
            )
        ],
        before=CASELESS,
        columns="id types.caseless PRIMARY KEY",
        values={"id": "('Key ' || i)::types.caseless"},
        rekey="id = CASE WHEN id::text = upper(id::text) THEN lower(id::text) ELSE upper(id::text) END::types.caseless",
    ),
    Shape(
        name="built-in-types",
        rows=[
            Row("Keys", "`numeric`, `float8`, `money`, `boolean`"),
            Row("Keys", "`date`, `timestamp`, `timestamptz`, `time`, `interval`", "BC and infinity too"),
            Row("Keys", '`bytea`, `bit`, `inet`, `oid`, `name`, `"char"`, `char(n)`'),
        ],
        columns="number numeric, f float8, y money, t boolean, day date, at timestamptz, local timestamp, hour time, "
        'length interval, b bytea, v bit(8), i inet, o oid, m name, c "char", p char(6), '
        "PRIMARY KEY (number, f, y, t, day, at, local, hour, length, b, v, i, o, m, c, p)",
        values={
            "number": "i + 0.50",
            "f": "CASE i WHEN 3 THEN 'NaN' WHEN 5 THEN '-Infinity' ELSE 1.0 / (i * 3e-9) END::float8",
            "y": "i::money",
            "t": "i % 2 = 0",
            "day": "CASE i WHEN 7 THEN 'infinity' ELSE date '0044-03-15 BC' + i END",
            "at": "timestamptz '2024-03-31 00:59:59.999999+00' + i * interval '13 minutes 1 microsecond'",
            "local": "timestamp '2024-10-27 02:30:00' + i * interval '1 month'",
            "hour": "time '23:59:59.5' - i * interval '1 second'",
            "length": "i * interval '-1 month 3 days 04:05:06.789'",
            "b": r"decode('00ff5c22' || lpad(to_hex(i), 2, '0'), 'hex')",
            "v": "i::bit(8)",
            "i": "inet '10.0.0.0/8' + i",
            "o": "i",
            "m": "'n' || i",
            "c": 'chr(33 + i)::"char"',
            "p": "'p' || i",
        },
        rekey=r"number = trim_scale(number) * 1.000000000000000000001, f = -f, t = NOT t, "
        r"at = at + interval '1 microsecond', length = -length, b = b || '\x00', p = p || 'x'",
    ),
    Shape(
        name="own-types",
        rows=[
            Row("Keys", "enums and domains, in another schema"),
            Row("Keys", "arrays, ranges, `jsonb`, row types"),
        ],
        before="CREATE SCHEMA types; CREATE TYPE types.kind AS ENUM ('a b', 'É'); "
        "CREATE DOMAIN types.code AS varchar(30) COLLATE \"C\" CHECK (value <> ''); "
        'CREATE DOMAIN types."Row No." AS bigint NOT NULL; CREATE TYPE types.pair AS (a int, b text)',
        columns='kind types.kind, code types.code, "row" types."Row No.", a text[], r int4range, j jsonb, '
        'p types.pair, PRIMARY KEY (kind, code, "row", a, r, j, p)',
        values={
            "kind": "(CASE i % 2 WHEN 0 THEN 'a b' ELSE 'É' END)::types.kind",
            "code": "'c' || i",
            "row": "i",
            "a": "ARRAY['x,\"' || i, NULL, '']",
            "r": "int4range(i, i + 3)",
            "j": r"jsonb_build_object('k', i, 'l', '\"')",
            "p": "ROW(i, NULL)::types.pair",
        },
        rekey="kind = CASE kind WHEN 'a b' THEN 'É' ELSE 'a b' END::types.kind, code = code || '!', "
        r"""a = a || ARRAY['y'], r = int4range(upper(r), NULL), p = ROW((p).a, '"\,')::types.pair""",
    ),
    Shape(
        name="unique",
        rows=[
            Row("Keys", "no primary key, a unique one that is NOT NULL"),
            Row("Around the table", "publications with column lists and row filters, `REPLICA IDENTITY USING INDEX`"),
        ],
        columns="id bigint NOT NULL, other bigint UNIQUE, CONSTRAINT ident UNIQUE (id)",
        after="ALTER TABLE documents REPLICA IDENTITY USING INDEX ident; "
        "CREATE PUBLICATION docs FOR TABLE documents (id, n, body) WHERE (id > 5)",
    ),
    Shape(
        name="unique-include",
        rows=[
            Row("Keys", "a unique index with `INCLUDE`, an operator class, `DESC`"),
            Row("Columns", "`fillfactor`, storage parameters, `CLUSTER`ed"),
        ],
        columns="id text NOT NULL, kind text NOT NULL",
        options="WITH (fillfactor = 50, autovacuum_enabled = false, toast_tuple_target = 256)",
        after="CREATE UNIQUE INDEX ident ON documents (kind text_pattern_ops, id DESC) INCLUDE (n); "
        "CLUSTER documents USING ident",
        values={"id": "i", "kind": "'k' || i % 2"},
        rekey="id = id || 'x', kind = kind || '%'",
    ),
    Shape(
        name="primary-include",
        rows=[
            Row("Keys", "a primary key with `INCLUDE`"),
            Row(
                "Columns",
                "very many columns",
                "PostgreSQL's limit is 1,600; dropped ones count, and each version of the column layout adds four",
            ),
        ],
        columns="id bigint, PRIMARY KEY (id) INCLUDE (n), " + ", ".join(f"c{i} int" for i in range(400)),
        rekey="id = id + 1000, c399 = n",
    ),
    Shape(
        name="deferrable",
        rows=[
            Row("Keys", "a deferrable key", "rows may exchange their keys within a transaction"),
            Row("Columns", "long values, TOASTed in every way"),
        ],
        columns="id bigint PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, other text, packed bytea",
        after="ALTER TABLE documents ALTER body SET STORAGE EXTERNAL, ALTER other SET COMPRESSION pglz",
        values={
            "id": "i * 1000",
            "other": "repeat(md5(i::text), 500)",
            "packed": "decode(repeat(md5(i::text), 300), 'hex')",
        },
        text="repeat('passage ' || i || ' ', 400)",
        rekey="id = id + 7",
        write="UPDATE documents SET id = (SELECT id FROM documents WHERE n = 13 - d.n) FROM documents AS d "
        "WHERE documents.n = d.n AND d.n IN (6, 7)",
    ),
    Shape(
        name="named-key",
        rows=[
            Row("Keys", "another unique key than the primary one, with `key=`"),
            Row("Columns", "types without equality, defaults, NOT NULL, checks (also NOT VALID), dropped columns"),
        ],
        columns="gone text, id bigint PRIMARY KEY, slug text NOT NULL UNIQUE, j json DEFAULT '{}', x xml, p point, "
        "tags text[] NOT NULL DEFAULT '{}', CHECK (id > 0 AND n IS NOT NULL), "
        "CONSTRAINT short CHECK (length(body) < 1000) NOT VALID",
        after="ALTER TABLE documents DROP gone; ALTER TABLE documents ADD late text NOT NULL DEFAULT 'late'; "
        "CREATE INDEX ON documents USING gin (to_tsvector('simple', body)); "
        "CREATE STATISTICS s ON n, late FROM documents; "
        "COMMENT ON TABLE documents IS 'ours'; COMMENT ON COLUMN documents.body IS 'our text'",
        values={"id": "i", "slug": "'s' || i"},
        rekey="slug = slug || 'x', id = id + 1000",
        key=("slug",),
    ),
]

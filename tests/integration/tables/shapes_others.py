"""Shapes by their texts, by what hangs on them, and by who may see what."""

from __future__ import annotations

from shape import Row, Shape

TEXTS = r"""CASE i WHEN 1 THEN '' WHEN 2 THEN 'x' WHEN 3 THEN repeat('long ', 20000)
    WHEN 5 THEN U&'\0001\001F\007F\0085' WHEN 6 THEN U&'\FFFD and \2400' WHEN 7 THEN U&'\+01F469\200D\+01F52C \+01F600'
    WHEN 9 THEN U&'\202E\05E9\05DC\05D5\05DD \0639\0631\0628' WHEN 10 THEN U&'e\0301 n\0303 Zalgo\0336\0489'
    WHEN 11 THEN U&'\3000\00A0\2003' WHEN 12 THEN E'\n\t ' WHEN 14 THEN '{"a": "%s \\ $1"}' WHEN 15 THEN '''"\,{}'
    WHEN 16 THEN U&'\FEFFbyte order mark' WHEN 17 THEN U&'\+10FFFF\FFFE' ELSE 'passage ' || i END"""

AROUND = [
    Shape(
        name="texts",
        rows=[
            Row("Keys", "`bigint`"),
            Row("Columns", "inputs of 0, 1 and 100,000 characters", "empty and blank ones get an outcome, no vector"),
            Row("Columns", "control characters, emoji, right-to-left, combining characters, only white space"),
            Row(
                "Around the table",
                "a `PUBLICATION … FOR ALL TABLES`, `REPLICA IDENTITY FULL`",
                "[refused](layouts.md#published-tables) until its subscribers are prepared",
            ),
        ],
        after="ALTER TABLE documents REPLICA IDENTITY FULL; CREATE PUBLICATION everything FOR ALL TABLES",
        text=TEXTS,
        prepared=True,
    ),
    Shape(
        name="typed",
        rows=[Row("Columns", "a typed table (`CREATE TABLE … OF`)")],
        create="CREATE TYPE document AS (id bigint, n int, body text); "
        "CREATE TABLE documents OF document (PRIMARY KEY (id))",
        refused={
            "column": "documents has its columns from type document (CREATE TABLE ... OF). PostgreSQL adds no column "
            'to such a table. Next: use layout="table", or ALTER TABLE "public"."documents" NOT OF'
        },
    ),
    Shape(
        name="triggers",
        rows=[
            Row(
                "Around the table",
                "triggers: one that changes the text, `updated_at`, an audit log, constraint triggers, `UPDATE OF`",
                "in the column layout every batch fires them: see `pgvmig plan`",
            )
        ],
        before="CREATE TABLE audit (at timestamptz DEFAULT now(), id bigint, body text)",
        columns="id bigint PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT now(), seen int DEFAULT 0",
        after="""
            CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN NEW.body := replace(NEW.body, ''passage'', ''tidied''); RETURN NEW; END';
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN NEW.updated_at := clock_timestamp(); NEW.seen := NEW.seen + 1; RETURN NEW; END';
            CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN INSERT INTO audit (id, body) VALUES (NEW.id, NEW.body); RETURN NULL; END';
            CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''never''; END';
            CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION tidy();
            CREATE TRIGGER zz_touch BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE TRIGGER audited AFTER INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION audited();
            CREATE TRIGGER never BEFORE UPDATE OF seen ON documents FOR EACH ROW EXECUTE FUNCTION forbid();
            CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON documents DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW WHEN (NEW.id < 0) EXECUTE FUNCTION forbid()""",
        touched=("updated_at", "seen"),
    ),
    Shape(
        name="guarded",
        rows=[
            Row(
                "Around the table",
                "a trigger that refuses to have some rows updated",
                "in the column layout those rows are [recorded as failed](#rows-that-cannot-be-updated)",
            )
        ],
        after="""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN RAISE ''row % is closed'', OLD.id; END';
            CREATE TRIGGER closed BEFORE UPDATE ON documents FOR EACH ROW
                WHEN (OLD.body IS NOT DISTINCT FROM NEW.body AND OLD.id = NEW.id AND OLD.n % 3 <> 0 AND OLD.body <> '')
                EXECUTE FUNCTION refuse()""",
        failed={"column": "PostgreSQL refused the row: row 1 is closed"},
    ),
    Shape(
        name="rules",
        rows=[Row("Around the table", "a rule `ON UPDATE DO ALSO`"), Row("Around the table", "exclusion constraints")],
        before="CREATE TABLE log (id bigint)",
        columns="id bigint PRIMARY KEY, span int4range, EXCLUDE USING gist (span WITH &&)",
        after="CREATE RULE logged AS ON UPDATE TO documents DO ALSO INSERT INTO log VALUES (OLD.id)",
        values={"id": "i", "span": "int4range(i * 10, i * 10 + 5)"},
        rekey="id = id + 1000, span = int4range(lower(span) + 100000, upper(span) + 100000)",
    ),
    Shape(
        name="foreign-keys",
        rows=[Row("Around the table", "foreign keys in and out, `ON DELETE CASCADE`, `ON UPDATE CASCADE`")],
        before="CREATE TABLE authors (id int PRIMARY KEY); INSERT INTO authors SELECT generate_series(0, 900)",
        columns="author int REFERENCES authors ON DELETE CASCADE ON UPDATE CASCADE, id bigint, "
        "PRIMARY KEY (author, id)",
        after="CREATE TABLE comments (author int, id bigint, parent bigint, text text, "
        "FOREIGN KEY (author, id) REFERENCES documents ON DELETE CASCADE ON UPDATE CASCADE); "
        "CREATE FUNCTION comment() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO comments VALUES (NEW.author, NEW.id); RETURN NULL; END'; "
        "CREATE TRIGGER comment AFTER INSERT ON documents FOR EACH ROW EXECUTE FUNCTION comment()",
        values={"author": "i", "id": "i"},
        write="WITH gone AS (DELETE FROM authors WHERE id = (SELECT min(author) FROM documents WHERE n > 10)) "
        "UPDATE authors SET id = id + 10000 WHERE id IN (SELECT author FROM documents WHERE n IN (5, 6))",
    ),
    Shape(
        name="dependents",
        rows=[
            Row(
                "Around the table",
                "views, materialised views and functions over the table, its row type in other tables",
                "see [functions that return its rows](#functions-that-return-the-tables-rows)",
            ),
            Row("Rights", "grants of single columns", "they stay; views are granted to readers of the whole table"),
        ],
        before="CREATE ROLE {a}; CREATE ROLE {b}",
        columns="id bigint PRIMARY KEY, secret text",
        after="""
            GRANT SELECT (id, n), UPDATE (body) ON documents TO {a}; GRANT SELECT, DELETE ON documents TO {b};
            CREATE VIEW everything AS SELECT * FROM documents;
            CREATE VIEW latest AS SELECT d, d.id FROM documents AS d WHERE n > 5 WITH LOCAL CHECK OPTION;
            CREATE MATERIALIZED VIEW counts AS SELECT count(*) AS rows, max(length(body)) AS longest FROM documents;
            CREATE FUNCTION few() RETURNS SETOF documents LANGUAGE sql STABLE AS 'SELECT * FROM documents LIMIT 3';
            CREATE FUNCTION one(documents) RETURNS text LANGUAGE sql IMMUTABLE RETURN ($1).body;
            CREATE TABLE copies (d documents);
            INSERT INTO copies SELECT d FROM documents AS d""",
        write="REFRESH MATERIALIZED VIEW counts; SELECT count(*), count(one(d)) FROM few() AS d; "
        "SELECT (d).body FROM latest; INSERT INTO copies SELECT d FROM documents AS d; SELECT d FROM copies",
        readers=("b",),
    ),
    Shape(
        name="published",
        rows=[
            Row(
                "Around the table",
                "a `PUBLICATION … FOR TABLE`",
                "the column layout is [refused](layouts.md#published-tables) until its subscribers are prepared",
            ),
            Row(
                "Columns",
                "a tablespace",
                "a table of vectors is made in the default one: `ALTER TABLE … SET TABLESPACE`",
            ),
        ],
        before="SET allow_in_place_tablespaces = on",
        create="CREATE TABLESPACE {a} LOCATION ''",
        after="CREATE TABLE documents (id bigint PRIMARY KEY, n int, body text) TABLESPACE {a}; "
        "CREATE PUBLICATION docs FOR TABLE documents",
        clean="DROP TABLE documents CASCADE; DROP TABLESPACE {a}",
        prepared=True,
    ),
    Shape(
        name="partitioned",
        rows=[
            Row("Columns", "declarative partitions", "rows move between them; see [Partitioned tables](partitions.md)")
        ],
        options="PARTITION BY HASH (id)",
        after="CREATE TABLE part_0 PARTITION OF documents FOR VALUES WITH (MODULUS 2, REMAINDER 0); "
        "CREATE TABLE part_1 PARTITION OF documents FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    ),
]

RIGHTS = [
    Shape(
        name="policies",
        rows=[
            Row(
                "Rights",
                "row-level security with policies per tenant",
                "the views are `security_invoker`: a tenant finds there what it finds in the table",
            )
        ],
        before="CREATE ROLE {a}; CREATE ROLE {b}",
        columns="id bigint PRIMARY KEY, tenant name",
        values={"id": "i", "tenant": "(ARRAY['{a}', '{b}', 'nobody'])[1 + i % 3]"},
        after="""
            ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON documents TO {a} USING (tenant = current_user);
            CREATE POLICY odd ON documents FOR SELECT USING (n % 2 = 1);
            CREATE POLICY narrow ON documents AS RESTRICTIVE FOR SELECT TO {b} USING (n < 20);
            GRANT SELECT ON documents TO {a}, {b}""",
        readers=("a", "b"),
    ),
    Shape(
        name="forced",
        rows=[
            Row(
                "Rights",
                "`FORCE ROW LEVEL SECURITY`, owned by a tenant",
                "workers and gates need a role that sees every row: hidden ones are an error",
            )
        ],
        before="CREATE ROLE {a}; CREATE ROLE {b}",
        columns="id bigint PRIMARY KEY, tenant name",
        values={"id": "i", "tenant": "(ARRAY['{a}', '{b}'])[1 + i % 2]"},
        after="""
            ALTER TABLE documents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY own ON documents USING (tenant = current_user);
            ALTER TABLE documents OWNER TO {a};
            GRANT SELECT ON documents TO {b} WITH GRANT OPTION""",
        readers=("a", "b"),
    ),
]

-- The hash that ties a vector to its text: before prefixes, so that a changed prefix is another contract and not
-- a changed row. No SET clause, so that PostgreSQL can inline it.
CREATE OR REPLACE FUNCTION pgvmig.source_hash(input text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(input, 'UTF8'));

-- The columns that an input expression reads. Refuses what does not run, what gives two answers for one row
-- (STABLE or VOLATILE functions) and what reads no column. PostgreSQL judges: an index on a temporary twin of the table
-- takes immutable expressions only, and a temporary view records the columns it depends on.
CREATE OR REPLACE FUNCTION pgvmig.check_input(relation regclass, expression text) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    table_name text := (SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = relation);
    table_schema text := (SELECT n.nspname FROM pg_catalog.pg_class c
                          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation);
    columns_read text[];
    culprits text;
    complaint text;
    probe refcursor;
BEGIN
    -- Expressions are read with the table's own schema in view and nothing of the caller's; the function's SET clause
    -- ends this with the function.
    PERFORM set_config('search_path', format('pg_catalog, %I, pg_temp', table_schema), true);
    BEGIN
        -- A cursor takes one SELECT and nothing else: an expression that smuggles in a second statement ends here.
        OPEN probe FOR EXECUTE format('SELECT (%s)::text FROM %s AS %I LIMIT 0', expression, relation, table_name);
        CLOSE probe;
        EXECUTE format('CREATE TEMPORARY VIEW pgvmig_probe_view AS SELECT (%s)::text AS input FROM %s AS %I',
                       expression, relation, table_name);
        SELECT array_agg(DISTINCT a.attname::text) INTO columns_read
        FROM pg_rewrite r
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE r.ev_class = 'pg_temp.pgvmig_probe_view'::regclass AND d.refobjid = relation AND d.refobjsubid > 0;
        DROP VIEW pg_temp.pgvmig_probe_view;
        EXECUTE format('CREATE TEMPORARY TABLE %I (LIKE %s)', table_name, relation);
        EXECUTE format('CREATE INDEX ON pg_temp.%I (((%s)::text))', table_name, expression);
        EXECUTE format('DROP TABLE pg_temp.%I', table_name);
    EXCEPTION
        WHEN invalid_object_definition THEN
            SELECT string_agg(DISTINCT p.proname || '()', ', ') INTO culprits
            FROM regexp_matches(expression, '([[:alpha:]_][[:alnum:]_]*)\s*\(', 'g') AS called (name)
            JOIN pg_proc p ON p.proname = lower(called.name[1]) AND p.provolatile <> 'i';
            RAISE EXCEPTION 'the input of % is not immutable: %', pgvmig.label(relation, 'embedding'), expression
                USING ERRCODE = 'PV006',
                      DETAIL = 'The same row could give another text later, and then nobody can tell stale rows from '
                               || 'fresh ones. Not immutable here: ' || coalesce(culprits, 'a cast or an operator'),
                      HINT = CASE
                          WHEN culprits ~ 'concat|format' THEN
                              'write coalesce(title, '''') || '' '' || coalesce(body, '''') instead of concat_ws('' '', title, body)'
                          WHEN culprits ~ 'array_to_string' THEN
                              'keep the joined text in a column of its own, or wrap array_to_string() over text[] in an IMMUTABLE function'
                          ELSE 'an enum''s or a date''s text depends on settings: spell it out with CASE, or use an IMMUTABLE function' END;
        WHEN syntax_error_or_access_rule_violation OR invalid_cursor_definition OR feature_not_supported
             OR data_exception THEN
            GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT;
            RAISE EXCEPTION 'the input of % does not run: % (%)', pgvmig.label(relation, 'embedding'), expression, complaint
                USING ERRCODE = 'PV006',
                      HINT = 'input is an SQL expression over one row, such as coalesce(title, '''') || '' '' || body';
    END;
    IF columns_read IS NULL THEN
        RAISE EXCEPTION 'the input of % reads no column: %', pgvmig.label(relation, 'embedding'), expression
            USING ERRCODE = 'PV006', HINT = 'name the columns whose text should be embedded';
    END IF;
    RETURN columns_read;
END
$$;

-- The key columns' definitions for the stale and outcome tables: other names, the row's own types.
CREATE OR REPLACE FUNCTION pgvmig.key_definitions(s pgvmig.slot) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('%I %s%s NOT NULL', q.name, format_type(a.atttypid, a.atttypmod),
                             coalesce(' COLLATE ' || nullif(a.attcollation, t.typcollation)::regcollation, '')),
                      ', ' ORDER BY q.ordinality)
    FROM unnest(pgvmig.present_names(s.relation, s.key_columns, s.key_numbers), s.queue_columns)
         WITH ORDINALITY AS q (source, name, ordinality)
    JOIN pg_attribute a ON a.attrelid = s.relation AND a.attname = q.source
    JOIN pg_type t ON t.oid = a.atttypid
$$;

-- Everything that makes a version follow its table: the stale and outcome tables, the input as a function whose
-- columns PostgreSQL tracks (a renamed column must not break the application's writes), and the triggers.
CREATE OR REPLACE FUNCTION pgvmig.create_capture(version_id integer) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
    s pgvmig.slot;
    expression text;
    columns_read text[];
BEGIN
    SELECT * INTO STRICT v FROM pgvmig.version WHERE version.version_id = $1;
    SELECT * INTO STRICT s FROM pgvmig.slot WHERE slot.relation = v.relation AND slot.slot = v.slot;
    SELECT definition ->> 'input' INTO STRICT expression FROM pgvmig.contract WHERE fingerprint = v.fingerprint;
    columns_read := pgvmig.check_input(v.relation, expression);
    UPDATE pgvmig.version x SET input_names = columns_read, input_numbers = pgvmig.column_numbers(v.relation, columns_read, NULL)
    WHERE x.version_id = $1;
    PERFORM pgvmig.create_queue(v, s);
    PERFORM pgvmig.create_comparisons(v, s, columns_read);
    PERFORM pgvmig.create_capture_functions(v, s, expression, columns_read);
    PERFORM pgvmig.create_triggers(v);
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.create_queue(v pgvmig.version, s pgvmig.slot) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stale text := pgvmig.fit(v.object_name || '_stale');
    outcome text := pgvmig.fit(v.object_name || '_outcome');
    keys text := (SELECT string_agg(format('%I', k), ', ' ORDER BY i) FROM unnest(s.queue_columns) WITH ORDINALITY AS u (k, i));
BEGIN
    EXECUTE format('CREATE TABLE pgvmig.%I (%s, PRIMARY KEY (entry)) INHERITS (pgvmig.stale_row)',
                   stale, pgvmig.key_definitions(s));
    EXECUTE format('ALTER TABLE pgvmig.%I ALTER COLUMN version_id SET DEFAULT %s', stale, v.version_id);
    EXECUTE format('CREATE INDEX ON pgvmig.%I (%s)', stale, keys);
    EXECUTE format('CREATE TABLE pgvmig.%I (%s, PRIMARY KEY (%s)) INHERITS (pgvmig.outcome)',
                   outcome, pgvmig.key_definitions(s), keys);
    EXECUTE format('ALTER TABLE pgvmig.%I ALTER COLUMN version_id SET DEFAULT %s', outcome, v.version_id);
    INSERT INTO pgvmig.backfill (version_id) VALUES (v.version_id);
    INSERT INTO pgvmig.follower (version_id) VALUES (v.version_id);
END
$$;

-- A condition that a column's value differs between the rows $1 and $2: by image, because two texts that a collation
-- calls equal are not the same input, and 1.0 and 1.00 read differently. Where a type's equality is its image, that is
-- asked, being several times cheaper than record_image_ne, which every type has. An update that leaves a long value
-- alone leaves its TOAST pointer as it was: then it is not fetched (2.5 instead of 42 microseconds for 96 kB).
CREATE OR REPLACE FUNCTION pgvmig.differs(relation regclass, column_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.attlen = -1 AND current_setting('server_version_num')::integer >= 170000 THEN
               format('(pg_catalog.pg_column_toast_chunk_id(($1).%1$I) = pg_catalog.pg_column_toast_chunk_id(($2).%1$I)) '
                      'IS NOT TRUE AND ', a.attname) ELSE '' END
           || CASE
               WHEN a.atttypid IN ('text'::regtype, 'varchar'::regtype) THEN
                   format('($1).%1$I::text COLLATE pg_catalog."C" IS DISTINCT FROM ($2).%1$I::text COLLATE pg_catalog."C"', a.attname)
               WHEN a.atttypid IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'uuid'::regtype, 'bytea'::regtype,
                                   'boolean'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) THEN
                   format('($1).%1$I IS DISTINCT FROM ($2).%1$I', a.attname)
               ELSE format('pg_catalog.record_image_ne(ROW(($1).%1$I), ROW(($2).%1$I))', a.attname) END
    FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = $2
$$;

-- The input as a function of the columns that it reads, in their order in the table: `input(row)` takes the right to read every
-- column of the table, and a worker has that to a few. A collation comes with a row's column and not with an argument.
CREATE OR REPLACE FUNCTION pgvmig.create_text_function(v pgvmig.version, expression text, columns_read text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    table_name text := (SELECT c.relname FROM pg_class c WHERE c.oid = v.relation);
    types text;
    fields text;
BEGIN
    SELECT string_agg(format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum),
           string_agg(format('$%s%s AS %I', a.place, coalesce(' COLLATE ' || nullif(a.attcollation, t.typcollation)::regcollation, ''),
                             a.attname), ', ' ORDER BY a.attnum)
    INTO types, fields
    FROM (SELECT x.*, row_number() OVER (ORDER BY x.attnum) AS place FROM pg_attribute x
          WHERE x.attrelid = v.relation AND x.attname = ANY (columns_read)) AS a
    JOIN pg_type t ON t.oid = a.atttypid;
    -- as check_input() has read the expression
    PERFORM set_config('search_path', (SELECT format('pg_catalog, %I, pg_temp', n.nspname) FROM pg_class c
                                       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = v.relation), true);
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I(%s) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE '
        'BEGIN ATOMIC SELECT coalesce((%s)::text, '''') FROM (SELECT %s) AS %I; END',
        pgvmig.fit(v.object_name || '_text'), types, expression, fields, table_name);
END
$$;

-- The equality of a key's column, named with its schema: that of the unique index, or PostgreSQL's own. A bare = of two
-- varchar is looked for on the search_path, where whoever may create objects in the table's schema can put a better match;
-- the trigger would run it with our rights.
CREATE OR REPLACE FUNCTION pgvmig.equality(relation regclass, column_name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
        FROM pg_attribute a
        JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisunique
        CROSS JOIN LATERAL unnest(i.indkey::smallint[], i.indclass::oid[]) AS k (number, class)
        JOIN pg_opclass c ON c.oid = k.class
        JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amopstrategy = 3
                      AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
        JOIN pg_operator o ON o.oid = p.amopopr
        JOIN pg_namespace n ON n.oid = o.oprnamespace
        WHERE a.attrelid = $1 AND a.attname = $2 AND k.number = a.attnum
        ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1), 'OPERATOR(pg_catalog.=)')
$$;

-- The stored columns that some columns come from: in a trigger a virtual column reads as NULL.
CREATE OR REPLACE FUNCTION pgvmig.stored_columns(relation regclass, columns text[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(DISTINCT b.attname::text)
    FROM pg_attribute a
    LEFT JOIN pg_attrdef e ON a.attgenerated = 'v' AND e.adrelid = a.attrelid AND e.adnum = a.attnum
    LEFT JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid AND d.refobjid = a.attrelid
    JOIN pg_attribute b ON b.attrelid = a.attrelid AND b.attnum = CASE WHEN e.oid IS NULL THEN a.attnum ELSE d.refobjsubid END
    WHERE a.attrelid = $1 AND a.attname = ANY ($2) AND b.attgenerated <> 'v'
$$;

-- What an update did, as functions of the row before and the row after. PostgreSQL puts them into the trigger's own
-- expressions, where they cost half of what a trigger's WHEN does: that is read and planned for every statement.
CREATE OR REPLACE FUNCTION pgvmig.create_comparisons(v pgvmig.version, s pgvmig.slot, columns_read text[]) RETURNS void
LANGUAGE plpgsql
-- the operators must be PostgreSQL's own: the trigger runs them with our rights
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moved text := (SELECT string_agg(pgvmig.differs(v.relation, k), ' OR ')
                   FROM unnest(pgvmig.present_names(s.relation, s.key_columns, s.key_numbers)) AS k);
    other_text text := (SELECT string_agg(pgvmig.differs(v.relation, c), ' OR ')
                        FROM unnest(pgvmig.stored_columns(v.relation, columns_read)) AS c);
    comparison record;
BEGIN
    FOR comparison IN
        SELECT * FROM (VALUES
            ('moved', moved, true),
            ('changed', concat_ws(' OR ', other_text, moved, CASE
                WHEN v.adopted THEN pgvmig.differs(v.relation, v.vector_column)
                WHEN v.layout = 'column' THEN
                    format('($1).%1$I IS NOT NULL AND ($2).%1$I IS NULL', v.vector_column) END), true),
            ('revectored', pgvmig.differs(v.relation, v.vector_column), v.adopted),
            ('rewritten', format('($2).%I IS NOT NULL AND %s', v.vector_column,
                pgvmig.differs(v.relation, v.vector_column)), v.adopted)
        ) AS t (what, condition, wanted)
        WHERE wanted
    LOOP
        EXECUTE format('CREATE FUNCTION pgvmig.%I(%s, %2$s) RETURNS boolean LANGUAGE sql STABLE '
                       'BEGIN ATOMIC SELECT %3$s; END',
                       pgvmig.fit(v.object_name || '_' || comparison.what), v.relation, comparison.condition);
    END LOOP;
END
$$;

-- The version's own functions. Their bodies are in standard SQL where they name the table's columns: PostgreSQL parses
-- those here and follows a rename.
CREATE OR REPLACE FUNCTION pgvmig.create_capture_functions(
    v pgvmig.version, s pgvmig.slot, expression text, columns_read text[]
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    base text := v.object_name;
    table_name text := (SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = v.relation);
    table_schema text := (SELECT n.nspname FROM pg_catalog.pg_class c
                          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = v.relation);
    stale text := format('pgvmig.%I', pgvmig.fit(base || '_stale'));
    outcome text := format('pgvmig.%I', pgvmig.fit(base || '_outcome'));
    fields text := (SELECT string_agg(format('($1).%I', c), ', ') FROM unnest(columns_read) AS c);
    queue_keys text;
    row_keys text;
    same_key text;
    row_of_key text;
BEGIN
    SELECT string_agg(format('%I', u.queue), ', ' ORDER BY i), string_agg(format('($1).%I', u.source), ', ' ORDER BY i),
           string_agg(format('q.%I %s ($1).%I', u.queue, pgvmig.equality(s.relation, u.source), u.source), ' AND ' ORDER BY i),
           string_agg(format('d.%I %s ($1).%1$I', u.source, pgvmig.equality(s.relation, u.source)), ' AND ' ORDER BY i)
    INTO queue_keys, row_keys, same_key, row_of_key
    FROM unnest(s.queue_columns, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers))
         WITH ORDINALITY AS u (queue, source, i);
    PERFORM set_config('search_path', format('pg_catalog, %I, pg_temp', table_schema), true);
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I(%s) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE '
        'BEGIN ATOMIC SELECT coalesce((%s)::text, '''') FROM (SELECT %s) AS %I; END',
        pgvmig.fit(base || '_input'), v.relation, expression, fields, table_name);
    PERFORM pgvmig.create_text_function(v, expression, columns_read);
    -- only the input may name the user's own functions: what follows is run by the trigger, with our rights
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I(%s) RETURNS void LANGUAGE sql BEGIN ATOMIC '
        'INSERT INTO %s (%s) VALUES (%s); '
        'SELECT pg_notify(''pgvmig_stale'', ''%s'') FROM pgvmig.follower f '
        'WHERE f.version_id = %s AND f.until > clock_timestamp() '
        -- a transaction that has notified cannot be prepared; where some are, the follower looks once a second
        'AND current_setting(''max_prepared_transactions'')::integer = 0; END',
        pgvmig.fit(base || '_mark'), v.relation, stale, queue_keys, row_keys, v.version_id, v.version_id);
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I(%s) RETURNS void LANGUAGE sql BEGIN ATOMIC '
        'DELETE FROM %s AS q WHERE %s; DELETE FROM %s AS q WHERE %s; END',
        pgvmig.fit(base || '_settle'), v.relation, stale, same_key, outcome, same_key);
    -- Unless another row has the key by now: `SET chunk = chunk + 1` hands each row's key to the one before it.
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I(%s) RETURNS void LANGUAGE sql BEGIN ATOMIC '
        'SELECT pgvmig.%I($1) WHERE NOT EXISTS (SELECT FROM %s AS d WHERE %s); END',
        pgvmig.fit(base || '_forget'), v.relation, pgvmig.fit(base || '_settle'), v.relation, row_of_key);
    IF v.layout = 'table' THEN
        PERFORM pgvmig.create_drop_vector(v, s);
    END IF;
    PERFORM pgvmig.create_capture_trigger(v, stale, outcome);
    -- A trigger fires without this right; with it anybody could put ours on a table of his own and empty the queue.
    EXECUTE format('REVOKE ALL ON FUNCTION pgvmig.%I, pgvmig.%I, pgvmig.%I, pgvmig.%I FROM PUBLIC',
                   pgvmig.fit(base || '_mark'), pgvmig.fit(base || '_forget'), pgvmig.fit(base || '_settle'),
                   pgvmig.fit(base || '_capture'));
    IF v.adopted THEN
        PERFORM pgvmig.create_provenance_function(v, columns_read);
    END IF;
END
$$;

-- In a table of their own vectors follow their rows. What somebody else holds is left, or an application that deletes and
-- a worker that writes would wait for each other. The answer says whether a vector went: one that the worker wrote since the
-- snapshot is not seen, and under SERIALIZABLE not even looked for, as everybody's deletes would conflict.
CREATE OR REPLACE FUNCTION pgvmig.create_drop_vector(v pgvmig.version, s pgvmig.slot) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    take text := pgvmig.fit(v.object_name || '_take_vector');
    drop_vector text := pgvmig.fit(v.object_name || '_drop_vector');
    keys text;
    row_key text;
    taken_key text;
BEGIN
    SELECT string_agg(format('q.%I', u.queue), ', ' ORDER BY i), string_agg(format('q.%I %s ($1).%I', u.queue, pgvmig.equality(s.relation, u.source), u.source), ' AND '),
           string_agg(format('q.%1$I %2$s m.%1$I', u.queue, pgvmig.equality(s.relation, u.source)), ' AND ')
    INTO keys, row_key, taken_key
    FROM unnest(s.queue_columns, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers))
         WITH ORDINALITY AS u (queue, source, i);
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I(%s) RETURNS boolean LANGUAGE sql BEGIN ATOMIC '
        'WITH mine AS MATERIALIZED (SELECT %s FROM %s AS q WHERE %s FOR UPDATE SKIP LOCKED) '
        'DELETE FROM %4$s AS q USING mine AS m WHERE %6$s RETURNING true; END',
        take, v.relation, keys, v.vector_relation, row_key, taken_key);
    EXECUTE format('CREATE FUNCTION pgvmig.%I(%s) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS %L',
                   drop_vector, v.relation, format($body$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        RETURN pgvmig.%1$I($1);
    ELSIF current_setting('transaction_isolation') = 'serializable' THEN
        RETURN false;
    END IF;
    BEGIN
        RETURN pgvmig.%1$I($1);
    EXCEPTION WHEN serialization_failure THEN
        RETURN false;
    END;
END
$body$, take));
    EXECUTE format('REVOKE ALL ON FUNCTION pgvmig.%I, pgvmig.%I FROM PUBLIC', take, drop_vector);
END
$$;

-- SECURITY DEFINER: the application may write its table and nothing of ours. It runs nothing of the user's. Without WHEN:
-- see create_comparisons. Under REPEATABLE READ an entry that the worker took out since the snapshot cannot be deleted; that
-- must not fail the application. Under SERIALIZABLE looking for entries would conflict with everybody's marks: there a
-- deleted row is marked, and the worker finds it gone.
CREATE OR REPLACE FUNCTION pgvmig.create_capture_trigger(v pgvmig.version, stale text, outcome text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
        'SET search_path = pg_catalog, pg_temp AS %L',
        pgvmig.fit(v.object_name || '_capture'),
        format($capture$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NOT pgvmig.%6$I(OLD, NEW) THEN
            RETURN NULL;
        ELSIF NOT pgvmig.%7$I(OLD, NEW) THEN
            %8$s PERFORM pgvmig.%4$I(NEW);
            RETURN NULL;
        END IF;
    ELSIF TG_OP = 'INSERT' THEN
        %9$s
        PERFORM pgvmig.%4$I(NEW);
        RETURN NULL;
    ELSIF TG_OP = 'TRUNCATE' THEN
        %10$s
        BEGIN
            DELETE FROM %1$s;
            DELETE FROM %2$s;
        EXCEPTION WHEN serialization_failure THEN
            NULL;
        END;
        RETURN NULL;
    END IF;
    -- no row has the old key any more
    IF current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM pgvmig.%3$I(OLD);
        %11$s
    ELSIF current_setting('transaction_isolation') = 'serializable' THEN
        PERFORM pgvmig.%4$I(OLD);
    ELSE
        BEGIN
            PERFORM pgvmig.%3$I(OLD);
        EXCEPTION WHEN serialization_failure THEN
            NULL;
        END;
        %11$s
    END IF;
    IF TG_OP = 'UPDATE' THEN
        %9$s
        PERFORM pgvmig.%4$I(NEW);
    END IF;
    RETURN NULL;
END
$capture$,
               stale, outcome, pgvmig.fit(v.object_name || '_forget'), pgvmig.fit(v.object_name || '_mark'), NULL,
               pgvmig.fit(v.object_name || '_changed'), pgvmig.fit(v.object_name || '_moved'),
               -- the application's new vector is of the new text
               CASE WHEN v.adopted THEN format(
                   'IF pgvmig.%I(OLD, NEW) THEN PERFORM pgvmig.%I(NEW); RETURN NULL; END IF;',
                   pgvmig.fit(v.object_name || '_rewritten'), pgvmig.fit(v.object_name || '_settle')) END,
               -- an orphan's vector is of another text
               CASE WHEN v.layout = 'table' THEN
                   format('PERFORM pgvmig.%I(NEW);', pgvmig.fit(v.object_name || '_drop_vector')) END,
               CASE WHEN v.layout = 'table' THEN format('TRUNCATE %s;', v.vector_relation) END,
               -- the worker may be writing it: the entry lets it find the row gone
               CASE WHEN v.layout = 'table' THEN
                   format('IF pgvmig.%I(OLD) IS NOT TRUE THEN PERFORM pgvmig.%I(OLD); END IF;',
                          pgvmig.fit(v.object_name || '_drop_vector'), pgvmig.fit(v.object_name || '_mark')) END));
END
$$;

-- Vectors that the application writes get their provenance as they are written. Where the input reads a generated
-- column, which a BEFORE trigger sees as NULL, the hash stays unknown. The worker brings its own. It runs with the writer's
-- rights and never with ours, because the input may call functions of the user's; and it names no column that the
-- application could rename. A row that moves to another partition is inserted there, and its vector is not of its present
-- text for that: it keeps its provenance, and has -infinity for embedded_at where it had none.
CREATE OR REPLACE FUNCTION pgvmig.create_provenance_function(v pgvmig.version, columns_read text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    knows_input boolean := NOT EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = v.relation AND a.attname = ANY (columns_read) AND a.attgenerated <> '');
BEGIN
    EXECUTE format(
        'CREATE FUNCTION pgvmig.%I() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS %L',
        pgvmig.fit(v.object_name || '_provenance'),
        format($provenance$
DECLARE
    written boolean := true;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NOT pgvmig.%6$I(OLD, NEW) THEN
            %8$s
            RETURN NEW;
        END IF;
        written := pgvmig.%7$I(OLD, NEW);
        IF written AND OLD.%3$I IS DISTINCT FROM NEW.%3$I THEN
            RETURN NEW;
        END IF;
    %9$s
    END IF;
    NEW.%1$I := CASE WHEN written THEN %2$s END;
    NEW.%3$I := CASE WHEN written THEN %4$s END;
    NEW.%5$I := CASE WHEN written THEN clock_timestamp() END;
    RETURN NEW;
END
$provenance$,
               v.version_id_column, v.version_id, v.source_hash_column,
               CASE WHEN knows_input
                    THEN format('pgvmig.source_hash(pgvmig.%I(NEW))', pgvmig.fit(v.object_name || '_input'))
                    ELSE 'NULL::bytea' END,
               v.embedded_at_column,
               pgvmig.fit(v.object_name || '_revectored'), pgvmig.fit(v.object_name || '_rewritten'),
               CASE WHEN pgvmig.is_partitioned(v.relation) THEN
                   format('IF NEW.%I IS NOT NULL AND pgvmig.%I(OLD, NEW) THEN NEW.%3$I := coalesce(NEW.%3$I, ''-infinity''); END IF;',
                          v.vector_column, pgvmig.fit(v.object_name || '_moved'), v.embedded_at_column) END,
               CASE WHEN pgvmig.is_partitioned(v.relation) THEN
                   format('ELSIF NEW.%I IS NOT NULL THEN RETURN NEW;', v.embedded_at_column) END));
    EXECUTE format('REVOKE ALL ON FUNCTION pgvmig.%I FROM PUBLIC', pgvmig.fit(v.object_name || '_provenance'));
END
$$;

-- ENABLE ALWAYS, because bulk loads run under session_replication_role = replica.
CREATE OR REPLACE FUNCTION pgvmig.create_triggers(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    capture text := format('pgvmig.%I', pgvmig.fit(v.object_name || '_capture'));
    provenance text := format('pgvmig.%I', pgvmig.fit(v.object_name || '_provenance'));
    row_trigger record;
BEGIN
    FOR row_trigger IN
        SELECT * FROM (VALUES
            ('insert', 'AFTER INSERT', CASE
                WHEN v.layout = 'table' THEN NULL
                -- one that moved here is as it was there
                WHEN v.adopted AND pgvmig.is_partitioned(v.relation) THEN
                    format('NEW.%1$I IS NULL OR NEW.%2$I = ''-infinity'' '
                           'OR NEW.%3$I IS NOT NULL AND NEW.%3$I <> pgvmig.source_hash(pgvmig.%4$I(NEW.*))',
                           v.vector_column, v.embedded_at_column, v.source_hash_column, pgvmig.fit(v.object_name || '_input'))
                WHEN v.adopted THEN format('NEW.%I IS NULL', v.vector_column)
                -- a copied row brings a vector, and perhaps another text
                ELSE format('NEW.%I IS NULL OR NEW.%I IS DISTINCT FROM pgvmig.source_hash(pgvmig.%I(NEW.*))',
                            v.vector_column, v.source_hash_column, pgvmig.fit(v.object_name || '_input')) END, capture, true),
            ('update', 'AFTER UPDATE', NULL, capture, true),
            ('delete', 'AFTER DELETE', NULL, capture, true),
            ('provenance_insert', 'BEFORE INSERT', format('NEW.%I IS NOT NULL', v.vector_column), provenance, v.adopted),
            ('provenance_update', 'BEFORE UPDATE', NULL, provenance, v.adopted)
        ) AS t (what, event, condition, call, wanted)
        WHERE wanted
    LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER %I %s ON %s FOR EACH ROW %s EXECUTE FUNCTION %s()',
                       pgvmig.trigger_name(v, row_trigger.what), row_trigger.event, v.relation,
                       'WHEN (' || row_trigger.condition || ')', row_trigger.call);
    END LOOP;
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
                   pgvmig.trigger_name(v, 'truncate'), v.relation, capture);
    FOR row_trigger IN SELECT * FROM pgvmig.triggers_of(v) LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', v.relation, row_trigger.name);
    END LOOP;
END
$$;

-- Triggers of one kind fire in the order of their names: `~` sorts last, after whatever else changes the row.
CREATE OR REPLACE FUNCTION pgvmig.trigger_name(v pgvmig.version, what text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pgvmig.fit(format('%spgvmig_%s_%s_%s', CASE WHEN what LIKE 'provenance%' THEN '~' ELSE '' END,
                             v.slot, v.version, what))
$$;

CREATE OR REPLACE FUNCTION pgvmig.triggers_of(v pgvmig.version) RETURNS TABLE (name text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.tgname::text FROM pg_trigger t
    JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgrelid = v.relation AND NOT t.tgisinternal AND n.nspname = 'pgvmig'
      AND p.proname IN (pgvmig.fit(v.object_name || '_capture'), pgvmig.fit(v.object_name || '_provenance'))
    ORDER BY t.tgname
$$;

-- What a version's own functions are called, after its object_name; those that use others first.
CREATE OR REPLACE FUNCTION pgvmig.capture_suffixes() RETURNS text[]
LANGUAGE sql IMMUTABLE
RETURN ARRAY['_capture', '_provenance', '_mark', '_forget', '_settle', '_drop_vector', '_take_vector', '_changed', '_moved',
             '_revectored', '_rewritten', '_text', '_input'];

-- A version's triggers and functions; its queues stay.
CREATE OR REPLACE FUNCTION pgvmig.drop_capture_code(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    suffix text;
BEGIN
    FOR t IN SELECT * FROM pgvmig.triggers_of(v) LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.name, v.relation);
    END LOOP;
    FOREACH suffix IN ARRAY pgvmig.capture_suffixes() LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS pgvmig.%I', pgvmig.fit(v.object_name || suffix));
    END LOOP;
END
$$;

-- The inverse of create_capture.
CREATE OR REPLACE FUNCTION pgvmig.drop_capture(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.drop_capture_code(v);
    EXECUTE format('DROP TABLE IF EXISTS pgvmig.%I, pgvmig.%I',
                   pgvmig.fit(v.object_name || '_stale'), pgvmig.fit(v.object_name || '_outcome'));
    DELETE FROM pgvmig.lease l WHERE l.version_id = v.version_id;
    DELETE FROM pgvmig.backfill b WHERE b.version_id = v.version_id;
    DELETE FROM pgvmig.follower f WHERE f.version_id = v.version_id;
END
$$;

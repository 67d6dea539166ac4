-- What PostgreSQL refuses because pgvmig's views and functions show it: dropping or retyping a column, or a key. Between
-- begin and end, in one transaction, they are away; the vectors, their indexes, the queues and everybody's rights stay.

-- A change that is not ended would leave searches without views and changed rows unseen. Deferred: asked at the COMMIT.
CREATE OR REPLACE FUNCTION pgvmig.require_change_ended() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pgvmig.table_change c WHERE c.relation = NEW.relation) THEN
        RAISE EXCEPTION 'the change of % was begun and not ended', pgvmig.label(NEW.relation, 'embedding')
            USING ERRCODE = 'PV005',
                  DETAIL = 'Its views and triggers are away: searches would fail, and changed rows would go unseen. Nothing was changed.',
                  HINT = format('op.end_table_change(%s) in the same revision, outside autocommit_block()', pgvmig.named(NEW.relation));
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS ended ON pgvmig.table_change;

CREATE CONSTRAINT TRIGGER ended AFTER INSERT ON pgvmig.table_change DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION pgvmig.require_change_ended();

-- Nothing follows the table meanwhile.
CREATE OR REPLACE FUNCTION pgvmig.refuse_unseen_write() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the rows of % are not to be written while it is changed', pgvmig.label(TG_RELID, 'embedding')
        USING ERRCODE = 'PV005', DETAIL = 'Its triggers are away, and nobody would see which texts are others. Nothing was changed.',
              HINT = format('write them before op.begin_table_change(%1$s) or after op.end_table_change(%1$s)', pgvmig.named(TG_RELID));
END
$$;

-- The views of a table's versions, the current ones, and the views over them: the outermost first.
CREATE OR REPLACE FUNCTION pgvmig.views_over(relation regclass) RETURNS regclass[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS (
        SELECT v.view FROM pgvmig.version v WHERE v.relation = $1 AND v.state <> 'retired'
        UNION
        SELECT s.current_view FROM pgvmig.slot s WHERE s.relation = $1
    ), tower AS (
        SELECT u.view, max(u.height) AS height
        FROM own o JOIN pg_class c ON c.oid = o.view,
             LATERAL (SELECT t.view, cardinality(pgvmig.view_tower(o.view)) - t.i AS height
                      FROM unnest(pgvmig.view_tower(o.view)) WITH ORDINALITY AS t (view, i)) AS u
        GROUP BY u.view
    )
    SELECT coalesce(array_agg(t.view ORDER BY t.height DESC, t.view::oid), '{}') FROM tower t
$$;

-- What a version's functions are: by whom they run, and who may call them.
CREATE OR REPLACE FUNCTION pgvmig.rights_to_functions(v pgvmig.version) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'name', p.proname, 'owner', p.proowner::regrole::text,
               'callers', CASE WHEN p.proacl IS NOT NULL THEN (
                   SELECT coalesce(jsonb_agg(CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END), '[]')
                   FROM aclexplode(p.proacl) AS a WHERE a.grantee <> p.proowner) END)), '[]')
    FROM pg_proc p, unnest(pgvmig.capture_suffixes()) AS suffix
    WHERE p.pronamespace = 'pgvmig'::regnamespace AND p.proname = pgvmig.fit(v.object_name || suffix)
$$;

-- Give a version's functions, made anew, the owners and callers that they had.
CREATE OR REPLACE FUNCTION pgvmig.restore_function_rights(rights jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f record;
    caller text;
BEGIN
    FOR f IN SELECT p.oid::regprocedure AS signature, r.* FROM jsonb_to_recordset(rights) AS r (name text, owner text, callers jsonb)
             JOIN pg_proc p ON p.pronamespace = 'pgvmig'::regnamespace AND p.proname = r.name
    LOOP
        IF f.callers <> 'null' THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.signature);
        END IF;
        FOR caller IN SELECT jsonb_array_elements_text(coalesce(nullif(f.callers, 'null'), '[]')) LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f.signature, caller);
        END LOOP;
        EXECUTE format('ALTER FUNCTION %s OWNER TO %s', f.signature, f.owner);
    END LOOP;
END
$$;

-- Take away what PostgreSQL would not let the table change under. Raises for what could not be put back.
CREATE OR REPLACE FUNCTION pgvmig.begin_table_change(relation regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tower regclass[];
    obstacles text[];
    v pgvmig.version;
BEGIN
    IF NOT EXISTS (SELECT FROM pgvmig.version x WHERE x.relation = $1) THEN
        RAISE EXCEPTION '% has no versions', pgvmig.label($1, 'embedding')
            USING ERRCODE = 'PV003', HINT = 'nothing of pgvmig''s is in the way of a change';
    ELSIF EXISTS (SELECT FROM pgvmig.table_change c WHERE c.relation = $1) THEN
        RAISE EXCEPTION 'a change of % was begun already', pgvmig.label($1, 'embedding')
            USING ERRCODE = 'PV005', HINT = 'one begin and one end are enough for any number of changes between them';
    END IF;
    PERFORM pgvmig.lock_slot($1, s.slot) FROM pgvmig.slot s WHERE s.relation = $1 ORDER BY s.slot;
    tower := pgvmig.views_over($1);
    -- views before their table, as readers lock them; LOCK TABLE of a view would take the tables of others' views, too
    PERFORM pgvmig.execute_patiently(concat_ws('; ', (
        SELECT string_agg(format('ALTER VIEW %s OWNER TO %s', c.oid::regclass, c.relowner::regrole), '; ' ORDER BY u.i)
        FROM unnest(tower) WITH ORDINALITY AS u (view, i) JOIN pg_class c ON c.oid = u.view),
        format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', $1)));
    obstacles := pgvmig.retyping_obstacles(tower);
    IF cardinality(obstacles) > 0 OR pgvmig.views_over($1) <> tower THEN
        RAISE EXCEPTION 'the views of % must be made anew, and so must what cannot be: %', pgvmig.label($1, 'embedding'),
            coalesce(nullif(array_to_string(obstacles, '; '), ''), 'a view that came just now')
            USING ERRCODE = 'PV005', DETAIL = 'With CASCADE it would be gone; nothing was dropped.',
                  HINT = 'drop it or have it read the table, change the table, and make it again';
    END IF;
    INSERT INTO pgvmig.table_change (relation, views, columns, rights)
    SELECT $1,
           (SELECT coalesce(jsonb_agg(jsonb_build_object('oid', u.view::oid, 'dress', pgvmig.view_dress(u.view),
                                                         'query', pg_get_viewdef(u.view)) ORDER BY u.i), '[]')
            FROM unnest(tower) WITH ORDINALITY AS u (view, i)),
           (SELECT jsonb_agg(jsonb_build_object('number', a.attnum, 'name', a.attname, 'type', a.atttypid, 'typmod', a.atttypmod,
                                                'collated', a.attcollation))
            FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped),
           (SELECT jsonb_object_agg(x.version_id, pgvmig.rights_to_functions(x))
            FROM pgvmig.version x WHERE x.relation = $1 AND x.state <> 'retired');
    IF cardinality(tower) > 0 THEN
        EXECUTE format('DROP VIEW %s', (SELECT string_agg(u.view::text, ', ' ORDER BY u.i)
                                        FROM unnest(tower) WITH ORDINALITY AS u (view, i)));
    END IF;
    FOR v IN SELECT x.* FROM pgvmig.version x WHERE x.relation = $1 AND x.state <> 'retired' LOOP
        PERFORM pgvmig.drop_capture_code(v);
        IF v.layout = 'table' THEN
            EXECUTE format('DROP POLICY IF EXISTS pgvmig_as_the_row ON %s', v.vector_relation);
        END IF;
    END LOOP;
    EXECUTE format('CREATE TRIGGER pgvmig_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
                   'FOR EACH STATEMENT EXECUTE FUNCTION pgvmig.refuse_unseen_write()', $1);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER pgvmig_change', $1);
END
$$;

-- Make everything anew over the table as it is now. Dropped columns are no longer shown; one that was dropped and added
-- again under its name is shown in its old place. `key` names the key where other columns are it now. Rows whose text may
-- have become another are queued: of vectors that still are of their row's text none is made again. Returns {dropped,
-- retyped, queued, key}.
CREATE OR REPLACE FUNCTION pgvmig.end_table_change(relation regclass, key text[] DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    c pgvmig.table_change;
    s pgvmig.slot;
    v pgvmig.version;
    rekeyed boolean := false;
    queued bigint := 0;
    outcome jsonb;
BEGIN
    SELECT x.* INTO c FROM pgvmig.table_change x WHERE x.relation = $1;
    IF c.relation IS NULL THEN
        RAISE EXCEPTION 'no change of % was begun', pgvmig.label($1, 'embedding')
            USING ERRCODE = 'PV005', HINT = format('op.begin_table_change(%s) before the change, in the same transaction', pgvmig.named($1));
    END IF;
    EXECUTE format('DROP TRIGGER pgvmig_change ON %s', $1);
    PERFORM pgvmig.follow_input(c);
    FOR s IN SELECT x.* FROM pgvmig.slot x WHERE x.relation = $1 LOOP
        rekeyed := pgvmig.follow_key(s, c, key) OR rekeyed;
        PERFORM pgvmig.follow_view_columns(s);
    END LOOP;
    FOR v IN SELECT x.* FROM pgvmig.version x WHERE x.relation = $1 AND x.state <> 'retired' ORDER BY x.version_id LOOP
        queued := queued + pgvmig.follow_version(v, c, rekeyed);
    END LOOP;
    PERFORM pgvmig.remake_views(c), pgvmig.keep_owner();
    PERFORM pgvmig.grant_version(x) FROM pgvmig.version x WHERE x.relation = $1 AND x.state <> 'retired';
    DELETE FROM pgvmig.table_change x WHERE x.relation = $1;
    outcome := jsonb_build_object(
        'dropped', (SELECT coalesce(jsonb_agg(k.name ORDER BY k.number), '[]') FROM pgvmig.columns_before(c) k WHERE k.gone),
        'retyped', (SELECT coalesce(jsonb_agg(k.name ORDER BY k.number), '[]') FROM pgvmig.columns_before(c) k WHERE k.retyped),
        'key', (SELECT jsonb_agg(DISTINCT to_jsonb(x.key_columns)) FROM pgvmig.slot x WHERE x.relation = $1 AND rekeyed),
        'queued', queued);
    INSERT INTO pgvmig.event (source, verb, relation, revision, detail)
    VALUES (coalesce(nullif(current_setting('pgvmig.source', true), ''), 'sql'), 'change table', pgvmig.label($1, 'embedding'),
            nullif(current_setting('pgvmig.revision', true), ''), outcome);
    RETURN outcome;
END
$$;

-- The table's columns as they were at the beginning of a change, and what became of them.
CREATE OR REPLACE FUNCTION pgvmig.columns_before(c pgvmig.table_change)
RETURNS TABLE (number smallint, name text, present text, gone boolean, retyped boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.number, k.name, a.attname, a.attname IS NULL,
           coalesce((a.atttypid, a.atttypmod, a.attcollation) <> (k.type, k.typmod, k.collated), false)
    FROM jsonb_to_recordset(c.columns) AS k (number smallint, name text, type oid, typmod integer, collated oid)
    LEFT JOIN pg_attribute a ON a.attrelid = c.relation AND a.attnum = k.number AND NOT a.attisdropped
$$;

-- The columns that the inputs read: the same, or one that was dropped and is there again under its name.
CREATE OR REPLACE FUNCTION pgvmig.follow_input(c pgvmig.table_change) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone text;
BEGIN
    UPDATE pgvmig.version x SET input_numbers = n.numbers
    FROM (SELECT o.version_id, array_agg(coalesce(a.attnum, u.number) ORDER BY u.i) AS numbers
          FROM pgvmig.version o CROSS JOIN unnest(o.input_names, o.input_numbers) WITH ORDINALITY AS u (name, number, i)
          LEFT JOIN pgvmig.columns_before(c) k ON k.number = u.number
          LEFT JOIN pg_attribute a ON a.attrelid = c.relation AND a.attname = coalesce(k.name, u.name) AND a.attnum > 0
                                  AND NOT a.attisdropped AND k.present IS NULL
          WHERE o.relation = c.relation GROUP BY o.version_id) AS n
    WHERE x.version_id = n.version_id;
    gone := (SELECT string_agg(format('%s of %s', n.name, x.version), ', ' ORDER BY x.version_id)
             FROM pgvmig.version x CROSS JOIN unnest(x.input_names, x.input_numbers) AS n (name, number)
             WHERE x.relation = c.relation AND x.state <> 'retired'
               AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.relation AND a.attnum = n.number AND NOT a.attisdropped));
    IF gone IS NOT NULL THEN
        RAISE EXCEPTION '% embeds a column that is gone: %', pgvmig.label(c.relation, 'embedding'), gone
            USING ERRCODE = 'PV005',
                  DETAIL = 'A contract is frozen: without the column nobody can say of which text its vectors are. Nothing was changed.',
                  HINT = 'add a version whose input does without it, cut over, retire the versions that read it, then drop it';
    END IF;
END
$$;

-- A slot's key after a change: the same columns, whatever they are called; those of that name where they are gone; or the
-- named ones. Whether the keys' values may be others: of other columns, or converted ones.
CREATE OR REPLACE FUNCTION pgvmig.follow_key(s pgvmig.slot, c pgvmig.table_change, key text[]) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[] := coalesce(key, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers));
    numbers smallint[] := pgvmig.column_numbers(s.relation, names, NULL);
BEGIN
    IF cardinality(names) <> cardinality(s.queue_columns) THEN
        RAISE EXCEPTION 'the key of % has % columns, not %', pgvmig.label(s.relation, s.slot), cardinality(s.queue_columns),
            cardinality(names)
            USING ERRCODE = 'PV005', HINT = 'keep the old key unique, or add the next version in a slot of its own';
    END IF;
    PERFORM pgvmig.require_key(s.relation, names);
    UPDATE pgvmig.slot x SET key_numbers = numbers, key_columns = CASE WHEN numbers = s.key_numbers THEN x.key_columns ELSE names END
    WHERE x.relation = s.relation AND x.slot = s.slot;
    RETURN numbers <> s.key_numbers
        OR EXISTS (SELECT FROM pgvmig.columns_before(c) k WHERE k.retyped AND k.number = ANY (numbers));
END
$$;

-- The columns that a slot's views show: those that are there, and those that are there again.
CREATE OR REPLACE FUNCTION pgvmig.follow_view_columns(s pgvmig.slot) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE pgvmig.slot x SET view_columns = n.names, view_numbers = n.numbers
    FROM (SELECT array_agg(u.name ORDER BY u.i) AS names, array_agg(coalesce(a.attnum, b.attnum, 0::smallint) ORDER BY u.i) AS numbers
          FROM unnest(s.view_columns, s.view_numbers) WITH ORDINALITY AS u (name, number, i)
          LEFT JOIN pg_attribute a ON a.attrelid = s.relation AND a.attnum = u.number AND u.number > 0 AND NOT a.attisdropped
          LEFT JOIN pg_attribute b ON b.attrelid = s.relation AND b.attname = u.name AND a.attnum IS NULL AND u.number > 0
                                  AND NOT b.attisdropped AND b.attnum <> ALL (s.view_numbers)
          WHERE u.number = 0 OR a.attnum IS NOT NULL OR b.attnum IS NOT NULL) AS n
    WHERE x.relation = s.relation AND x.slot = s.slot
$$;

-- The queues and, in their own table, the vectors have the key in its present types.
CREATE OR REPLACE FUNCTION pgvmig.retype_keys(v pgvmig.version, s pgvmig.slot) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k record;
BEGIN
    FOR k IN
        SELECT t.place, string_agg(format('ALTER COLUMN %I TYPE %s%s USING %1$I::%2$s', u.queue, format_type(a.atttypid, a.atttypmod),
                                          coalesce(' COLLATE ' || nullif(a.attcollation, y.typcollation)::regcollation, '')), ', ') AS steps,
               string_agg(format_type(a.atttypid, a.atttypmod), ', ') AS types
        FROM unnest(s.queue_columns, s.key_numbers) AS u (queue, number)
        JOIN pg_attribute a ON a.attrelid = s.relation AND a.attnum = u.number
        JOIN pg_type y ON y.oid = a.atttypid
        CROSS JOIN unnest(ARRAY[to_regclass(format('pgvmig.%I', pgvmig.fit(v.object_name || '_stale'))),
                                to_regclass(format('pgvmig.%I', pgvmig.fit(v.object_name || '_outcome'))),
                                CASE WHEN v.layout = 'table' THEN v.vector_relation END]) AS t (place)
        JOIN pg_attribute q ON q.attrelid = t.place AND q.attname = u.queue
        WHERE (q.atttypid, q.atttypmod, q.attcollation) <> (a.atttypid, a.atttypmod, a.attcollation)
        GROUP BY t.place
    LOOP
        EXECUTE format('ALTER TABLE %s %s', k.place, k.steps);
    END LOOP;
EXCEPTION WHEN cannot_coerce OR datatype_mismatch OR data_exception THEN
    RAISE EXCEPTION 'the vectors of % % cannot follow the key to %', pgvmig.label(v.relation, v.slot), v.version, k.types
        USING ERRCODE = 'PV005', DETAIL = format('%s: %s. Nothing was changed.', k.place, SQLERRM),
              HINT = 'keep the old key, with a unique constraint of its own; a version in another slot can have the new one';
END
$$;

-- A version over the changed table: its queues, its functions and triggers, and which rows it must look at again. Returns
-- how many were queued.
CREATE OR REPLACE FUNCTION pgvmig.follow_version(v pgvmig.version, c pgvmig.table_change, rekeyed boolean) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    s pgvmig.slot;
    columns_read text[];
    other_text boolean;
BEGIN
    SELECT x.* INTO STRICT s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot;
    SELECT array_agg(a.attname::text), bool_or(k.number IS NULL OR k.retyped) INTO columns_read, other_text
    FROM unnest(v.input_numbers) AS n (number) JOIN pg_attribute a ON a.attrelid = v.relation AND a.attnum = n.number
    LEFT JOIN pgvmig.columns_before(c) k ON k.number = n.number;
    IF rekeyed THEN  -- its entries are of other keys
        EXECUTE format('DELETE FROM pgvmig.%I', pgvmig.fit(v.object_name || '_stale'));
        EXECUTE format('DELETE FROM pgvmig.%I', pgvmig.fit(v.object_name || '_outcome'));
        DELETE FROM pgvmig.lease l WHERE l.version_id = v.version_id;
    END IF;
    PERFORM pgvmig.retype_keys(v, s);
    IF rekeyed AND v.layout = 'table' THEN  -- of those that have a row, the hash says whether they are its
        EXECUTE format('DELETE FROM %s AS e WHERE NOT EXISTS (SELECT FROM %s AS d WHERE %s)', v.vector_relation, v.relation,
                       pgvmig.of_row(v, 'e'));
    END IF;
    PERFORM pgvmig.create_comparisons(v, s, columns_read),
            pgvmig.create_capture_functions(v, s, pgvmig.present_input(v), columns_read),
            pgvmig.create_triggers(v);
    PERFORM pgvmig.restore_function_rights(coalesce(c.rights -> v.version_id::text, '[]'));
    PERFORM pgvmig.require_followable(v.version_id);
    PERFORM pgvmig.dress_vectors(v);
    IF rekeyed OR other_text THEN
        UPDATE pgvmig.backfill b SET walked = false WHERE b.version_id = v.version_id;
        RETURN pgvmig.queue_outdated(v.relation, v.version, v.slot);
    END IF;
    RETURN 0;
END
$$;

-- The contract's expression, over the columns as they are called now. Raises when it does not run over their types, or
-- would not be immutable.
CREATE OR REPLACE FUNCTION pgvmig.present_input(v pgvmig.version) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    expression text := (SELECT k.definition ->> 'input' FROM pgvmig.contract k WHERE k.fingerprint = v.fingerprint);
    present text[] := pgvmig.present_names(v.relation, v.input_names, v.input_numbers);
BEGIN
    IF present = v.input_names THEN
        PERFORM pgvmig.check_input(v.relation, expression);
        RETURN expression;
    END IF;
    RETURN format('(SELECT (%s)::text FROM (SELECT %s) AS %I)', expression,
                  (SELECT string_agg(format('%I AS %I', u.present, u.name), ', ') FROM unnest(present, v.input_names) AS u (present, name)),
                  (SELECT c.relname FROM pg_class c WHERE c.oid = v.relation));
END
$$;

-- The views again, ours over the table as it is and the others as they were, each with what it wore.
CREATE OR REPLACE FUNCTION pgvmig.remake_views(c pgvmig.table_change) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept record;
    name text;
    v pgvmig.version;
    complaint text;
BEGIN
    FOR kept IN SELECT e ->> 'query' AS query, e -> 'dress' AS dress, (e ->> 'oid')::oid AS oid
                FROM jsonb_array_elements(c.views) WITH ORDINALITY AS u (e, i) ORDER BY u.i DESC
    LOOP
        name := format('%I.%I', kept.dress ->> 'schema', kept.dress ->> 'name');
        v := pgvmig.version_shown(kept.oid);
        EXECUTE pgvmig.create_view_statement('CREATE VIEW', name,
                                             ARRAY(SELECT jsonb_array_elements_text(kept.dress -> 'options')),
                                             CASE WHEN v.version_id IS NULL THEN kept.query ELSE pgvmig.view_query(v) END);
        PERFORM pgvmig.redress_view(name::regclass, pgvmig.dress_that_fits(name::regclass, kept.dress), true);
        UPDATE pgvmig.version x SET view = name::regclass WHERE x.view = kept.oid;
        UPDATE pgvmig.slot x SET current_view = name::regclass WHERE x.current_view = kept.oid;
    END LOOP;
    PERFORM pgvmig.restore_view(x) FROM pgvmig.version x
    WHERE x.relation = c.relation AND x.state <> 'retired' AND NOT EXISTS (SELECT FROM pg_class k WHERE k.oid = x.view);
    PERFORM pgvmig.create_current_view(x, pgvmig.view_query(x), s.current_dress)
    FROM pgvmig.version x JOIN pgvmig.slot s ON s.relation = x.relation AND s.slot = x.slot
    WHERE x.relation = c.relation AND x.state = 'active' AND NOT EXISTS (SELECT FROM pg_class k WHERE k.oid = s.current_view);
EXCEPTION WHEN undefined_column OR undefined_function OR datatype_mismatch THEN
    GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT;
    RAISE EXCEPTION 'view % cannot be made again over the changed table: %', name, complaint
        USING ERRCODE = 'PV005', DETAIL = 'Nothing was changed.', HINT = 'drop it before the change, and make it again after it';
END
$$;

-- The version that a view shows: its own, or, as the current view, the active one.
CREATE OR REPLACE FUNCTION pgvmig.version_shown(view oid) RETURNS pgvmig.version
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.* FROM pgvmig.version v LEFT JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot
    WHERE v.view = $1 OR s.current_view = $1 AND v.state = 'active'
$$;

-- What a view wore, but for the columns that it no longer has.
CREATE OR REPLACE FUNCTION pgvmig.dress_that_fits(view regclass, dress jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH shown AS (
        SELECT a.attname FROM pg_attribute a WHERE a.attrelid = view AND a.attnum > 0
    )
    SELECT dress || jsonb_build_object(
        'grants', (SELECT coalesce(jsonb_agg(g ORDER BY i), '[]') FROM jsonb_array_elements(dress -> 'grants') WITH ORDINALITY AS u (g, i)
                   WHERE g ->> 'column' IS NULL OR g ->> 'column' IN (SELECT attname FROM shown)),
        'columns', (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}') FROM jsonb_each(dress -> 'columns') AS e
                    WHERE e.key IN (SELECT attname FROM shown)))
$$;

REVOKE ALL ON FUNCTION
    pgvmig.begin_table_change, pgvmig.end_table_change, pgvmig.follow_key, pgvmig.follow_view_columns, pgvmig.retype_keys,
    pgvmig.follow_version, pgvmig.remake_views, pgvmig.restore_function_rights
FROM PUBLIC;

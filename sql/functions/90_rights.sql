-- What pgvmig's roles may do, as data: granted from here, taken away from here, and compared with docs/security.md by a test.

-- A duty's role as GRANT writes it; NULL where this database has none, or the role is gone.
CREATE OR REPLACE FUNCTION pgvmig.role_of(duty text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT to_regrole(quote_ident(r.name))::text FROM pgvmig.role r WHERE r.duty = $1
$$;

-- The columns that a version's input reads, under their present names: PostgreSQL keeps them with the input's function.
CREATE OR REPLACE FUNCTION pgvmig.input_columns(v pgvmig.version) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(a.attname::text ORDER BY a.attnum)
    FROM (SELECT DISTINCT d.refobjsubid AS number
          FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
          WHERE p.pronamespace = 'pgvmig'::regnamespace AND p.proname = pgvmig.fit(v.object_name || '_input')
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = v.relation AND d.refobjsubid > 0) AS read
    JOIN pg_attribute a ON a.attrelid = v.relation AND a.attnum = read.number AND NOT a.attisdropped
$$;

-- What a version's view, its rows and its own tables ask of whom. `columns` NULL: the whole relation. A reader gets what the
-- views show and the keys that join them, a worker the key, what the input reads and what it writes.
CREATE OR REPLACE FUNCTION pgvmig.version_rights(v pgvmig.version)
RETURNS TABLE (duty text, relation regclass, privilege text, columns text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS (
        SELECT ARRAY[v.vector_column, v.version_id_column, v.source_hash_column, v.embedded_at_column] AS written,
               pgvmig.present_names(s.relation, s.key_columns, s.key_numbers) AS key, s.queue_columns, s.current_view
        FROM pgvmig.slot s WHERE s.relation = v.relation AND s.slot = v.slot
    ), shown AS (
        SELECT c.oid::regclass AS view FROM pg_class c
        WHERE c.oid = v.view OR v.state = 'active' AND c.oid = (SELECT own.current_view FROM own)
    )
    SELECT 'reader', shown.view, 'SELECT', NULL::text[] FROM shown
    UNION ALL
    SELECT 'reader', b.relation, 'SELECT', array_agg(DISTINCT a.attname::text)
    FROM shown, pgvmig.columns_behind(shown.view) AS b
    JOIN pg_attribute a ON a.attrelid = b.relation AND a.attnum = b.number
    GROUP BY b.relation
    UNION ALL
    -- the system columns say on which page a row is, and whether it is still the one that was read
    SELECT 'worker', v.relation, 'SELECT', own.key || pgvmig.input_columns(v) || ARRAY['ctid', 'xmin', 'tableoid']
           || CASE v.layout WHEN 'column' THEN own.written END
    FROM own
    UNION ALL
    SELECT 'worker', v.relation, 'UPDATE', own.written FROM own WHERE v.layout = 'column'
    UNION ALL
    SELECT 'worker', v.vector_relation, p.name,
           CASE p.name WHEN 'DELETE' THEN NULL WHEN 'SELECT' THEN own.queue_columns || own.written || ARRAY['ctid']
                ELSE own.queue_columns || own.written END
    FROM own, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p (name) WHERE v.layout = 'table'
    UNION ALL
    SELECT 'worker', c.oid, p.name, NULL
    FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p (name)
    WHERE c.relnamespace = 'pgvmig'::regnamespace
      AND c.relname IN (pgvmig.fit(v.object_name || '_stale'), pgvmig.fit(v.object_name || '_outcome'))
$$;

-- What the duties ask of the control schema's own tables. That everybody may read what services ask for is granted with them.
-- A worker changes no version: see pgvmig.begin_backfill. `who` of an event is nobody's to write.
CREATE OR REPLACE FUNCTION pgvmig.control_rights() RETURNS TABLE (duty text, relation regclass, privilege text, columns text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.duty, format('pgvmig.%I', t.relation)::regclass, p, t.columns::text[]
    FROM (VALUES
        ('worker', 'backfill', '{SELECT, UPDATE}', NULL),
        ('worker', 'follower', '{SELECT}', NULL),
        ('worker', 'follower', '{UPDATE}', '{until}'),
        ('worker', 'lease', '{SELECT, INSERT, UPDATE, DELETE}', NULL),
        ('worker', 'backfill_run', '{SELECT, INSERT, UPDATE}', NULL),
        ('worker', 'pacing_log', '{SELECT, INSERT, DELETE}', NULL),
        ('worker', 'backfill_sample', '{SELECT, INSERT, DELETE}', NULL),
        ('worker', 'pause', '{SELECT}', NULL),
        ('worker', 'throttle', '{SELECT}', NULL),
        ('worker', 'standby', '{SELECT}', NULL),
        ('worker', 'stale_row', '{SELECT}', NULL),
        ('worker', 'outcome', '{SELECT}', NULL),
        ('operator', 'pause', '{DELETE}', NULL),
        ('operator', 'pause', '{INSERT}', '{relation, slot, version, reason}'),
        ('operator', 'throttle', '{DELETE}', NULL),
        ('operator', 'throttle', '{INSERT, UPDATE}', '{relation, slot, settings}'),
        ('operator', 'event', '{INSERT}', '{source, verb, relation, slot, version, reason, detail}'),
        ('operator', 'evaluation', '{SELECT}', '{evaluation_id, old_version_id, new_version_id, verdict, reason, pilot, evaluated_at}')
    ) AS t (duty, relation, privileges, columns), unnest(t.privileges::text[]) AS p
    UNION ALL
    -- an operator reads what pgvmig knows, and of the rows their keys; questions and answers of evaluations are not his
    SELECT 'operator', c.oid, 'SELECT', NULL FROM pg_class c
    WHERE c.relnamespace = 'pgvmig'::regnamespace AND c.relkind = 'r'
      AND c.relname NOT IN ('judged_set', 'evaluation', 'smoke_query')
      AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
$$;

-- The functions that nobody but the control schema's owner may call without one of these.
CREATE OR REPLACE FUNCTION pgvmig.function_rights() RETURNS TABLE (duty text, function regprocedure)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN p.proname IN ('begin_backfill', 'become_ready') THEN 'worker' ELSE 'operator' END, p.oid
    FROM pg_proc p
    WHERE p.pronamespace = 'pgvmig'::regnamespace
      AND (p.proname IN ('begin_backfill', 'become_ready', 'has_rows') OR p.proname LIKE 'operator\_%')
$$;

-- GRANT or REVOKE one line of the above. Nothing where the duty has no role here.
CREATE OR REPLACE FUNCTION pgvmig.apply_right(verb text, duty text, relation regclass, privilege text, columns text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    role_name text := pgvmig.role_of(duty);
BEGIN
    IF role_name IS NOT NULL AND (columns IS NULL OR cardinality(columns) > 0) THEN
        EXECUTE format('%s %s%s ON %s %s %s', verb, privilege,
                       (SELECT ' (' || string_agg(quote_ident(c), ', ') || ')' FROM unnest(columns) AS c), relation,
                       CASE verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, role_name);
    END IF;
END
$$;

-- Who may enter the schema of a table, or pgvector's for its operators. What everybody has is not granted once more.
CREATE OR REPLACE FUNCTION pgvmig.open_schemas(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT n.oid, n.nspname, pgvmig.role_of(d) AS role_name
        FROM pg_namespace n, unnest(ARRAY['reader', 'worker', 'operator']) AS d
        WHERE (n.nspname = pgvmig.vector_schema() OR n.oid = (SELECT c.relnamespace FROM pg_class c WHERE c.oid = v.relation))
          AND pgvmig.role_of(d) IS NOT NULL
          AND NOT has_schema_privilege(to_regrole(pgvmig.role_of(d)), n.oid, 'USAGE')
    LOOP
        BEGIN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', r.nspname, r.role_name);
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;  -- the same warning
        END;
        IF NOT has_schema_privilege(to_regrole(r.role_name), r.oid, 'USAGE') THEN
            RAISE WARNING '% cannot enter schema %, and % may not let it in', r.role_name, r.nspname, current_user
                USING HINT = format('its owner: GRANT USAGE ON SCHEMA %I TO %s', r.nspname, r.role_name);
        END IF;
    END LOOP;
END
$$;

-- The roles' rights follow a version: when it is added, when its views or its tables change, when it becomes active. The right
-- to read that was taken away for a soak stays away.
CREATE OR REPLACE FUNCTION pgvmig.grant_version(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF v.version_id IS NULL OR NOT EXISTS (SELECT FROM pgvmig.role) THEN
        RETURN;
    END IF;
    PERFORM pgvmig.open_schemas(v);
    PERFORM pgvmig.apply_right('GRANT', r.duty, r.relation, r.privilege, r.columns) FROM pgvmig.version_rights(v) r
    WHERE r.duty <> 'reader' OR NOT EXISTS (SELECT FROM pgvmig.revoked_view x WHERE x.version_id = v.version_id);
END
$$;

-- The inverse: what only this version asked of the table. Its views and its own tables are dropped, and with them the rights.
CREATE OR REPLACE FUNCTION pgvmig.ungrant_version(v pgvmig.version) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pgvmig.apply_right('REVOKE', only_his.duty, v.relation, only_his.privilege, array_agg(only_his.name))
    FROM (SELECT r.duty, r.privilege, unnest(r.columns) AS name FROM pgvmig.version_rights(v) r WHERE r.relation = v.relation
          EXCEPT
          SELECT r.duty, r.privilege, unnest(r.columns) FROM pgvmig.version x, pgvmig.version_rights(x) r
          WHERE x.relation = v.relation AND x.version_id <> v.version_id AND x.state <> 'retired'
            AND r.relation = v.relation) AS only_his
    GROUP BY only_his.duty, only_his.privilege
$$;

REVOKE ALL ON FUNCTION pgvmig.apply_right, pgvmig.open_schemas, pgvmig.grant_version, pgvmig.ungrant_version FROM PUBLIC;

-- Gates that ask the catalog only: what follows the table, and who may read what. Row counts cost them nothing.

-- Capture: the triggers that follow the table are all there and fire always. ALTER TABLE … ENABLE TRIGGER USER, which
-- ends many a bulk load, leaves them enabled, but not for replication roles any more, and says that they were off.
CREATE OR REPLACE FUNCTION pgvmig.gate_capture(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted text[] := ARRAY['insert', 'update', 'delete', 'truncate']
                     || CASE WHEN v.adopted THEN ARRAY['provenance_insert', 'provenance_update'] END;
    lacking text[] := ARRAY(
        SELECT pgvmig.trigger_name(v, what) FROM unnest(wanted) AS what
        EXCEPT
        SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = v.relation AND t.tgenabled = 'A'
        UNION
        -- a partition's are PostgreSQL's copies, which nobody can drop but switch off
        SELECT t.tgname FROM pgvmig.leaves(v.relation) l JOIN pg_trigger t ON t.tgrelid = l
        WHERE t.tgenabled <> 'A' AND t.tgname IN (SELECT pgvmig.trigger_name(v, what) FROM unnest(wanted) AS what) ORDER BY 1);
    partitions text := (SELECT string_agg(DISTINCT l::text, ', ') FROM pgvmig.leaves(v.relation) l JOIN pg_trigger t ON t.tgrelid = l
                        WHERE l <> v.relation AND t.tgenabled <> 'A' AND t.tgname = ANY (lacking));
    gone boolean := EXISTS (SELECT FROM unnest(lacking) AS name WHERE NOT EXISTS (
        SELECT FROM pg_trigger t WHERE t.tgrelid = v.relation AND t.tgname = name));
BEGIN
    RETURN ('capture', cardinality(lacking) = 0,
            CASE WHEN cardinality(lacking) = 0 THEN 'the triggers that follow the table fire always'
                 ELSE format('rows may have changed unseen: not %s is %s', CASE WHEN gone THEN 'there' ELSE 'enabled always' END,
                             array_to_string(lacking, ', ') || coalesce(' of ' || partitions, '')) END,
            'every trigger is there and enabled always',
            CASE WHEN cardinality(lacking) = 0 THEN NULL
                 WHEN gone THEN format('SELECT pgvmig.create_triggers(v) FROM pgvmig.version v WHERE v.version_id = %s',
                                       v.version_id)
                 ELSE format('ALTER TABLE %s %s', v.relation,
                             (SELECT string_agg(format('ENABLE ALWAYS TRIGGER %I', t), ', ') FROM unnest(lacking) AS t)) END
            || format('; then pgvmig backfill %1$s %2$s and pgvmig verify %1$s %2$s, which see what was written meanwhile',
                      pgvmig.label(v.relation, v.slot), v.version),
            jsonb_build_object('lacking', lacking))::pgvmig.gate_result;
END
$$;

-- Privacy: where readers do not see every row, a table of vectors hides the same ones, and whoever sees none sees no vector.
-- Since the version was added row-level security may have been enabled, or the right to read the rows revoked.
CREATE OR REPLACE FUNCTION pgvmig.gate_privacy(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    leaks boolean := v.layout = 'table' AND (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = v.relation)
                     AND NOT (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = v.vector_relation);
    readers text := (
        SELECT string_agg(CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END, ', ' ORDER BY e.grantee)
        FROM (SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
              WHERE c.oid = v.vector_relation AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
              EXCEPT
              SELECT a.grantee FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
              WHERE c.oid = v.relation AND a.privilege_type = 'SELECT') AS e
        WHERE v.layout = 'table');
BEGIN
    RETURN ('privacy', NOT leaks AND readers IS NULL,
            CASE WHEN readers IS NOT NULL THEN format('%s may read %s, and not %s', readers, v.vector_relation, v.relation)
                 WHEN leaks THEN format('row-level security hides rows of %s, and not their vectors in %s', v.relation, v.vector_relation)
                 ELSE 'who may not see a row may not see its vector' END,
            'vectors are shown to nobody who may not read their rows',
            format('SELECT pgvmig.refresh_views(%L%s)', v.relation::text,
                   CASE WHEN v.slot <> 'embedding' THEN format(', slot => %L', v.slot) END),
            '{}'::jsonb)::pgvmig.gate_result;
END
$$;

-- The columns of tables that a view reads. Through a security_invoker view a reader needs the right to all of them,
-- whatever he selects.
CREATE OR REPLACE FUNCTION pgvmig.columns_behind(view regclass) RETURNS TABLE (relation regclass, number smallint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT d.refobjid::regclass, d.refobjsubid::smallint
    FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE r.ev_class = view AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> view AND d.refobjsubid > 0
$$;

CREATE OR REPLACE FUNCTION pgvmig.is_invoker(view regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT o.option_value::boolean FROM pg_class c, pg_options_to_table(c.reloptions) AS o
                     WHERE c.oid = view AND o.option_name = 'security_invoker'), false)
$$;

-- The roles that may read a view and get an answer: named in its grants or its columns', with the right to what is behind
-- it. `role` is the name that has_table_privilege() takes, `grantee` the one that GRANT takes.
CREATE OR REPLACE FUNCTION pgvmig.readers(view regclass) RETURNS TABLE (role text, grantee text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.role, r.grantee
    FROM (SELECT CASE WHEN g.oid = 0 THEN 'public' ELSE pg_get_userbyid(g.oid)::text END AS role,
                 CASE WHEN g.oid = 0 THEN 'PUBLIC' ELSE g.oid::regrole::text END AS grantee
          FROM (SELECT a.grantee AS oid FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
                WHERE c.oid = view AND a.privilege_type = 'SELECT'
                UNION
                SELECT a.grantee FROM pg_attribute t, aclexplode(t.attacl) AS a
                WHERE t.attrelid = view AND a.privilege_type = 'SELECT') AS g) AS r
    WHERE NOT pgvmig.is_invoker(view) OR NOT EXISTS (
        SELECT FROM pgvmig.columns_behind(view) AS b WHERE NOT has_column_privilege(r.role, b.relation, b.number, 'SELECT'))
$$;

-- What readers of the current view would lose: the right to columns that it will read, or, where they read the active
-- version's view as well, the right to the new version's.
CREATE OR REPLACE FUNCTION pgvmig.lost_rights(v pgvmig.version, current_view regclass) RETURNS TABLE (problem text, mend text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s may read %s, and not what it would show: %s of %s', l.grantee, current_view, l.columns, l.relation),
           format('GRANT SELECT (%s) ON %s TO %s', l.columns, l.relation, l.grantee)
    FROM (SELECT r.grantee, b.relation, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns
          FROM pgvmig.readers(current_view) AS r, pgvmig.columns_behind(v.view) AS b
          JOIN pg_attribute a ON a.attrelid = b.relation AND a.attnum = b.number
          WHERE pgvmig.is_invoker(current_view) AND NOT has_column_privilege(r.role, b.relation, b.number, 'SELECT')
          GROUP BY r.grantee, b.relation) AS l
    UNION ALL
    SELECT format('%s may read %s, and not %s', l.grantee, l.view, v.view),
           format('GRANT SELECT%s ON %s TO %s', CASE WHEN NOT l.whole THEN ' (' || l.columns || ')' END, v.view, l.grantee)
    FROM (SELECT r.grantee, active.view, has_table_privilege(r.role, active.view, 'SELECT') AS whole,
                 string_agg(quote_ident(o.attname), ', ' ORDER BY n.attnum) AS columns
          FROM pgvmig.version active, pgvmig.readers(current_view) AS r, pg_attribute o, pg_attribute n
          WHERE active.relation = v.relation AND active.slot = v.slot AND active.state = 'active'
            AND active.version_id <> v.version_id
            AND o.attrelid = active.view AND n.attrelid = v.view AND n.attname = o.attname AND n.attnum > 0
            AND has_column_privilege(r.role, active.view, o.attnum, 'SELECT')
            AND NOT has_column_privilege(r.role, v.view, n.attnum, 'SELECT')
          GROUP BY r.role, r.grantee, active.view) AS l
$$;

-- A version's view that somebody dropped, made anew; its own grants are gone with it.
CREATE OR REPLACE FUNCTION pgvmig.restore_view(v pgvmig.version) RETURNS regclass
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := (SELECT format('%I.%I', n.nspname, pgvmig.fit(concat_ws('_', c.relname, nullif(v.slot, 'embedding'), v.version)))
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = v.relation);
BEGIN
    EXECUTE format('CREATE VIEW %s WITH (security_invoker = true) AS %s', name, pgvmig.view_query(v));
    PERFORM pgvmig.dress_view(name::regclass, v.relation);
    UPDATE pgvmig.version x SET view = name::regclass WHERE x.version_id = v.version_id;
    RETURN name::regclass;
END
$$;

REVOKE ALL ON FUNCTION pgvmig.restore_view FROM PUBLIC;

-- What makes the version's view anew; NULL while it is there.
CREATE OR REPLACE FUNCTION pgvmig.next_restore(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT pgvmig.restore_view(v) FROM pgvmig.version v WHERE v.version_id = %s', v.version_id)
    WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = v.view)
$$;

-- Columns of the current view that the version's would not have, or not of that type; another type of vector is for the
-- switch to handle.
CREATE OR REPLACE FUNCTION pgvmig.lost_columns(v pgvmig.version, current_view regclass) RETURNS TABLE (problem text, mend text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN n.attname IS NULL THEN format('%s shows %I, and %s does not', current_view, o.attname, v.view)
                ELSE format('%I is %s in %s and %s in %s', o.attname, format_type(o.atttypid, o.atttypmod), current_view,
                            format_type(n.atttypid, n.atttypmod), v.view) END,
           CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = v.relation AND a.attname = o.attname AND a.attnum > 0)
                THEN format('SELECT pgvmig.refresh_views(%L%s)', v.relation::text,
                            CASE WHEN v.slot <> 'embedding' THEN format(', slot => %L', v.slot) END)
                ELSE format('show %I in a view of your own over %s, which has the columns of the version that it shows',
                            o.attname, current_view) END
    FROM pg_attribute o LEFT JOIN pg_attribute n ON n.attrelid = v.view AND n.attname = o.attname AND n.attnum > 0
    WHERE o.attrelid = current_view AND o.attnum > 0 AND o.attname <> v.slot
      AND (o.atttypid, o.atttypmod) IS DISTINCT FROM (n.atttypid, n.atttypmod)
    ORDER BY o.attnum
$$;

-- Where rows would be hidden from readers that see them now, or shown to readers that do not: a view that runs with other
-- rights, or a table of vectors whose row-level security is not the rows'.
CREATE OR REPLACE FUNCTION pgvmig.other_rows(v pgvmig.version, current_view regclass) RETURNS TABLE (problem text, mend text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s runs with the rights of %s and %s with those of %s', current_view, u.whose[1 + i.now::integer], v.view,
                  u.whose[1 + i.then::integer]),
           format('ALTER VIEW %s SET (security_invoker = %s)', v.view, i.now)
    FROM (SELECT pgvmig.is_invoker(current_view) AS now, pgvmig.is_invoker(v.view) AS then) AS i,
         (SELECT ARRAY['its owner', 'its reader'] AS whose) AS u
    WHERE i.now <> i.then
    UNION ALL
    SELECT CASE WHEN o.others IS NULL THEN format('row-level security hides every vector in %s from readers: its policy is gone',
                                                  e.oid::regclass)
                ELSE format('%s has policies of its own, which hide vectors of rows that are shown: %s', e.oid::regclass, o.others) END,
           coalesce(o.drops, format('SELECT pgvmig.refresh_views(%L%s)', v.relation::text,
                                    CASE WHEN v.slot <> 'embedding' THEN format(', slot => %L', v.slot) END))
    FROM pg_class e, LATERAL (
        SELECT string_agg(p.polname, ', ' ORDER BY p.polname) AS others,
               string_agg(format('DROP POLICY %I ON %s', p.polname, e.oid::regclass), '; ' ORDER BY p.polname) AS drops
        FROM pg_policy p WHERE p.polrelid = e.oid AND p.polname <> 'pgvmig_as_the_row') AS o
    WHERE v.layout = 'table' AND e.oid = v.vector_relation AND e.relrowsecurity
      AND (o.others IS NOT NULL
           OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = e.oid AND p.polname = 'pgvmig_as_the_row'))
$$;

-- Parity: who reads the current view reads this version as well, and finds the same columns and rows.
CREATE OR REPLACE FUNCTION pgvmig.gate_parity(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_view regclass := (SELECT c.oid FROM pgvmig.slot s JOIN pg_class c ON c.oid = s.current_view
                              WHERE s.relation = v.relation AND s.slot = v.slot);
    problems text[];
    mends text[];
    restore text := pgvmig.next_restore(v);
BEGIN
    IF restore IS NOT NULL THEN
        RETURN ('parity', false, format('the view of %s is gone', v.version), 'the version has its view', restore,
                jsonb_build_object('problems', 1))::pgvmig.gate_result;
    END IF;
    SELECT array_agg(p.problem), array_agg(DISTINCT p.mend) INTO problems, mends
    FROM (SELECT * FROM pgvmig.lost_columns(v, current_view)
          UNION ALL SELECT * FROM pgvmig.other_rows(v, current_view)
          UNION ALL SELECT * FROM pgvmig.lost_rights(v, current_view)
          -- a switch gives those back first
          WHERE NOT EXISTS (SELECT FROM pgvmig.revoked_view r WHERE r.version_id = v.version_id)) AS p
    WHERE current_view IS NOT NULL;
    RETURN ('parity', problems IS NULL,
            CASE WHEN problems IS NOT NULL THEN array_to_string(problems, '; ')
                 WHEN current_view IS NULL THEN 'there is no current view yet that anybody could miss'
                 ELSE (SELECT format('who reads %s (%s role%s) finds the same through %s', current_view, count(*),
                                     CASE WHEN count(*) <> 1 THEN 's' END, v.view) FROM pgvmig.readers(current_view)) END,
            'every role that reads the current view may read what it will show, the same columns, under the same row-level security',
            array_to_string(mends, '; '),
            jsonb_build_object('problems', coalesce(cardinality(problems), 0)))::pgvmig.gate_result;
END
$$;

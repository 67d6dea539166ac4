-- SELECT on a table or view also means SELECT on what shows or holds its vectors; both belong to one owner.
CREATE OR REPLACE FUNCTION pgvmig.copy_select_grants(source regclass, target regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
BEGIN
    FOR g IN
        SELECT a.grantee, a.is_grantable
        FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
        WHERE c.oid = source AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO %s%s', target,
                       CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END,
                       CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    -- which PostgreSQL takes for a view as well
    EXECUTE format('ALTER TABLE %s OWNER TO %s', target, (SELECT relowner::regrole FROM pg_class WHERE oid = source));
END
$$;

-- A new view: those who read the table read it, nobody writes through it.
CREATE OR REPLACE FUNCTION pgvmig.dress_view(view regclass, relation regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.copy_select_grants(relation, view);
    EXECUTE format('CREATE OR REPLACE TRIGGER pgvmig_read_only INSTEAD OF INSERT OR UPDATE OR DELETE ON %s '
                   'FOR EACH ROW EXECUTE FUNCTION pgvmig.refuse_view_write()', view);
END
$$;

-- Who may do what with a view or its columns; NULL for a grantee is everybody, a NULL column the whole view.
CREATE OR REPLACE FUNCTION pgvmig.view_grants(view regclass)
RETURNS TABLE ("column" text, grantee text, privilege text, grantable boolean, grantor text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT f.attname, CASE WHEN a.grantee <> 0 THEN a.grantee::regrole::text END, a.privilege_type, a.is_grantable,
           a.grantor::regrole::text
    FROM (SELECT NULL::text AS attname, coalesce(c.relacl, acldefault('r', c.relowner)) AS acl
          FROM pg_class c WHERE c.oid = view
          UNION ALL
          SELECT t.attname, t.attacl FROM pg_attribute t WHERE t.attrelid = view AND t.attnum > 0 AND t.attacl IS NOT NULL) AS f,
         aclexplode(f.acl) AS a
$$;

-- Everything of a view but its query and its OID: what a switch must leave as it was. Roles by name, so that what is
-- remembered for long means the same after a dump and restore.
CREATE OR REPLACE FUNCTION pgvmig.view_dress(view regclass) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'schema', n.nspname, 'name', c.relname, 'owner', c.relowner::regrole::text,
        'options', coalesce(to_jsonb(c.reloptions), '[]'), 'comment', obj_description(c.oid, 'pg_class'),
        'grants', (SELECT coalesce(jsonb_agg(to_jsonb(g) ORDER BY g."column", g.grantee, g.privilege, g.grantor), '[]')
                   FROM pgvmig.view_grants(c.oid) AS g),
        'columns', (SELECT coalesce(jsonb_object_agg(a.attname, jsonb_build_object(
                               'comment', col_description(c.oid, a.attnum), 'default', pg_get_expr(d.adbin, d.adrelid))), '{}')
                    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                    WHERE a.attrelid = c.oid AND a.attnum > 0
                      AND (d.oid IS NOT NULL OR col_description(c.oid, a.attnum) IS NOT NULL)),
        'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                                'name', t.tgname, 'definition', pg_get_triggerdef(t.oid),
                                'comment', obj_description(t.oid, 'pg_trigger')) ORDER BY t.tgname), '[]')
                     FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = view
$$;

-- What a swap must leave as it was: CREATE OR REPLACE VIEW without its options would drop security_invoker silently.
CREATE OR REPLACE FUNCTION pgvmig.view_identity(view regclass) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('oid', view::oid) || pgvmig.view_dress(view)
$$;

-- CREATE VIEW, or CREATE OR REPLACE VIEW, with these options.
CREATE OR REPLACE FUNCTION pgvmig.create_view_statement(verb text, name text, options text[], query text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s %s %s AS %s', verb, name,
                  CASE WHEN cardinality(options) > 0 THEN 'WITH (' || array_to_string(options, ', ') || ')' END,
                  rtrim(query, ';'))
$$;

-- Give views another text; OID, owner, grants and options stay, or nothing happens. All in one try: whoever holds one of
-- them open must not find the others locked while we wait for it.
CREATE OR REPLACE FUNCTION pgvmig.replace_views(views regclass[], queries text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before jsonb := (SELECT jsonb_object_agg(v::text, pgvmig.view_identity(v)) FROM unnest(views) AS v);
    after jsonb;
    complaint text;
BEGIN
    PERFORM pgvmig.execute_patiently((
        SELECT string_agg(pgvmig.create_view_statement('CREATE OR REPLACE VIEW', c.oid::regclass::text,
                                                        coalesce(c.reloptions, '{}'), u.query), '; ')
        FROM unnest(views, queries) AS u (view, query) JOIN pg_class c ON c.oid = u.view));
    after := (SELECT jsonb_object_agg(v::text, pgvmig.view_identity(v)) FROM unnest(views) AS v);
    IF after IS DISTINCT FROM before THEN
        RAISE EXCEPTION 'another text for % would change owner, grants or options', views
            USING ERRCODE = 'PV004', DETAIL = before || ' -> ' || after;
    END IF;
EXCEPTION
    WHEN invalid_table_definition THEN
        GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT;
        RAISE EXCEPTION '% cannot become that version''s: %', views[1], complaint
            USING ERRCODE = 'PV004',
                  DETAIL = 'PostgreSQL replaces a view only by one with the same columns, and more at the end.',
                  HINT = format('in one transaction, DROP VIEW %s and switch again: it is made anew with the table''s '
                                || 'grants, and clients prepare their statements again', views[1]);
END
$$;

-- What a removal takes away is locked at once and first, in a reader's order, views before their table; whoever else
-- switches this slot waits for the slot's row.
CREATE OR REPLACE FUNCTION pgvmig.lock_for_removal(v pgvmig.version, with_current boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s pgvmig.slot;
BEGIN
    PERFORM pgvmig.lock_slot(v.relation, v.slot);
    SELECT x.* INTO s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot;
    PERFORM pgvmig.execute_patiently(format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', (
        SELECT string_agg(u.locked::regclass::text, ', ' ORDER BY i)
        FROM unnest(ARRAY[CASE WHEN with_current THEN s.current_view END, v.view, v.relation,
                          nullif(v.vector_relation, v.relation)]::oid[])
             WITH ORDINALITY AS u (locked, i)
        JOIN pg_class c ON c.oid = u.locked)));
END
$$;

-- Put a view's dress on: its owner, grants, comments, defaults and triggers. What the view itself was made with (its
-- name, its options) is there already. Not `strictly`: what is gone meanwhile (a role, a column, a trigger's function) is
-- left out with a warning.
CREATE OR REPLACE FUNCTION pgvmig.redress_view(view regclass, dress jsonb, strictly boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step text;
    complaint text;
BEGIN
    IF strictly OR to_regrole(dress ->> 'owner') IS NOT NULL THEN
        EXECUTE format('ALTER VIEW %s OWNER TO %s', view, dress ->> 'owner');
    END IF;
    FOR step IN
        SELECT format('COMMENT ON VIEW %s IS %L', view, dress ->> 'comment') WHERE dress ->> 'comment' IS NOT NULL
        UNION ALL
        SELECT format('COMMENT ON COLUMN %s.%I IS %L', view, a.key, a.value ->> 'comment')
        FROM jsonb_each(dress -> 'columns') AS a WHERE a.value ->> 'comment' IS NOT NULL
        UNION ALL
        SELECT format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', view, a.key, a.value ->> 'default')
        FROM jsonb_each(dress -> 'columns') AS a WHERE a.value ->> 'default' IS NOT NULL
        UNION ALL
        SELECT t ->> 'definition' FROM jsonb_array_elements(dress -> 'triggers') AS t
        UNION ALL
        SELECT format('COMMENT ON TRIGGER %I ON %s IS %L', t ->> 'name', view, t ->> 'comment')
        FROM jsonb_array_elements(dress -> 'triggers') AS t WHERE t ->> 'comment' IS NOT NULL
    LOOP
        BEGIN
            EXECUTE step;
        EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
            GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT;
            IF strictly THEN
                RAISE;
            END IF;
            RAISE WARNING '% is made again without what had been: %', view, step USING DETAIL = complaint;
        END;
    END LOOP;
    PERFORM pgvmig.restore_grants(view, dress -> 'grants');
END
$$;

-- Exactly these grants, those that default privileges have given a new view taken away. Who has a right from somebody
-- else than the owner gets it from the same again where we may act as that role, else from the owner.
CREATE OR REPLACE FUNCTION pgvmig.restore_grants(view regclass, grants jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner text := (SELECT c.relowner::regrole::text FROM pg_class c WHERE c.oid = view);
    given boolean;
    g record;
BEGIN
    FOR g IN
        SELECT p."column", p.grantee, p.privilege, p.grantable FROM pgvmig.view_grants(view) AS p
        EXCEPT
        SELECT w."column", w.grantee, w.privilege, w.grantable FROM pgvmig.grants_of(grants) AS w
    LOOP
        EXECUTE format('REVOKE %s %s ON %s FROM %s', g.privilege, '(' || quote_ident(g."column") || ')', view,
                       coalesce(g.grantee, 'PUBLIC'));
    END LOOP;
    -- a right is passed on by those who have it already: round after round, until nobody gets any more
    FOR round IN 1..jsonb_array_length(grants) LOOP
        given := false;
        FOR g IN
            SELECT w.* FROM pgvmig.grants_of(grants) AS w
            WHERE (w.grantor = owner OR EXISTS (
                      SELECT FROM pgvmig.view_grants(view) AS p
                      WHERE p.grantee = w.grantor AND p.privilege = w.privilege AND p.grantable
                        AND (p."column" IS NULL OR p."column" = w."column")))
              AND NOT EXISTS (
                      SELECT FROM pgvmig.view_grants(view) AS p
                      WHERE (p."column", p.grantee, p.privilege, p.grantable)
                            IS NOT DISTINCT FROM (w."column", w.grantee, w.privilege, w.grantable)
                        AND p.grantor IN (w.grantor, owner))
        LOOP
            PERFORM pgvmig.grant_as(g.grantor, owner, format(
                'GRANT %s %s ON %s TO %s%s', g.privilege, '(' || quote_ident(g."column") || ')', view,
                coalesce(g.grantee, 'PUBLIC'), CASE WHEN g.grantable THEN ' WITH GRANT OPTION' END));
            given := true;
        END LOOP;
        EXIT WHEN NOT given;
    END LOOP;
END
$$;

-- Grants as view_dress has them, of those roles that are there.
CREATE OR REPLACE FUNCTION pgvmig.grants_of(grants jsonb)
RETURNS TABLE ("column" text, grantee text, privilege text, grantable boolean, grantor text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r."column", r.grantee, r.privilege, r.grantable, r.grantor
    FROM jsonb_to_recordset(grants) AS r ("column" text, grantee text, privilege text, grantable boolean, grantor text)
    WHERE r.grantee IS NULL OR to_regrole(r.grantee) IS NOT NULL
$$;

-- GRANT names a grantor by being that role; who may not be it, or it may not enter the schema, grants as the owner.
CREATE OR REPLACE FUNCTION pgvmig.grant_as(grantor text, owner text, statement text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text := current_setting('role');
BEGIN
    IF grantor <> owner THEN
        BEGIN
            PERFORM set_config('role', (SELECT r.rolname FROM pg_roles r WHERE r.oid = to_regrole(grantor)), true);
            EXECUTE statement;
            PERFORM set_config('role', before, true);
            RETURN;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;  -- with the attempt its role is gone, too
        END;
    END IF;
    EXECUTE statement;
END
$$;

-- The current view goes, because nothing is active any more. What it wore is kept for the next one.
CREATE OR REPLACE FUNCTION pgvmig.drop_current_view(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    view regclass := (SELECT c.oid FROM pgvmig.slot s JOIN pg_class c ON c.oid = s.current_view
                      WHERE s.relation = v.relation AND s.slot = v.slot);
BEGIN
    UPDATE pgvmig.slot s SET current_view = NULL, current_dress = pgvmig.view_dress(view)
    WHERE s.relation = v.relation AND s.slot = v.slot;
    DELETE FROM pgvmig.route r WHERE r.relation = v.relation AND r.slot = v.slot;
    IF view IS NOT NULL THEN
        PERFORM pgvmig.execute_patiently(format('DROP VIEW %s', view));
    END IF;
END
$$;

-- The current view for the first time: named after the table, for those who read the table; or as it was before a
-- rollback took it away.
CREATE OR REPLACE FUNCTION pgvmig.create_current_view(v pgvmig.version, query text, dress jsonb) RETURNS regclass
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := (SELECT format('%I.%I', n.nspname, pgvmig.fit(c.relname
                                || CASE WHEN v.slot = 'embedding' THEN '' ELSE '_' || v.slot END || '_current'))
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = v.relation);
BEGIN
    IF to_regnamespace(quote_ident(dress ->> 'schema')) IS NOT NULL THEN
        name := format('%I.%I', dress ->> 'schema', dress ->> 'name');
        EXECUTE pgvmig.create_view_statement('CREATE VIEW', name,
                                             ARRAY(SELECT jsonb_array_elements_text(dress -> 'options')), query);
        PERFORM pgvmig.redress_view(name::regclass, dress, false);
    ELSE
        EXECUTE pgvmig.create_view_statement('CREATE VIEW', name, '{security_invoker=true}', query);
        PERFORM pgvmig.dress_view(name::regclass, v.relation);
    END IF;
    UPDATE pgvmig.slot s SET current_view = name::regclass, current_dress = NULL
    WHERE s.relation = v.relation AND s.slot = v.slot;
    PERFORM pgvmig.grant_version(x) FROM pgvmig.version x WHERE x.version_id = v.version_id;
    RETURN name::regclass;
END
$$;

REVOKE ALL ON FUNCTION
    pgvmig.retype_view, pgvmig.redress_view, pgvmig.restore_grants, pgvmig.grant_as, pgvmig.create_current_view
FROM PUBLIC;

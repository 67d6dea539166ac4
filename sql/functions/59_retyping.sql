-- A switch between vector and halfvec changes a column's type, which CREATE OR REPLACE VIEW cannot: the current view is
-- dropped and made again in the one transaction, and the views that show it with it. All but their OIDs stays.

-- The view and, recursively, the views over it; who reads them locks the outermost first, and so they are ordered.
CREATE OR REPLACE FUNCTION pgvmig.view_tower(view regclass) RETURNS regclass[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE tower AS (
        SELECT view::oid AS oid, 0 AS height
        UNION
        SELECT c.oid, t.height + 1
        FROM tower t
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN' AND r.ev_class <> t.oid
        JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
        WHERE t.height < 100  -- views may show each other in a circle, which nobody can query
    )
    SELECT array_agg(o.oid::regclass ORDER BY o.height DESC, o.oid)
    FROM (SELECT oid, max(height) AS height FROM tower GROUP BY oid) AS o
$$;

-- What depends on these views and is no plain view, or belongs to them and cannot be put back: it is named, and nothing
-- is dropped.
CREATE OR REPLACE FUNCTION pgvmig.retyping_obstacles(views regclass[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(DISTINCT o.what ORDER BY o.what), '{}') FROM (
        SELECT CASE WHEN c.relkind = 'm' THEN pg_describe_object('pg_class'::regclass, c.oid, 0)
                    ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS what
        FROM pg_class v
        JOIN pg_type y ON y.oid = v.reltype
        JOIN pg_depend d ON d.deptype <> 'i' AND (d.refclassid, d.refobjid) IN (
            ('pg_class'::regclass, v.oid), ('pg_type'::regclass, v.reltype), ('pg_type'::regclass, y.typarray))
        LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        LEFT JOIN pg_class c ON c.oid = r.ev_class
        LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
        LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
        WHERE v.oid = ANY (views)
          AND NOT coalesce(t.tgrelid = ANY (views), false) AND NOT coalesce(f.adrelid = ANY (views), false)
          AND NOT coalesce(r.rulename = '_RETURN' AND c.oid = ANY (views) AND d.refclassid = 'pg_class'::regclass, false)
        UNION ALL
        SELECT format('%s, which belongs to %s', pg_describe_object('pg_class'::regclass, v.oid, 0), v.relowner::regrole)
        FROM pg_class v WHERE v.oid = ANY (views) AND NOT pg_has_role(v.relowner, 'USAGE')
        UNION ALL
        SELECT 'temporary ' || pg_describe_object('pg_class'::regclass, v.oid, 0)
        FROM pg_class v WHERE v.oid = ANY (views) AND v.relpersistence = 't'
        UNION ALL
        SELECT format('%s of extension %s', pg_describe_object('pg_class'::regclass, d.objid, 0), e.extname)
        FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
        WHERE d.classid = 'pg_class'::regclass AND d.objid = ANY (views)
        UNION ALL
        SELECT 'a security label on ' || pg_describe_object('pg_class'::regclass, l.objoid, l.objsubid)
        FROM pg_seclabel l WHERE l.classoid = 'pg_class'::regclass AND l.objoid = ANY (views)) AS o
$$;

-- What a switch to this version does to the current view's type: {view, from, to, dependents, obstacles}, NULL when
-- nothing.
CREATE OR REPLACE FUNCTION pgvmig.retyping(v pgvmig.version) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'view', c.oid::regclass::text, 'from', shown.type, 'to', wanted.type,
        'dependents', (SELECT to_jsonb(array_agg(u.view::text ORDER BY u.i DESC) FILTER (WHERE u.view <> c.oid))
                       FROM unnest(pgvmig.view_tower(c.oid)) WITH ORDINALITY AS u (view, i)),
        'obstacles', to_jsonb(pgvmig.retyping_obstacles(pgvmig.view_tower(c.oid))))
    FROM pgvmig.slot s
    JOIN pg_class c ON c.oid = s.current_view
    CROSS JOIN LATERAL (SELECT t.typname AS type FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                        WHERE a.attrelid = c.oid AND a.attname = s.slot) AS shown
    CROSS JOIN LATERAL (SELECT t.typname AS type FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                        WHERE a.attrelid = v.view AND a.attname = s.slot) AS wanted
    WHERE s.relation = v.relation AND s.slot = v.slot AND shown.type <> wanted.type
$$;

-- Raise for what a retyping cannot put back. Before anything is dropped.
CREATE OR REPLACE FUNCTION pgvmig.require_retypable(retyping jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF jsonb_array_length(retyping -> 'obstacles') > 0 THEN
        RAISE EXCEPTION '% changes from % to % and must be made anew, and so must what cannot be: %', retyping ->> 'view',
            retyping ->> 'from', retyping ->> 'to',
            (SELECT string_agg(o, '; ') FROM jsonb_array_elements_text(retyping -> 'obstacles') AS o)
            USING ERRCODE = 'PV004',
                  DETAIL = 'With CASCADE it would be gone; nothing was dropped.',
                  HINT = 'drop it or have it read the table, switch, and make it again over the new view';
    END IF;
END
$$;

-- Make the current view anew with this query, and what shows it; never CASCADE.
CREATE OR REPLACE FUNCTION pgvmig.retype_view(view regclass, query text, retyping jsonb) RETURNS regclass
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tower regclass[] := pgvmig.view_tower(view);
    dresses jsonb[];
    queries text[];
    name text;
    complaint text;
BEGIN
    PERFORM pgvmig.require_retypable(retyping);
    -- A change to the owner that they have changes nothing and takes the lock, of the views alone: LOCK TABLE would take
    -- the tables', too. All in one try, as in replace_views.
    PERFORM pgvmig.execute_patiently((
        SELECT string_agg(format('ALTER VIEW %s OWNER TO %s', c.oid::regclass, c.relowner::regrole), '; ' ORDER BY u.i)
        FROM unnest(tower) WITH ORDINALITY AS u (view, i) JOIN pg_class c ON c.oid = u.view));
    IF pgvmig.view_tower(view) <> tower OR cardinality(pgvmig.retyping_obstacles(tower)) > 0 THEN
        RAISE EXCEPTION 'something else depends on % by now', view USING ERRCODE = 'PV004', HINT = 'run this again';
    END IF;
    SELECT array_agg(pgvmig.view_dress(u.view) ORDER BY u.i),
           array_agg(CASE WHEN u.view = retype_view.view THEN query ELSE pg_get_viewdef(u.view) END ORDER BY u.i)
    INTO dresses, queries FROM unnest(tower) WITH ORDINALITY AS u (view, i);
    EXECUTE format('DROP VIEW %s', (SELECT string_agg(u.view::text, ', ' ORDER BY u.i)
                                    FROM unnest(tower) WITH ORDINALITY AS u (view, i)));
    FOR i IN REVERSE cardinality(tower)..1 LOOP
        name := format('%I.%I', dresses[i] ->> 'schema', dresses[i] ->> 'name');
        EXECUTE pgvmig.create_view_statement('CREATE VIEW', name,
                                             ARRAY(SELECT jsonb_array_elements_text(dresses[i] -> 'options')), queries[i]);
        PERFORM pgvmig.redress_view(name::regclass, dresses[i], true);
        PERFORM pgvmig.require_same_dress(name::regclass, dresses[i]);
    END LOOP;
    RETURN format('%I.%I', dresses[cardinality(tower)] ->> 'schema', dresses[cardinality(tower)] ->> 'name')::regclass;
EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
    GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT;
    RAISE EXCEPTION '% cannot be made again over %: %', coalesce(name, view::text), retyping ->> 'to', complaint
        USING ERRCODE = 'PV004', DETAIL = 'Everything is as it was before.',
              HINT = 'drop it, switch, and make it again over the new view';
END
$$;

-- Raise unless a view that was made anew wears what the old one did. From whom a right was got may have changed: only a
-- role itself can pass on what it has.
CREATE OR REPLACE FUNCTION pgvmig.require_same_dress(view regclass, dress jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now jsonb := pgvmig.without_grantors(pgvmig.view_dress(view));
    before jsonb := pgvmig.without_grantors(dress);
BEGIN
    IF now IS DISTINCT FROM before THEN
        RAISE EXCEPTION '% would not be as it was', view
            USING ERRCODE = 'PV004', DETAIL = before || ' -> ' || now, HINT = 'nothing was changed; report this as a bug';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.without_grantors(dress jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT dress || jsonb_build_object('grants', (
        SELECT jsonb_agg(DISTINCT g - 'grantor') FROM jsonb_array_elements(dress -> 'grants') AS g))
$$;

-- Run one DDL statement under a short lock_timeout, again and again with a random pause in between: a lock that waits
-- makes everybody behind it wait as well. Kills nobody; raises lock_not_available when the attempts are used up.
-- Names in the statement are read with the caller's search_path: a default is evaluated there.
CREATE OR REPLACE FUNCTION pgvmig.execute_patiently(
    statement text, lock_timeout interval DEFAULT '200 ms', attempts integer DEFAULT 50,
    path text DEFAULT pg_catalog.current_setting('search_path')
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    milliseconds text := (extract(epoch FROM execute_patiently.lock_timeout) * 1000)::integer::text;
    before text := current_setting('lock_timeout');
BEGIN
    FOR attempt IN 1..attempts LOOP
        BEGIN
            PERFORM set_config('lock_timeout', milliseconds, true), set_config('search_path', path, true);
            EXECUTE statement;
            PERFORM pg_catalog.set_config('lock_timeout', before, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF attempt = attempts THEN
                RAISE EXCEPTION 'no lock in % attempts of % ms each', attempts, milliseconds
                    USING ERRCODE = 'lock_not_available', DETAIL = statement,
                          HINT = 'find who holds it (pg_blocking_pids, pg_stat_activity.xact_start), then run this again; '
                                 || 'nothing was changed';
            END IF;
        END;
        PERFORM pg_sleep(0.05 + random() * 0.2);
    END LOOP;
END
$$;

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

-- What a swap must leave as it was: CREATE OR REPLACE VIEW without its options would drop security_invoker silently.
CREATE OR REPLACE FUNCTION pgvmig.view_identity(view regclass) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('oid', c.oid, 'owner', c.relowner, 'acl', c.relacl::text, 'options', c.reloptions)
    FROM pg_class c WHERE c.oid = view
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
        SELECT string_agg(format('CREATE OR REPLACE VIEW %s %s AS %s', u.view, (
                   SELECT 'WITH (' || string_agg(o, ', ') || ')'
                   FROM pg_class c, unnest(c.reloptions) AS o WHERE c.oid = u.view), rtrim(u.query, ';')), '; ')
        FROM unnest(views, queries) AS u (view, query)));
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
                  DETAIL = 'PostgreSQL replaces a view only by one with the same columns and types; '
                           || 'vector and halfvec are two types.',
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
    SELECT x.* INTO s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot FOR UPDATE;
    PERFORM pgvmig.execute_patiently(format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', (
        SELECT string_agg(u.locked::regclass::text, ', ' ORDER BY i)
        FROM unnest(ARRAY[CASE WHEN with_current THEN s.current_view END, v.view, v.relation,
                          nullif(v.vector_relation, v.relation)]::oid[])
             WITH ORDINALITY AS u (locked, i)
        JOIN pg_class c ON c.oid = u.locked)));
END
$$;

-- Make the current view show this version. PostgreSQL's own text of the version's view is what both show, so the two
-- cannot differ. In the caller's transaction, with the route.
CREATE OR REPLACE FUNCTION pgvmig.swap(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s pgvmig.slot;
    query text := rtrim(pg_get_viewdef(v.view), ';');
    name text;
BEGIN
    SELECT x.* INTO STRICT s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot FOR UPDATE;
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.current_view) THEN  -- the first swap, or somebody dropped it
        SELECT format('%I.%I', n.nspname, pgvmig.fit(c.relname
                      || CASE WHEN v.slot = 'embedding' THEN '' ELSE '_' || v.slot END || '_current'))
        INTO name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = v.relation;
        EXECUTE format('CREATE VIEW %s WITH (security_invoker = true) AS %s', name, query);
        PERFORM pgvmig.dress_view(name::regclass, v.relation);
        UPDATE pgvmig.slot x SET current_view = name::regclass WHERE x.relation = v.relation AND x.slot = v.slot;
    ELSE
        PERFORM pgvmig.replace_views(ARRAY[s.current_view], ARRAY[query]);
    END IF;
    DELETE FROM pgvmig.route r WHERE r.relation = v.relation AND r.slot = v.slot;
    INSERT INTO pgvmig.route (relation, slot, version_id, percent) VALUES (v.relation, v.slot, v.version_id, 100);
    PERFORM pg_notify('pgvmig_switch', format('%s %s', pgvmig.label(v.relation, v.slot), v.version));
END
$$;

-- The active version makes room: it is retained, and from now on the worker keeps it fresh whoever wrote it so far,
-- because the way back leads there.
CREATE OR REPLACE FUNCTION pgvmig.retain_active(relation regclass, slot text) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    previous integer;
BEGIN
    UPDATE pgvmig.version v SET state = 'retained', writer = 'worker'
    WHERE v.relation = $1 AND v.slot = $2 AND v.state = 'active' RETURNING v.version_id INTO previous;
    UPDATE pgvmig.backfill b SET walked = false
    FROM pgvmig.version v WHERE v.version_id = previous AND b.version_id = previous AND v.adopted;
    RETURN previous;
END
$$;

-- The switch itself: view, route and states, after the gates.
CREATE OR REPLACE FUNCTION pgvmig.activate(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.retain_active(v.relation, v.slot);
    IF v.state IN ('added', 'backfilling') THEN
        UPDATE pgvmig.version x SET state = 'ready' WHERE x.version_id = v.version_id;
    END IF;
    UPDATE pgvmig.version x SET state = 'active' WHERE x.version_id = v.version_id;
    PERFORM pgvmig.swap(v);  -- last: from its lock on, readers wait for our commit
END
$$;

-- Cut over: the gates, then in this transaction the view, the route and the states. Does nothing when the version is
-- active already. Returns {changed, version, previous, missing, gates}.
CREATE OR REPLACE FUNCTION pgvmig.cut_over(
    relation regclass, version text, slot text DEFAULT 'embedding', max_stale_age interval DEFAULT '60 s',
    skip text[] DEFAULT '{}', reason text DEFAULT NULL, max_evidence_age interval DEFAULT '24 h'
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version;
    previous integer;
    gates jsonb;
    outcome jsonb;
BEGIN
    PERFORM FROM pgvmig.slot s WHERE s.relation = $1 AND s.slot = $3 FOR UPDATE;
    v := pgvmig.find_version($1, $2, $3);
    IF v.state = 'active' THEN
        RETURN jsonb_build_object('changed', false, 'version', v.version);
    END IF;
    IF v.state = 'retired' THEN
        RAISE EXCEPTION '% % is retired', pgvmig.label($1, $3), $2
            USING ERRCODE = 'PV004', HINT = 'op.add_embedding() adds it again, empty';
    END IF;
    gates := pgvmig.require_gates(v, ROW(max_stale_age, max_evidence_age, false), skip, reason);
    SELECT x.version_id INTO previous FROM pgvmig.version x
    WHERE x.relation = v.relation AND x.slot = v.slot AND x.state = 'active';
    outcome := jsonb_build_object(
        'changed', true, 'version', v.version,
        'previous', (SELECT x.version FROM pgvmig.version x WHERE x.version_id = previous),
        'missing', coalesce((gates #>> '{coverage,missing}')::bigint, 0)
                   + coalesce((gates #>> '{coverage,missing_recent}')::bigint, 0)
                   + coalesce((gates #>> '{coverage,outdated_recent}')::bigint, 0)
                   + coalesce((gates #>> '{coverage,outdated}')::bigint, 0),
        'skipped', to_jsonb(skip), 'gates', gates);
    PERFORM pgvmig.begin_verb('cut over', reason, outcome);
    PERFORM pgvmig.activate(v);
    UPDATE pgvmig.version x SET activated_from = previous WHERE x.version_id = v.version_id AND previous IS NOT NULL;
    PERFORM pgvmig.end_verb();
    RETURN outcome;
END
$$;

-- Roll back: the way of cut_over backwards, to the version that was active before. `version` is the one to leave; NULL
-- means the active one; naming one that is not active does nothing, because then it has been left already.
CREATE OR REPLACE FUNCTION pgvmig.roll_back(
    relation regclass, version text DEFAULT NULL, slot text DEFAULT 'embedding', max_stale_age interval DEFAULT '60 s',
    skip text[] DEFAULT '{}', reason text DEFAULT NULL, max_evidence_age interval DEFAULT '24 h'
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    leaving pgvmig.version;
    target pgvmig.version;
    gates jsonb := '{}';
    outcome jsonb;
BEGIN
    PERFORM FROM pgvmig.slot s WHERE s.relation = $1 AND s.slot = $3 FOR UPDATE;
    SELECT v.* INTO leaving FROM pgvmig.version v WHERE v.relation = $1 AND v.slot = $3 AND v.state = 'active';
    IF leaving.version_id IS NULL OR leaving.version <> $2 THEN
        IF $2 IS NOT NULL THEN
            PERFORM pgvmig.find_version($1, $2, $3);
        END IF;
        RETURN jsonb_build_object('changed', false, 'version', leaving.version);
    END IF;
    SELECT v.* INTO target FROM pgvmig.version v WHERE v.version_id = leaving.activated_from AND v.state <> 'retired';
    IF target.version_id IS NULL AND leaving.adopted THEN
        RAISE EXCEPTION '% % was adopted as it was: there is no version before it', pgvmig.label($1, $3), leaving.version
            USING ERRCODE = 'PV004', HINT = 'op.release_embedding takes pgvmig off the table again';
    ELSIF target.version_id IS NOT NULL THEN
        gates := pgvmig.require_gates(target, ROW(max_stale_age, max_evidence_age, true), skip, reason);
    ELSIF leaving.activated_from IS NOT NULL THEN
        RAISE EXCEPTION '% % cannot be rolled back: the version before it is retired', pgvmig.label($1, $3), leaving.version
            USING ERRCODE = 'PV004', HINT = 'add it again as a new version, backfill it and cut over to it';
    END IF;
    outcome := jsonb_build_object('changed', true, 'version', target.version, 'previous', leaving.version,
                                  'skipped', to_jsonb(skip), 'gates', gates);
    PERFORM pgvmig.begin_verb('roll back', reason, outcome);
    IF target.version_id IS NULL THEN
        PERFORM pgvmig.drop_current_view(leaving);
        UPDATE pgvmig.version v SET state = 'ready' WHERE v.version_id = leaving.version_id;
    ELSE
        PERFORM pgvmig.activate(target);
    END IF;
    PERFORM pgvmig.end_verb();
    RETURN outcome;
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.drop_current_view(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    view regclass := (SELECT c.oid FROM pgvmig.slot s JOIN pg_class c ON c.oid = s.current_view
                      WHERE s.relation = v.relation AND s.slot = v.slot);
BEGIN
    UPDATE pgvmig.slot s SET current_view = NULL WHERE s.relation = v.relation AND s.slot = v.slot;
    DELETE FROM pgvmig.route r WHERE r.relation = v.relation AND r.slot = v.slot;
    IF view IS NOT NULL THEN
        PERFORM pgvmig.execute_patiently(format('DROP VIEW %s', view));
    END IF;
END
$$;

-- What the events of this transaction are about. The caller may have set pgvmig.source and pgvmig.revision.
CREATE OR REPLACE FUNCTION pgvmig.begin_verb(verb text, reason text, detail jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT set_config('pgvmig.verb', verb, true),
           set_config('pgvmig.reason', coalesce(reason, ''), true),
           set_config('pgvmig.detail', coalesce(detail, '{}')::text, true)
$$;

CREATE OR REPLACE FUNCTION pgvmig.end_verb() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT set_config('pgvmig.verb', '', true), set_config('pgvmig.reason', '', true), set_config('pgvmig.detail', '', true)
$$;

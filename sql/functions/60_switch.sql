-- Make the current view show this version: what its own view shows, or nothing happens. That view may have been replaced
-- by hand, by one that leaves rows out or shows another version's vectors, which no gate looks for. In the caller's
-- transaction, with the route.
CREATE OR REPLACE FUNCTION pgvmig.swap(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s pgvmig.slot;
    query text := pgvmig.view_query(v);
    retyping jsonb := pgvmig.retyping(v);
    shown regclass;
BEGIN
    PERFORM pgvmig.lock_slot(v.relation, v.slot);
    SELECT x.* INTO STRICT s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot;
    shown := s.current_view;
    DELETE FROM pgvmig.route r WHERE r.relation = v.relation AND r.slot = v.slot;
    INSERT INTO pgvmig.route (relation, slot, version_id, percent) VALUES (v.relation, v.slot, v.version_id, 100);
    PERFORM pg_notify('pgvmig_switch', format('%s %s', pgvmig.label(v.relation, v.slot), v.version));
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.current_view) THEN  -- the first swap, or somebody dropped it
        shown := pgvmig.create_current_view(v, query, s.current_dress);
    ELSIF retyping IS NOT NULL THEN
        shown := pgvmig.retype_view(s.current_view, query, retyping);
        UPDATE pgvmig.slot x SET current_view = shown WHERE x.relation = v.relation AND x.slot = v.slot;
    ELSE
        PERFORM pgvmig.replace_views(ARRAY[s.current_view], ARRAY[query]);
    END IF;
    IF pg_get_viewdef(shown) <> pg_get_viewdef(v.view) THEN
        RAISE EXCEPTION '% is not the view that pgvmig made: somebody replaced it', v.view
            USING ERRCODE = 'PV004', DETAIL = pg_get_viewdef(shown) || ' became ' || pg_get_viewdef(v.view),
                  HINT = format('SELECT pgvmig.refresh_views(%L%s) makes it anew', v.relation::text,
                                CASE WHEN v.slot <> 'embedding' THEN format(', slot => %L', v.slot) END);
    END IF;
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
    PERFORM pgvmig.read_index_scans(v) FROM pgvmig.version v WHERE v.version_id = previous;
    RETURN previous;
END
$$;

-- The switch itself: view, route and states, after the gates. `came_from`: the version that a rollback from here goes to;
-- NULL leaves that as it is.
CREATE OR REPLACE FUNCTION pgvmig.activate(v pgvmig.version, came_from integer DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.retain_active(v.relation, v.slot);
    IF v.state IN ('added', 'backfilling') THEN
        UPDATE pgvmig.version x SET state = 'ready' WHERE x.version_id = v.version_id;
    END IF;
    UPDATE pgvmig.version x SET state = 'active', activated_from = coalesce(came_from, x.activated_from)
    WHERE x.version_id = v.version_id;
    PERFORM pgvmig.swap(v);  -- last: from its lock on, readers wait for our commit
END
$$;

-- The gate index, asked of the current view itself before the switch is committed: what was done to that view alone
-- (security_barrier, say) keeps a search through it from the index that the version's own view can use. `served` is
-- what the gates had found; without an index (an empty table, adopted vectors) there is nothing to hold it to.
CREATE OR REPLACE FUNCTION pgvmig.require_served(v pgvmig.version, gates jsonb, skip text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    served text := gates #>> '{index,index}';
    current_view regclass := (SELECT s.current_view FROM pgvmig.slot s WHERE s.relation = v.relation AND s.slot = v.slot);
    contract jsonb := (SELECT c.definition FROM pgvmig.contract c WHERE c.fingerprint = v.fingerprint);
    found text := format('the planner cannot use %s for a search through %s', served, current_view);
    next text := format('compare the options of %s and %s (\d+ in psql), or skip the gate index', current_view, v.view);
BEGIN
    IF served IS NULL OR 'index' = ANY (skip) OR pgvmig.serving_index(v, contract, current_view) IS NOT NULL THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '% % is not ready: %', pgvmig.label(v.relation, v.slot), v.version, found
        USING ERRCODE = 'PV002', HINT = next,
              DETAIL = jsonb_build_object('index', jsonb_build_object(
                  'gate', 'index', 'passed', false, 'found', found, 'next', next,
                  'wanted', 'an index that can serve a search through the current view', 'measured', '{}'::jsonb))::text;
END
$$;

-- Cut over: the gates, then in this transaction the view, the route and the states; a pause of this version's backfill
-- is lifted, because what is active must stay fresh. Does nothing when the version is active already. Returns {changed,
-- version, previous, missing, retyped, resumed, skipped, gates}.
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
    PERFORM pgvmig.lock_slot($1, $3);
    v := pgvmig.find_version($1, $2, $3);
    IF v.state = 'active' THEN
        PERFORM pgvmig.note_done('cut over', $1, $3, v.version);
        RETURN jsonb_build_object('changed', false, 'version', v.version);
    END IF;
    IF v.state = 'retired' THEN
        RAISE EXCEPTION '% % is retired', pgvmig.label($1, $3), $2
            USING ERRCODE = 'PV004', HINT = 'op.add_embedding() adds it again, empty';
    END IF;
    PERFORM pgvmig.require_retypable(pgvmig.retyping(v));
    PERFORM pgvmig.give_back(v);  -- the right to read it, if a soak took it away
    gates := pgvmig.require_gates(v, ROW(max_stale_age, max_evidence_age, false), skip, reason);
    SELECT x.version_id INTO previous FROM pgvmig.version x
    WHERE x.relation = v.relation AND x.slot = v.slot AND x.state = 'active';
    outcome := jsonb_build_object(
        'changed', true, 'version', v.version,
        'previous', (SELECT x.version FROM pgvmig.version x WHERE x.version_id = previous),
        'missing', pgvmig.missing(gates),
        'retyped', pgvmig.retyped(v), 'resumed', pgvmig.lift_pause(v), 'skipped', to_jsonb(skip), 'gates', gates);
    PERFORM pgvmig.begin_verb('cut over', reason, outcome);
    PERFORM pgvmig.activate(v, previous);
    PERFORM pgvmig.end_verb();
    PERFORM pgvmig.require_served(v, gates, skip);
    RETURN outcome;
END
$$;

-- Roll back: the way of cut_over backwards, to the version that was active before. `version` is the one to leave; NULL
-- means the active one, unless it is the first; naming one that is not active does nothing: it has been left already. The version
-- that is left serves no key any more and its backfill is paused: the other versions of the slot go on being kept fresh.
-- Returns {changed, version, previous, paused, missing, retyped, skipped, gates}.
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
    PERFORM pgvmig.lock_slot($1, $3);
    SELECT v.* INTO leaving FROM pgvmig.version v WHERE v.relation = $1 AND v.slot = $3 AND v.state = 'active';
    IF leaving.version_id IS NULL OR leaving.version <> $2 THEN
        IF $2 IS NOT NULL THEN
            PERFORM pgvmig.find_version($1, $2, $3);
        END IF;
        PERFORM pgvmig.note_done('roll back', $1, $3, leaving.version);
        RETURN jsonb_build_object('changed', false, 'version', leaving.version);
    END IF;
    SELECT v.* INTO target FROM pgvmig.version v WHERE v.version_id = leaving.activated_from AND v.state <> 'retired';
    IF target.version_id IS NULL AND leaving.adopted THEN
        RAISE EXCEPTION '% % was adopted as it was: there is no version before it', pgvmig.label($1, $3), leaving.version
            USING ERRCODE = 'PV004', HINT = 'op.release_embedding takes pgvmig off the table again';
    ELSIF target.version_id IS NOT NULL THEN
        PERFORM pgvmig.require_retypable(pgvmig.retyping(target));
        PERFORM pgvmig.give_back(target);
        gates := pgvmig.require_gates(target, ROW(max_stale_age, max_evidence_age, true), skip, reason);
    ELSIF leaving.activated_from IS NOT NULL THEN
        RAISE EXCEPTION '% % cannot be rolled back: the version before it is retired', pgvmig.label($1, $3), leaving.version
            USING ERRCODE = 'PV004', HINT = 'add it again as a new version, backfill it and cut over to it';
    ELSIF $2 IS NULL AND leaving.version_id IS NOT NULL THEN  -- called once more than was meant
        RAISE EXCEPTION '% % is the first version: there is none before it to go back to', pgvmig.label($1, $3), leaving.version
            USING ERRCODE = 'PV004', DETAIL = 'Leaving it would take the current view away from whoever searches there.',
                  HINT = format('name it, if nobody is to search there any more: pgvmig.roll_back(%L, %L%s)', $1::text,
                                leaving.version, CASE WHEN $3 <> 'embedding' THEN format(', %L', $3) END);
    END IF;
    outcome := jsonb_build_object('changed', true, 'version', target.version, 'previous', leaving.version,
                                  'paused', CASE WHEN target.version_id IS NOT NULL THEN leaving.version END,
                                  'missing', pgvmig.missing(gates), 'retyped', pgvmig.retyped(target),
                                  'skipped', to_jsonb(skip), 'gates', gates);
    PERFORM pgvmig.begin_verb('roll back', reason, outcome);
    IF target.version_id IS NULL THEN
        PERFORM pgvmig.drop_current_view(leaving);
        UPDATE pgvmig.version v SET state = 'ready' WHERE v.version_id = leaving.version_id;
    ELSE
        PERFORM pgvmig.stop_promoting(leaving, reason);
        PERFORM pgvmig.activate(target);
    END IF;
    PERFORM pgvmig.end_verb();
    PERFORM pgvmig.require_served(target, gates, skip);
    RETURN outcome;
END
$$;

-- A revision that finds its switch done says the same as one that did it: status compares what revisions said last with
-- what is active.
CREATE OR REPLACE FUNCTION pgvmig.note_done(verb text, relation regclass, slot text, active text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pgvmig.event (source, verb, relation, slot, version, revision, detail)
    SELECT 'alembic', $1, pgvmig.label($2, 'embedding'), $3, $4, nullif(current_setting('pgvmig.revision', true), ''),
           '{"found_done": true}'
    WHERE current_setting('pgvmig.source', true) = 'alembic'
$$;

-- How many rows had no vector of their present text when the gates were asked.
CREATE OR REPLACE FUNCTION pgvmig.missing(gates jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(sum((gates #>> ARRAY['coverage', figure])::bigint), 0)::bigint
    FROM unnest(ARRAY['missing', 'missing_recent', 'outdated', 'outdated_recent']) AS figure
$$;

-- {from, to} when a switch to the version changes the vector's type, else NULL.
CREATE OR REPLACE FUNCTION pgvmig.retyped(v pgvmig.version) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('from', r -> 'from', 'to', r -> 'to') FROM pgvmig.retyping(v) AS r WHERE r IS NOT NULL
$$;

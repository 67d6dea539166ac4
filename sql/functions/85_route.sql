-- Gradual rollout: a share of the keys, and keys by name, go to one candidate beside the active version.

-- What a route's row says, as events and answers have it.
CREATE OR REPLACE FUNCTION pgvmig.candidate(relation regclass, slot text)
RETURNS TABLE (version_id integer, version text, percent numeric, keys text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.version_id, v.version, trim_scale(r.percent),
           ARRAY(SELECT k.key FROM pgvmig.route_key k
                 WHERE k.relation = $1 AND k.slot = $2 AND k.version_id = r.version_id ORDER BY k.key)
    FROM pgvmig.route r JOIN pgvmig.version v ON v.version_id = r.version_id
    WHERE r.relation = $1 AND r.slot = $2 AND r.percent < 100
$$;

-- What no share can be given to, or no such share. Says what to do instead.
CREATE OR REPLACE FUNCTION pgvmig.require_routable(v pgvmig.version, percent numeric, keys text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target text := pgvmig.label(v.relation, v.slot);
    other record;
BEGIN
    SELECT * INTO other FROM pgvmig.candidate(v.relation, v.slot);
    IF v.state = 'active' THEN
        RAISE EXCEPTION '% % is active', target, v.version
            USING ERRCODE = 'PV004', DETAIL = 'It serves every key that no other version serves.',
                  HINT = format('pgvmig route %s --off, if all keys are to go there', target);
    ELSIF v.state = 'retired' THEN
        RAISE EXCEPTION '% % is retired', target, v.version
            USING ERRCODE = 'PV004', HINT = 'op.add_embedding() adds it again, empty';
    ELSIF percent = 100 THEN
        RAISE EXCEPTION '100 percent of % to % is the cutover', target, v.version
            USING ERRCODE = 'PV004', DETAIL = 'The current view and the search settings are switched with it.',
                  HINT = format('pgvmig cutover %s %s', target, v.version);
    ELSIF percent NOT BETWEEN 0 AND 100 OR percent <> round(percent, 2) THEN
        RAISE EXCEPTION '% is no share', percent
            USING ERRCODE = 'PV004', HINT = 'give a number from 0 to 99.99, in hundredths of a percent at most';
    ELSIF EXISTS (SELECT FROM unnest(keys) AS k
                  WHERE k IS NULL OR octet_length(k) NOT BETWEEN 1 AND 1000) THEN
        RAISE EXCEPTION 'a key is NULL, empty, or over 1,000 bytes long'
            USING ERRCODE = 'PV004', DETAIL = 'A NULL key is served by the active version.',
                  HINT = 'give keys as services give them to pgvmig.route()';
    ELSIF NOT EXISTS (SELECT FROM pgvmig.version x
                      WHERE x.relation = v.relation AND x.slot = v.slot AND x.state = 'active') THEN
        RAISE EXCEPTION '% has no active version that could serve the other keys', target
            USING ERRCODE = 'PV004', HINT = format('pgvmig cutover %s %s', target, v.version);
    ELSIF other.version <> v.version THEN
        RAISE EXCEPTION '% % has % percent of the keys and % by name', target, other.version, other.percent,
            cardinality(other.keys)
            USING ERRCODE = 'PV004', DETAIL = 'One version at a time is tried beside the active one.',
                  HINT = format('pgvmig route %s --off, then this again', target);
    END IF;
END
$$;

-- Give a version a share of the keys (NULL: as it is), and keys by name. More than it has needs the gates of a cutover;
-- less never does. Without a share and keys it is no candidate any more.
-- Returns {changed, version, percent, was, keys, added, removed, skipped, gates}.
CREATE OR REPLACE FUNCTION pgvmig.set_route(
    relation regclass, version text, percent numeric DEFAULT NULL, slot text DEFAULT 'embedding',
    add_keys text[] DEFAULT '{}', remove_keys text[] DEFAULT '{}', max_stale_age interval DEFAULT '60 s',
    skip text[] DEFAULT '{}', reason text DEFAULT NULL, max_evidence_age interval DEFAULT '24 h'
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version;
    was record;
    share numeric;
    added text[];
    removed text[];
    left_keys text[];
    more boolean;
    gates jsonb := '{}';
    outcome jsonb;
BEGIN
    PERFORM pgvmig.lock_slot($1, $4);
    v := pgvmig.find_version($1, $2, $4);
    PERFORM pgvmig.require_routable(v, $3, $5);
    SELECT coalesce(max(c.percent), 0) AS percent, coalesce(min(c.keys), '{}') AS keys
    INTO was FROM pgvmig.candidate($1, $4) c;
    share := coalesce($3, was.percent);
    added := ARRAY(SELECT unnest($5) EXCEPT SELECT unnest(was.keys) EXCEPT SELECT unnest($6) ORDER BY 1);
    removed := ARRAY(SELECT unnest($6) INTERSECT SELECT unnest(was.keys) ORDER BY 1);
    left_keys := ARRAY(SELECT unnest(was.keys || added) EXCEPT SELECT unnest(removed) ORDER BY 1);
    IF share = was.percent AND left_keys = was.keys THEN
        RETURN jsonb_build_object('changed', false, 'version', v.version, 'percent', share, 'keys', to_jsonb(left_keys));
    END IF;
    more := share > was.percent OR cardinality(added) > 0;
    IF more THEN
        PERFORM pgvmig.give_back(v);  -- the right to read it, if a soak took it away
        gates := pgvmig.require_gates(v, ROW(max_stale_age, max_evidence_age, v.state = 'retained')::pgvmig.gate_terms,
                                      skip, reason);
    END IF;
    outcome := jsonb_build_object(
        'changed', true, 'version', v.version, 'percent', share, 'was', was.percent, 'keys', to_jsonb(left_keys),
        'added', to_jsonb(added), 'removed', to_jsonb(removed), 'skipped', to_jsonb(skip), 'gates', gates);
    PERFORM pgvmig.begin_verb('route', reason, outcome);
    IF v.state IN ('added', 'backfilling') AND more THEN
        UPDATE pgvmig.version x SET state = 'ready' WHERE x.version_id = v.version_id;
    END IF;
    PERFORM pgvmig.end_verb();
    PERFORM pgvmig.write_route(v, share, left_keys), pgvmig.record_event(v, 'route', reason, outcome);
    RETURN outcome;
END
$$;

-- Everything to the active version again: the way back of a rollout, at once and without a gate. `version` is the one to
-- leave; naming one that is no candidate does nothing.
CREATE OR REPLACE FUNCTION pgvmig.unroute(
    relation regclass, version text DEFAULT NULL, slot text DEFAULT 'embedding', reason text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was record;
    outcome jsonb;
BEGIN
    IF NOT pgvmig.lock_slot($1, $3) THEN
        RAISE EXCEPTION '% has no versions', pgvmig.label($1, $3)
            USING ERRCODE = 'PV003', HINT = 'op.add_embedding adds one';
    END IF;
    SELECT * INTO was FROM pgvmig.candidate($1, $3);
    IF was.version_id IS NULL OR was.version <> $2 THEN
        RETURN jsonb_build_object('changed', false, 'version', was.version);
    END IF;
    outcome := jsonb_build_object('changed', true, 'version', was.version, 'percent', 0, 'was', was.percent,
                                  'keys', '[]'::jsonb, 'removed', to_jsonb(was.keys));
    PERFORM pgvmig.write_route(v, 0, '{}'), pgvmig.record_event(v, 'route', reason, outcome)
    FROM pgvmig.version v WHERE v.version_id = was.version_id;
    RETURN outcome;
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.write_route(v pgvmig.version, share numeric, keys text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF share = 0 AND cardinality(keys) = 0 THEN
        DELETE FROM pgvmig.route r WHERE r.version_id = v.version_id;  -- and its keys
        RETURN;
    END IF;
    INSERT INTO pgvmig.route AS r (relation, slot, version_id, percent)
    VALUES (v.relation, v.slot, v.version_id, share)
    ON CONFLICT ON CONSTRAINT route_pkey DO UPDATE SET percent = excluded.percent, changed_at = clock_timestamp();
    DELETE FROM pgvmig.route_key k WHERE k.version_id = v.version_id AND k.key <> ALL (keys);
    INSERT INTO pgvmig.route_key (relation, slot, key, version_id)
    SELECT v.relation, v.slot, k, v.version_id FROM unnest(keys) AS k
    ON CONFLICT DO NOTHING;
END
$$;

-- Whoever takes a version away, by whichever verb: while keys go there, no.
CREATE OR REPLACE FUNCTION pgvmig.keep_routed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    SELECT c.* INTO r FROM pgvmig.candidate(OLD.relation, OLD.slot) c WHERE c.version_id = OLD.version_id;
    IF r.version_id IS NOT NULL AND (TG_OP = 'DELETE' OR NEW.state = 'retired') THEN
        RAISE EXCEPTION '% % still serves % percent of the keys and % by name', pgvmig.label(OLD.relation, OLD.slot),
            OLD.version, r.percent, cardinality(r.keys)
            USING ERRCODE = 'PV004', DETAIL = 'Their searches would fail.',
                  HINT = format('pgvmig route %s --off', pgvmig.label(OLD.relation, OLD.slot));
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END
$$;

CREATE OR REPLACE TRIGGER routed BEFORE UPDATE OF state OR DELETE ON pgvmig.version
    FOR EACH ROW EXECUTE FUNCTION pgvmig.keep_routed();

REVOKE ALL ON FUNCTION
    pgvmig.set_route, pgvmig.unroute, pgvmig.write_route
FROM PUBLIC;

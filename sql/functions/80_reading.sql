-- For services: which space to embed the query in, and the view that holds it. Query that view, or the current view
-- with the guard WHERE embedding_space = '<version>'.
CREATE OR REPLACE FUNCTION pgvmig.active_space(relation regclass, slot text DEFAULT 'embedding')
RETURNS TABLE (version text, view regclass, provider text, model text, model_version text, dimensions integer,
               metric text, query_prefix text, fingerprint text, search jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.version, v.view, c.definition ->> 'provider', c.definition ->> 'model', c.definition ->> 'model_version',
           (c.definition ->> 'dimensions')::integer, c.definition ->> 'metric', c.definition ->> 'query_prefix',
           v.fingerprint, pgvmig.search_settings(v.*)
    FROM pgvmig.version v JOIN pgvmig.contract c ON c.fingerprint = v.fingerprint
    WHERE v.relation = $1 AND v.slot = $2 AND v.state = 'active';
END;

-- Where a key stands among the 10,000 of a version's rollout, 0 to 9999: the first four bytes of
-- sha256('<slot>/<version>/<key>'), big-endian, modulo 10,000. Any language can compute it, and every release of
-- PostgreSQL gives the same. The version is part of it so that not the same users are the first to try every one.
CREATE OR REPLACE FUNCTION pgvmig.route_bucket(key text, version text, slot text DEFAULT 'embedding') RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT (((get_byte(h, 0)::bigint << 24) + (get_byte(h, 1) << 16) + (get_byte(h, 2) << 8) + get_byte(h, 3)) % 10000)::integer
    FROM (SELECT sha256(convert_to(slot || '/' || version || '/' || key, 'UTF8')) AS h) AS hashed;
END;

-- Which version serves this key: the candidate, when the key is one of its own or stands in its share, else the active
-- version. A key that a share of 10 percent serves is served by every greater one. A NULL key is nobody's: the active
-- version. Under REPEATABLE READ it answers as of the transaction's beginning; what it names can be queried in that
-- version's own view.
CREATE OR REPLACE FUNCTION pgvmig.route(relation regclass, key text, slot text DEFAULT 'embedding') RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.version FROM pgvmig.route r JOIN pgvmig.version v ON v.version_id = r.version_id
    WHERE r.relation = $1 AND r.slot = $3
      AND (r.percent * 100 > pgvmig.route_bucket($2, v.version, $3)
           OR r.percent = 100
           OR EXISTS (SELECT FROM pgvmig.route_key k
                      WHERE k.relation = $1 AND k.slot = $3 AND k.key = $2 AND k.version_id = r.version_id))
    ORDER BY r.percent LIMIT 1;
END;

-- As active_space(), for the version that serves this key: what a service asks first that searches for somebody.
CREATE OR REPLACE FUNCTION pgvmig.routed_space(relation regclass, key text, slot text DEFAULT 'embedding')
RETURNS TABLE (version text, view regclass, provider text, model text, model_version text, dimensions integer,
               metric text, query_prefix text, fingerprint text, search jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT v.version, v.view, c.definition ->> 'provider', c.definition ->> 'model', c.definition ->> 'model_version',
           (c.definition ->> 'dimensions')::integer, c.definition ->> 'metric', c.definition ->> 'query_prefix',
           v.fingerprint, pgvmig.search_settings(v.*)
    FROM pgvmig.version v JOIN pgvmig.contract c ON c.fingerprint = v.fingerprint
    WHERE v.relation = $1 AND v.slot = $3 AND v.version = pgvmig.route($1, $2, $3);
END;

-- A guard that is not quiet: true, or SQLSTATE PV001 when the current view shows another version. It asks the view
-- itself, by name: under REPEATABLE READ our tables still say what they said before a swap, the view is the new one.
-- A view without rows is right for every version: there is nothing to rank.
CREATE OR REPLACE FUNCTION pgvmig.require_space(relation regclass, version text, slot text DEFAULT 'embedding')
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_view text := (SELECT format('%I.%I', n.nspname, c.relname)
                          FROM pgvmig.slot s JOIN pg_class c ON c.oid = s.current_view
                          JOIN pg_namespace n ON n.oid = c.relnamespace WHERE s.relation = $1 AND s.slot = $3);
    shown text;
BEGIN
    IF current_view IS NULL THEN
        RAISE EXCEPTION '% has no active version, not %', pgvmig.label($1, $3), $2
            USING ERRCODE = 'PV001', HINT = 'pgvmig status';
    END IF;
    EXECUTE format('SELECT w.%I FROM %s AS w LIMIT 1', pgvmig.fit($3 || '_space'), current_view) INTO shown;
    IF shown IS NOT NULL AND shown IS DISTINCT FROM $2 THEN
        RAISE EXCEPTION '% shows %, not %', current_view, shown, $2
            USING ERRCODE = 'PV001',
                  DETAIL = 'Vectors of two models are not comparable: the query would be ranked, and wrongly.',
                  HINT = format('ask pgvmig.active_space(%L) again and embed the query with its model', $1::text);
    END IF;
    RETURN true;
END
$$;

-- Verbs are for those who run migrations; without this, EXECUTE is everybody's.
REVOKE ALL ON FUNCTION
    pgvmig.add_version, pgvmig.drop_version, pgvmig.release_version, pgvmig.retire, pgvmig.refresh_views,
    pgvmig.cut_over, pgvmig.roll_back, pgvmig.activate, pgvmig.swap, pgvmig.retain_active, pgvmig.take_down,
    pgvmig.drop_current_view, pgvmig.replace_views, pgvmig.lock_for_removal, pgvmig.dress_vectors,
    pgvmig.execute_patiently, pgvmig.create_capture, pgvmig.drop_capture
FROM PUBLIC;

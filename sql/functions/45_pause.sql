-- What takes back the pause that keeps a version's workers from writing, NULL without one; the narrowest first.
CREATE OR REPLACE FUNCTION pgvmig.resume_command(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(' ', 'pgvmig resume', pgvmig.label(p.relation, p.slot), p.version) FROM pgvmig.all_pauses() p
    WHERE p.relation IS NULL
       OR p.relation = v.relation AND p.slot = v.slot AND coalesce(p.version, v.version) = v.version
    ORDER BY p.version IS NULL, p.relation IS NULL LIMIT 1
$$;

-- Nobody pays for more vectors of a version that was just left, until somebody resumes it or cuts over to it again.
CREATE OR REPLACE FUNCTION pgvmig.stop_promoting(v pgvmig.version, reason text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pgvmig.pause (relation, slot, version, reason)
    VALUES (v.relation, v.slot, v.version, concat_ws(': ', 'rolled back', reason))
    ON CONFLICT (relation, slot, version) DO NOTHING
$$;

-- Whether there was one to lift.
CREATE OR REPLACE FUNCTION pgvmig.lift_pause(v pgvmig.version) RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    WITH lifted AS (
        DELETE FROM pgvmig.pause p WHERE p.relation = v.relation AND p.slot = v.slot AND p.version = v.version RETURNING 1
    )
    SELECT EXISTS (SELECT FROM lifted)
$$;

REVOKE ALL ON FUNCTION pgvmig.stop_promoting, pgvmig.lift_pause FROM PUBLIC;

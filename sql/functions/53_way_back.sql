-- The way back: the version that is active now could take over again, whenever it has to.

-- Vectors that the application writes are no better today than after a way back: only what follows them and the index that
-- they have count. Of a version that the worker writes everything does that its own way back would ask, cheapest first; the
-- answer is that of the first gate that fails. Reads what those gates read.
CREATE OR REPLACE FUNCTION pgvmig.gate_way_back(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    active pgvmig.version;
    g pgvmig.gate_result;
    asked text;
    found text := 'no version is active: nothing is lost on the way back';
BEGIN
    SELECT x.* INTO active FROM pgvmig.version x
    WHERE x.relation = v.relation AND x.slot = v.slot AND x.state = 'active';
    IF active.version_id = v.version_id THEN
        found := format('%s is active itself', v.version);
    ELSIF active.version_id IS NOT NULL THEN
        FOREACH asked IN ARRAY ARRAY['capture', 'index']
                               || CASE active.writer WHEN 'worker' THEN ARRAY['freshness', 'failed', 'coverage'] END
        LOOP
            EXECUTE format('SELECT * FROM pgvmig.%I($1, $2)', 'gate_' || asked) INTO g USING active, terms;
            EXIT WHEN NOT g.passed;
        END LOOP;
        found := CASE WHEN NOT g.passed THEN format('%s is no way back: %s', active.version, g.found)
                      WHEN active.writer = 'application' THEN
                          format('%s takes over again as its application left it', active.version)
                      ELSE format('%s is complete, fresh and indexed', active.version) END;
    END IF;
    RETURN ('way_back', g.passed IS NOT FALSE, found,
            'the version that is active now is captured, complete, fresh and indexed, so that a rollback to it would pass',
            g.next, coalesce(CASE WHEN NOT g.passed THEN g.measured END, '{}')
                    || jsonb_build_object('version', active.version, 'gate', CASE WHEN NOT g.passed THEN g.gate END))::pgvmig.gate_result;
END
$$;

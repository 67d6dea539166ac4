-- All gates of a switch to this version, in the order in which they are cheapest to mend: rights and triggers, what a
-- worker does, an index, what verifying takes. An empty table has nothing to measure. Where no worker ever worked, as in a
-- project's CI, which upgrades from nothing, no gate is asked; elsewhere it was emptied, perhaps for a moment, and what is
-- no matter of rows still counts.
CREATE OR REPLACE FUNCTION pgvmig.check_gates(version_id integer, terms pgvmig.gate_terms) RETURNS SETOF pgvmig.gate_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version;
    has_rows boolean;
BEGIN
    SELECT x.* INTO STRICT v FROM pgvmig.version x WHERE x.version_id = $1;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', v.relation) INTO has_rows;
    IF NOT has_rows AND NOT pgvmig.was_worked_on(v) THEN
        RETURN;
    END IF;
    RETURN NEXT pgvmig.gate_capture(v, terms);
    RETURN NEXT pgvmig.gate_privacy(v, terms);
    RETURN NEXT pgvmig.gate_parity(v, terms);
    IF has_rows THEN
        RETURN NEXT pgvmig.gate_provenance(v, terms);
        RETURN NEXT pgvmig.gate_coverage(v, terms);
        RETURN NEXT pgvmig.gate_freshness(v, terms);
        RETURN NEXT pgvmig.gate_failed(v, terms);
    END IF;
    RETURN NEXT pgvmig.gate_index(v, terms);
    IF terms.way_back IS NOT TRUE THEN
        RETURN NEXT pgvmig.gate_way_back(v, terms);
    END IF;
    IF has_rows THEN
        RETURN NEXT pgvmig.gate_hashes(v, terms);
        RETURN NEXT pgvmig.gate_health(v, terms);
        RETURN NEXT pgvmig.gate_recall(v, terms);
        RETURN NEXT pgvmig.gate_identity(v, terms);
        RETURN NEXT pgvmig.gate_visibility(v, terms);
        RETURN NEXT pgvmig.gate_evaluation(v, terms);
    END IF;
END
$$;

-- Whether a worker ever ran for this table's slot.
CREATE OR REPLACE FUNCTION pgvmig.was_worked_on(v pgvmig.version) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pgvmig.backfill_run r JOIN pgvmig.version x USING (version_id)
                   WHERE x.relation = v.relation AND x.slot = v.slot)
$$;

-- Raises PV002 with the first gate that fails, all of them in its DETAIL; returns what was measured.
CREATE OR REPLACE FUNCTION pgvmig.require_gates(v pgvmig.version, terms pgvmig.gate_terms, skip text[], reason text)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    results pgvmig.gate_result[];
    failures pgvmig.gate_result[];
    unknown text;
BEGIN
    results := ARRAY(SELECT g FROM pgvmig.check_gates(v.version_id, terms) AS g);
    SELECT string_agg(s, ', ') INTO unknown FROM unnest(skip) AS s
    WHERE NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                      WHERE n.nspname = 'pgvmig' AND p.proname = 'gate_' || s)
      AND s <> 'standbys';  -- asked by the client, who has their connections (pgvmig/checks/standbys.py)
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'there is no gate named %', unknown
            USING ERRCODE = 'PV004',
                  HINT = (SELECT 'use one of ' || string_agg(substr(p.proname, 6), ', ' ORDER BY p.proname) || ', standbys'
                          FROM pg_proc p WHERE p.pronamespace = 'pgvmig'::regnamespace AND p.proname LIKE 'gate\_%');
    END IF;
    IF cardinality(skip) > 0 AND coalesce(trim(reason), '') = '' THEN
        RAISE EXCEPTION 'gate % is to be skipped and no reason is given', array_to_string(skip, ', ')
            USING ERRCODE = 'PV004', HINT = 'say why: it is kept with the event';
    END IF;
    failures := ARRAY(SELECT g FROM unnest(results) AS g WHERE NOT g.passed AND g.gate <> ALL (skip));
    IF cardinality(failures) > 0 THEN
        RAISE EXCEPTION '% % is not ready: %', pgvmig.label(v.relation, v.slot), v.version,
            failures[1].found
            USING ERRCODE = 'PV002',
                  HINT = failures[1].next,
                  DETAIL = (SELECT jsonb_object_agg(f.gate, to_jsonb(f))::text FROM unnest(failures) AS f);
    END IF;
    RETURN (SELECT coalesce(jsonb_object_agg(g.gate, g.measured || jsonb_build_object('passed', g.passed)), '{}')
            FROM unnest(results) AS g);
END
$$;

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
    PERFORM pgvmig.require_home();
    terms.max_stale_age := coalesce(terms.max_stale_age, '60 s');  -- no age is no limit: a client's NULL lifts none
    terms.max_evidence_age := coalesce(terms.max_evidence_age, '24 h');
    SELECT x.* INTO STRICT v FROM pgvmig.version x WHERE x.version_id = $1;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', v.relation) INTO has_rows;
    IF NOT has_rows AND NOT pgvmig.was_worked_on(v) THEN
        RETURN;
    END IF;
    RETURN NEXT pgvmig.gate_table(v, terms);
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

-- Raise for gates to be skipped that are none of these, or without a reason. A NULL in the list is such a one: nothing
-- equals it, so every gate would be skipped with it.
CREATE OR REPLACE FUNCTION pgvmig.require_skippable(skip text[], reason text, known text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown text := (SELECT string_agg(coalesce(s, 'NULL'), ', ') FROM unnest(skip) AS s WHERE (s = ANY (known)) IS NOT TRUE);
BEGIN
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'there is no gate named %', unknown
            USING ERRCODE = 'PV004', HINT = 'use one of ' || array_to_string(known, ', ');
    ELSIF cardinality(skip) > 0 AND coalesce(trim(reason), '') = '' THEN
        RAISE EXCEPTION 'gate % is to be skipped and no reason is given', array_to_string(skip, ', ')
            USING ERRCODE = 'PV004', HINT = 'say why: it is kept with the event';
    END IF;
END
$$;

-- Raises PV002 with the first gate that fails and is not skipped, all of them in its DETAIL; returns what was measured.
-- `cannot` says what they keep it from.
CREATE OR REPLACE FUNCTION pgvmig.require_passed(v pgvmig.version, results pgvmig.gate_result[], skip text[], cannot text)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    failures pgvmig.gate_result[] := ARRAY(
        SELECT g FROM unnest(results) AS g WHERE g.passed IS NOT TRUE AND g.gate <> ALL (coalesce(skip, '{}')));
BEGIN
    IF cardinality(failures) > 0 THEN
        RAISE EXCEPTION '% % %: %', pgvmig.label(v.relation, v.slot), v.version, cannot, failures[1].found
            USING ERRCODE = 'PV002', HINT = failures[1].next,
                  DETAIL = (SELECT jsonb_object_agg(f.gate, to_jsonb(f))::text FROM unnest(failures) AS f);
    END IF;
    RETURN (SELECT coalesce(jsonb_object_agg(g.gate, g.measured || jsonb_build_object('passed', g.passed)), '{}')
            FROM unnest(results) AS g);
END
$$;

-- The gates of a switch, or PV002. What is to be skipped is looked at first: gates may take a while.
CREATE OR REPLACE FUNCTION pgvmig.require_gates(v pgvmig.version, terms pgvmig.gate_terms, skip text[], reason text)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_skippable(skip, reason, ARRAY(
        SELECT substr(p.proname, 6) FROM pg_proc p
        WHERE p.pronamespace = 'pgvmig'::regnamespace AND p.proname LIKE 'gate\_%' ORDER BY p.proname)
        || ARRAY['standbys']);  -- asked by the client, who has their connections (pgvmig/pacing/quiet.py)
    RETURN pgvmig.require_passed(v, ARRAY(SELECT g FROM pgvmig.check_gates(v.version_id, terms) AS g), skip, 'is not ready');
END
$$;

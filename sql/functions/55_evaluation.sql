-- What an evaluation must have shown before a switch.

-- Require of a version's evaluation that it keeps these thresholds (as `pgvmig evaluate` has them), or with NULL require
-- none any more. Leaves an event; returns whether anything changed.
CREATE OR REPLACE FUNCTION pgvmig.require_evaluation(
    relation regclass, version text, thresholds jsonb, slot text DEFAULT 'embedding', reason text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version := pgvmig.find_version($1, $2, $4);
    unknown text := (
        SELECT string_agg(u.what, ', ' ORDER BY u.what)
        FROM (SELECT g.key AS what FROM jsonb_each($3) AS g
              WHERE g.key NOT IN ('max_drop', 'min', 'max_p95_ratio')
                 OR g.key = 'max_p95_ratio' AND jsonb_typeof(g.value) <> 'number'
              UNION ALL
              SELECT g.key || ' of ' || m.key
              FROM jsonb_each($3) AS g CROSS JOIN LATERAL jsonb_each(
                  CASE jsonb_typeof(g.value) WHEN 'object' THEN g.value ELSE '{"nothing": null}' END) AS m
              WHERE g.key IN ('max_drop', 'min')
                AND (m.key NOT IN ('nDCG@10', 'recall@10', 'MRR@10') OR jsonb_typeof(m.value) <> 'number')) AS u);
BEGIN
    IF unknown IS NOT NULL OR $3 = '{}' THEN
        RAISE EXCEPTION 'no evaluation can show %', coalesce(unknown, 'nothing')
            USING ERRCODE = 'PV004',
                  HINT = 'thresholds are like {"max_drop": {"nDCG@10": 0.01}, "min": {"nDCG@10": 0.3}, "max_p95_ratio": 2}; '
                         || 'NULL requires no evaluation';
    ELSIF v.thresholds IS NOT DISTINCT FROM $3 THEN
        RETURN false;
    END IF;
    UPDATE pgvmig.version x SET thresholds = $3 WHERE x.version_id = v.version_id;
    PERFORM pgvmig.record_event(v, CASE WHEN $3 IS NULL THEN 'require no evaluation' ELSE 'require evaluation' END, $5,
                                jsonb_build_object('thresholds', $3, 'before', v.thresholds));
    RETURN true;
END
$$;

-- Evaluation: where one is required, the newest of the whole backfill says GO, against the version that is active now and
-- by the thresholds of now. When more than one vector in ten was written after it began, it was about something else.
CREATE OR REPLACE FUNCTION pgvmig.gate_evaluation(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    active pgvmig.version;
    newest pgvmig.evaluation;
    newer double precision;
    wanted text := 'a GO against the active version, by ' || v.thresholds::text || ', newer than nine in ten vectors';
    found text;
    passed boolean := true;
BEGIN
    SELECT x.* INTO active FROM pgvmig.version x
    WHERE x.relation = v.relation AND x.slot = v.slot AND x.state = 'active';
    IF v.thresholds IS NULL THEN
        found := 'no evaluation is required of it';
        wanted := 'none; pgvmig evaluate --require asks for one';
    ELSIF terms.way_back THEN
        found := 'the way back needs no evaluation';
    ELSIF active.version_id IS NULL OR active.version_id = v.version_id THEN
        found := 'there is no other active version to compare with';
    ELSE
        SELECT e.* INTO newest FROM pgvmig.evaluation e
        WHERE e.new_version_id = v.version_id AND e.old_version_id = active.version_id AND e.verdict IS NOT NULL
          AND NOT e.pilot AND e.thresholds = v.thresholds
        ORDER BY e.evaluation_id DESC LIMIT 1;
        IF newest.evaluation_id IS NULL THEN
            passed := false;
            found := format('no evaluation against %s by the required thresholds since the backfill is complete', active.version);
        ELSIF newest.verdict <> 'GO' THEN
            passed := false;
            found := format('the newest evaluation against %s says %s: %s', active.version, newest.verdict, newest.reason);
        ELSIF newest.figures -> 'search' -> 'new' IS DISTINCT FROM v.search THEN
            passed := false;
            found := format('it was evaluated with the search settings %s, and has %s',
                            newest.figures -> 'search' ->> 'new', v.search);
        ELSE
            newer := pgvmig.share_embedded_since(v, newest.evaluated_at);
            passed := newer <= 0.1;
            found := format('%s against %s on %s, and %s %% of the vectors are newer', newest.verdict, active.version,
                            to_char(newest.evaluated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI UTC'), round(100 * newer));
        END IF;
    END IF;
    RETURN ('evaluation', passed, found, wanted,
            format('pgvmig evaluate %s %s %s --queries queries.jsonl --qrels qrels.tsv', pgvmig.label(v.relation, v.slot),
                   coalesce(active.version, 'OLD'), v.version),
            jsonb_build_object('evaluation_id', newest.evaluation_id, 'verdict', newest.verdict,
                               'evaluated_at', newest.evaluated_at, 'thresholds', v.thresholds))::pgvmig.gate_result;
END
$$;

REVOKE ALL ON FUNCTION pgvmig.require_evaluation FROM PUBLIC;

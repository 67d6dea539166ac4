-- What services say of a version in production. They call record_outcome() when they were granted it:
--   GRANT EXECUTE ON FUNCTION pgvmig.record_outcome(regclass, text, text, double precision, text) TO app;
-- and write no table themselves. Signals that are about one request (an error, a click, a latency) come one by one or
-- averaged by the service, as it likes: what is compared is the mean of the values.
CREATE OR REPLACE FUNCTION pgvmig.record_outcome(
    relation regclass, version text, metric text, value double precision, slot text DEFAULT 'embedding'
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF $3 IS NULL OR $3 !~ '^[a-z][a-z0-9_.]{0,62}$' THEN
        RAISE EXCEPTION '% is not a metric''s name', coalesce(quote_literal($3), 'NULL')
            USING ERRCODE = 'PV005', HINT = 'write it in small letters, digits, dots and underscores: errors, latency_ms';
    ELSIF $4 IS NULL OR abs($4) > 1e100 THEN  -- NaN is greater than any number
        RAISE EXCEPTION 'the value of % is %', $3, coalesce($4::text, 'NULL')
            USING ERRCODE = 'PV005', DETAIL = 'A mean would be lost to it.', HINT = 'record finite numbers only';
    END IF;
    INSERT INTO pgvmig.production_metric (version_id, metric, value)
    SELECT v.version_id, $3, $4 FROM pgvmig.find_version($1, $2, $5) v;
END
$$;

-- The short form, for a database where only one target has a version of that name.
CREATE OR REPLACE FUNCTION pgvmig.record_outcome(version text, metric text, value double precision) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_versions pgvmig.version[] := ARRAY(
        SELECT v FROM pgvmig.version v WHERE v.version = $1 AND v.state <> 'retired' ORDER BY v.version_id);
    v pgvmig.version := found_versions[1];
BEGIN
    IF v.version_id IS NULL THEN
        RAISE EXCEPTION 'there is no version %', coalesce($1, 'NULL')
            USING ERRCODE = 'PV003', HINT = 'pgvmig.active_space() and pgvmig.route() say which one serves';
    ELSIF cardinality(found_versions) > 1 THEN
        RAISE EXCEPTION '% have a version %', (SELECT string_agg(pgvmig.label(x.relation, x.slot), ' and ')
                                               FROM unnest(found_versions) AS x), $1
            USING ERRCODE = 'PV005', DETAIL = 'Nobody could say which one is meant.',
                  HINT = format('name it: pgvmig.record_outcome(%L, %L, %L, %s%s)', v.relation::text, $1, $2, $3,
                                CASE WHEN v.slot <> 'embedding' THEN format(', %L', v.slot) END);
    END IF;
    PERFORM pgvmig.record_outcome(v.relation, v.version, $2, $3, v.slot);
END
$$;

-- What a version's metric was from one moment to another.
CREATE OR REPLACE FUNCTION pgvmig.metric_summary(version_id integer, metric text, since timestamptz, until timestamptz)
RETURNS TABLE (recorded bigint, total double precision, mean double precision, p95 double precision)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT count(*), sum(m.value), avg(m.value), percentile_cont(0.95) WITHIN GROUP (ORDER BY m.value)
    FROM pgvmig.production_metric m
    WHERE m.version_id = $1 AND m.metric = $2 AND m.at > $3 AND m.at <= $4
$$;

-- Forget what is older, so many values at most: a long transaction would hold back vacuum. Returns how many they were.
CREATE OR REPLACE FUNCTION pgvmig.prune_outcomes(relation regclass, slot text, keep interval, most bigint DEFAULT 10000)
RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM pgvmig.production_metric m WHERE m.ctid = ANY (ARRAY(
            SELECT o.ctid FROM pgvmig.production_metric o JOIN pgvmig.version v ON v.version_id = o.version_id
            WHERE v.relation = $1 AND v.slot = $2 AND o.at < clock_timestamp() - $3 LIMIT $4))
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

CREATE OR REPLACE FUNCTION pgvmig.refuse_rewriting() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '%.% is only appended to', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'PV004', DETAIL = 'It is evidence: a rollback may rest on it.', HINT = 'record another value';
END
$$;

CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE ON pgvmig.production_metric
    FOR EACH STATEMENT EXECUTE FUNCTION pgvmig.refuse_rewriting();

REVOKE ALL ON FUNCTION
    pgvmig.record_outcome(regclass, text, text, double precision, text),
    pgvmig.record_outcome(text, text, double precision),
    pgvmig.prune_outcomes
FROM PUBLIC;

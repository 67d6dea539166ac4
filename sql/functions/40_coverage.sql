-- How far a version's vectors follow its table, counted now. Rows stale for less than `max_stale_age` are counted
-- apart: a live table always has some. Hidden rows must be an error and not a false 100 %, hence row_security.
CREATE OR REPLACE FUNCTION pgvmig.coverage(
    version_id integer, max_stale_age interval DEFAULT '60 s',
    OUT total bigint, OUT embedded bigint, OUT missing bigint, OUT missing_recent bigint,
    OUT outdated bigint, OUT outdated_recent bigint, OUT empty bigint, OUT failed bigint, OUT accepted bigint
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version;
    s pgvmig.slot;
    keys text;
    waiting_key text;
    outcome_key text;
BEGIN
    SELECT x.* INTO STRICT v FROM pgvmig.version x WHERE x.version_id = $1;
    SELECT x.* INTO STRICT s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot;
    SELECT string_agg(format('q.%I', u.queue), ', ' ORDER BY i),
           string_agg(format('w.%I = d.%I', u.queue, u.source), ' AND ' ORDER BY i),
           string_agg(format('o.%I = d.%I', u.queue, u.source), ' AND ' ORDER BY i)
    INTO keys, waiting_key, outcome_key
    FROM unnest(s.queue_columns, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers))
         WITH ORDINALITY AS u (queue, source, i);
    EXECUTE format($query$
        SELECT count(*), count(*) FILTER (WHERE has_vector),
               count(*) FILTER (WHERE NOT has_vector AND kind IS NULL AND NOT recent),
               count(*) FILTER (WHERE NOT has_vector AND kind IS NULL AND recent),
               count(*) FILTER (WHERE has_vector AND kind IS NULL AND queued AND NOT recent),
               count(*) FILTER (WHERE has_vector AND kind IS NULL AND queued AND recent),
               count(*) FILTER (WHERE kind = 'empty'),
               count(*) FILTER (WHERE kind = 'failed' AND NOT accepted),
               count(*) FILTER (WHERE kind = 'failed' AND accepted)
        FROM (SELECT %9$s.%1$I IS NOT NULL AS has_vector,
                     CASE WHEN o.kind IS NOT NULL AND o.source_hash = pgvmig.source_hash(pgvmig.%2$I(d.*)) THEN o.kind END AS kind,
                     o.accepted_at IS NOT NULL AS accepted,
                     w.oldest IS NOT NULL AS queued,
                     coalesce(w.oldest > clock_timestamp() - $1, false) AS recent
              FROM %3$s
              LEFT JOIN (SELECT %4$s, min(q.queued_at) AS oldest FROM pgvmig.%5$I AS q GROUP BY %4$s) AS w
                     ON %6$s
              LEFT JOIN pgvmig.%7$I AS o ON %8$s) AS each_row
        $query$,
        v.vector_column, pgvmig.fit(v.object_name || '_input'), pgvmig.rows_from(v, 'LEFT JOIN'), keys,
        pgvmig.fit(v.object_name || '_stale'), waiting_key,
        pgvmig.fit(v.object_name || '_outcome'), outcome_key, pgvmig.vector_alias(v))
    INTO total, embedded, missing, missing_recent, outdated, outdated_recent, empty, failed, accepted
    USING max_stale_age;
END
$$;

-- A number as people read it: 1,000.
CREATE OR REPLACE FUNCTION pgvmig.figure(n bigint) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN trim(to_char(n, '999,999,999,999,999'));

-- What the report shows beside what status.sql has. Each statement is short and a transaction of its own: a snapshot
-- held for the whole report would keep dead rows from being pruned while a backfill runs.

-- name: site
SELECT current_database() AS database, clock_timestamp() AS at, i.toolkit_version AS toolkit
FROM pgvmig.installation i

-- name: routes
SELECT version_id, percent FROM pgvmig.route WHERE relation = %(relation)s AND slot = %(slot)s

-- name: events
-- Every change of a state, and the newest of what else happened.
SELECT at, who, source, verb, version, from_state, to_state, reason, revision
FROM (
    SELECT e.*, row_number() OVER (PARTITION BY e.to_state IS NULL ORDER BY e.event_id DESC) AS place
    FROM pgvmig.event e
    WHERE e.relation = pgvmig.label(%(relation)s::oid::regclass, 'embedding') AND e.slot = %(slot)s
) AS e
WHERE e.place <= CASE WHEN e.to_state IS NULL THEN 100 ELSE 1000 END
ORDER BY e.event_id

-- name: backfills
-- Of every version the time from its beginning (the last one, when it was retired and added again) until it was ready,
-- and what its workers did until then. A worker that went on afterwards counts as far as its samples say.
WITH span AS (
    SELECT v.version_id, v.version, b.began, ready.at AS ready_at,
           coalesce(ready.at, (SELECT max(coalesce(r.ended_at, r.seen_at)) FROM pgvmig.backfill_run r
                               WHERE r.version_id = v.version_id AND r.started_at >= b.began)) AS ended
    FROM pgvmig.version v
    CROSS JOIN LATERAL (
        SELECT coalesce(max(e.at), v.created_at) AS began FROM pgvmig.event e
        WHERE e.relation = pgvmig.label(v.relation, 'embedding') AND e.slot = v.slot AND e.version = v.version
          AND e.to_state = 'added'
    ) AS b
    LEFT JOIN LATERAL (
        SELECT min(e.at) AS at FROM pgvmig.event e
        WHERE e.relation = pgvmig.label(v.relation, 'embedding') AND e.slot = v.slot AND e.version = v.version
          AND e.to_state IN ('ready', 'active') AND e.at > b.began
    ) AS ready ON true
    WHERE v.relation = %(relation)s AND v.slot = %(slot)s
), run AS (
    SELECT s.version_id, r.started_at, r.rows_empty, r.rows_failed, r.rows_updated, r.rows_hot, r.waited, r.peak_lag,
           r.started_at > s.ended AS afterwards, r.rows_written,
           CASE WHEN r.started_at > s.ended THEN 0
                WHEN coalesce(r.ended_at, r.seen_at) <= s.ended + interval '1 min' THEN r.rows_written
                ELSE coalesce((SELECT max(x.rows_written) FROM pgvmig.backfill_sample x
                               WHERE x.run_id = r.run_id AND x.version_id = r.version_id
                                 AND x.at <= s.ended + interval '5 s'), r.rows_written) END AS rows_until_ready
    FROM span s JOIN pgvmig.backfill_run r ON r.version_id = s.version_id AND r.started_at >= s.began
)
SELECT s.version_id, s.version, min(r.started_at) AS began, s.ended, s.ready_at IS NOT NULL AS finished,
       count(*) FILTER (WHERE NOT r.afterwards) AS workers,
       sum(r.rows_until_ready)::bigint AS rows_written,
       (sum(r.rows_written) - sum(r.rows_until_ready))::bigint AS kept_fresh,
       coalesce(sum(r.rows_empty) FILTER (WHERE NOT r.afterwards), 0)::bigint AS rows_empty,
       coalesce(sum(r.rows_failed) FILTER (WHERE NOT r.afterwards), 0)::bigint AS rows_failed,
       (sum(r.rows_hot) FILTER (WHERE NOT r.afterwards)
        / nullif(sum(r.rows_updated) FILTER (WHERE NOT r.afterwards), 0))::float8 AS hot_share,
       coalesce(sum(r.waited) FILTER (WHERE NOT r.afterwards), '0') AS waited,
       max(r.peak_lag) FILTER (WHERE NOT r.afterwards) AS peak_lag
FROM span s JOIN run r USING (version_id)
GROUP BY s.version_id, s.version, s.ended, s.ready_at
HAVING min(r.started_at) < s.ended
ORDER BY s.version_id

-- name: progress
-- What each worker had written by when, its beginning and its end included.
WITH run AS (
    SELECT r.run_id, r.version_id, r.started_at, coalesce(r.ended_at, r.seen_at) AS seen_at, r.rows_written
    FROM pgvmig.backfill_run r
    WHERE r.version_id = %(version_id)s AND r.started_at BETWEEN %(began)s AND %(ended)s
), reading AS (
    SELECT run_id, started_at AS at, 0::bigint AS rows_written, NULL::interval AS lag FROM run
    UNION ALL
    SELECT s.run_id, s.at, s.rows_written, s.lag FROM pgvmig.backfill_sample s JOIN run USING (run_id, version_id)
    UNION ALL
    SELECT run_id, seen_at, rows_written, NULL FROM run
)
SELECT run_id, at, rows_written, extract(epoch FROM lag)::float8 AS lag
FROM reading
WHERE at <= %(ended)s::timestamptz + interval '5 s'
ORDER BY run_id, at, rows_written

-- name: stops
-- When workers did not write, why, and what would have helped.
SELECT state, signal, reason, next AS next_step, at AS began, greatest(at, least(until, %(ended)s)) AS ended
FROM (
    SELECT l.*, coalesce(lead(l.at) OVER (PARTITION BY l.run_id ORDER BY l.entry), r.ended_at, r.seen_at) AS until
    FROM pgvmig.pacing_log l JOIN pgvmig.backfill_run r USING (run_id, version_id)
    WHERE l.version_id = %(version_id)s AND r.started_at BETWEEN %(began)s AND %(ended)s
) AS l
WHERE l.state NOT IN ('running', 'holding') AND l.at <= %(ended)s
ORDER BY l.at
LIMIT 2000

-- name: evidence
-- The newest of every gate that `pgvmig verify` measured.
SELECT DISTINCT ON (v.version_id, e.gate) v.version, e.gate, e.passed, e.found, e.wanted, e.next AS next_step,
       e.measured_at, e.measured_by, e.fingerprint = v.fingerprint AS same_contract
FROM pgvmig.evidence e JOIN pgvmig.version v USING (version_id)
WHERE v.version_id = %(version_id)s
ORDER BY v.version_id, e.gate, e.measured_at DESC

-- name: evaluations
-- Every evaluation that was kept, the newest last; what it says of each query comes with the newest only.
SELECT e.evaluation_id, e.evaluated_at AS at, e.evaluated_by AS by, o.version AS old, n.version AS new, e.verdict,
       e.reason, e.pilot, e.thresholds, e.figures,
       CASE WHEN row_number() OVER (ORDER BY e.evaluated_at DESC, e.evaluation_id DESC) = 1 THEN e.queries END AS queries,
       j.name AS set_name, j.owner AS set_owner, j.judged_on, j.hash AS set_hash,
       jsonb_array_length(j.queries) AS set_queries,
       -- judgements may name queries that are not in the set
       (SELECT count(*) FROM jsonb_array_elements(j.queries) AS q WHERE j.judgements ? (q ->> 'id')) AS set_judged
FROM pgvmig.evaluation e
JOIN pgvmig.version n ON n.version_id = e.new_version_id
LEFT JOIN pgvmig.version o ON o.version_id = e.old_version_id
JOIN pgvmig.judged_set j USING (judged_set_id)
WHERE n.relation = %(relation)s AND n.slot = %(slot)s
ORDER BY e.evaluated_at, e.evaluation_id

-- name: judged_set
-- What was asked, and which rows answer it, as they were judged.
SELECT j.queries, j.judgements FROM pgvmig.evaluation e JOIN pgvmig.judged_set j USING (judged_set_id)
WHERE e.evaluation_id = %(evaluation_id)s

-- name: texts
-- The beginning of the rows' inputs, and how long they are; d: the row, u: keys given as arrays of text.
SELECT {row_key}, left(x.input, {most}), length(x.input)
FROM unnest({given}) AS u ({given_columns})
JOIN {table} AS d ON {row_is_given}
CROSS JOIN LATERAL (SELECT {input}(d.*) AS input) AS x

-- name: texts_by_column
-- The same of rows that were judged by another column, which may be one of several rows' (chunks): of one of them.
SELECT DISTINCT ON (u.document) u.document, left(x.input, {most}), length(x.input)
FROM unnest(%(documents)s::text[]) AS u (document)
JOIN {table} AS d ON d.{column}::text OPERATOR(pg_catalog.=) u.document
CROSS JOIN LATERAL (SELECT {input}(d.*) AS input) AS x
ORDER BY u.document, d.ctid

-- name: production
-- What services reported in the last thirty days, of each version and metric: in all, and in at most forty points.
WITH value AS (
    SELECT v.version_id, v.version, p.metric, p.at, p.value,
           min(p.at) OVER (PARTITION BY p.metric) AS first_of_metric, max(p.at) OVER (PARTITION BY p.metric) AS last_of_metric
    FROM pgvmig.production_metric p JOIN pgvmig.version v USING (version_id)
    WHERE v.relation = %(relation)s AND v.slot = %(slot)s AND p.at > clock_timestamp() - interval '30 days'
      AND p.value NOT IN ('NaN', 'Infinity', '-Infinity')
), point AS (
    SELECT version_id, metric, to_timestamp(avg(extract(epoch FROM at))) AS at, avg(value) AS value
    FROM value
    GROUP BY version_id, metric,
             floor(40 * extract(epoch FROM at - first_of_metric)
                   / greatest(extract(epoch FROM last_of_metric - first_of_metric), 0.001))
)
SELECT v.version, v.metric, count(*) AS values, avg(v.value) AS mean, min(v.at) AS first, max(v.at) AS last,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY v.value) AS p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY v.value) AS p95,
       (SELECT array_agg(p.at ORDER BY p.at) FROM point p WHERE p.version_id = v.version_id AND p.metric = v.metric) AS times,
       (SELECT array_agg(p.value ORDER BY p.at) FROM point p WHERE p.version_id = v.version_id AND p.metric = v.metric) AS means
FROM value v
GROUP BY v.version_id, v.version, v.metric
ORDER BY v.metric, v.version_id

-- name: triggers
SELECT metric, comparison, bound, relative, over FROM pgvmig.rollback_trigger
WHERE relation = %(relation)s AND slot = %(slot)s ORDER BY metric, comparison

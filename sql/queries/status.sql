-- name: coverage
SELECT c.* FROM pgvmig.coverage({version_id}, {max_stale_age}) AS c

-- name: queue
-- The stale log of every version: how long it is and how old its oldest entry.
SELECT version_id, count(*) AS entries, clock_timestamp() - min(queued_at) AS oldest
FROM pgvmig.stale_row GROUP BY version_id

-- name: failures
-- The newest failed rows that nobody has accepted.
SELECT version_id, count(*) AS failed, (array_agg(error ORDER BY recorded_at DESC))[1] AS last_error
FROM pgvmig.outcome WHERE kind = 'failed' AND accepted_at IS NULL GROUP BY version_id

-- name: progress
-- Where the walk stands, and an estimate of what is left of it: the planner's rows, scaled with the table's size.
SELECT b.version_id, b.pass, b.next_block, b.end_block, b.walked, b.walked_at, l.leases, l.leases_free, l.leases_over,
       e.rows AS rows_estimate,
       CASE WHEN b.walked THEN 0
            WHEN b.end_block > 0 THEN (e.rows * (1 - b.next_block::numeric / b.end_block))::bigint
            ELSE e.rows END AS rows_left_estimate
FROM pgvmig.backfill b
JOIN pgvmig.version v USING (version_id)
JOIN pg_class c ON c.oid = v.relation
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.relpages > 0 AND c.reltuples >= 0
                THEN (c.reltuples / c.relpages * pg_relation_size(c.oid) / current_setting('block_size')::integer)::bigint
           END AS rows
) AS e
CROSS JOIN LATERAL (
    -- Given back: free for the next worker. Over: their worker was killed, or is too slow to renew them.
    SELECT count(*) FILTER (WHERE x.until > clock_timestamp()) AS leases,
           count(*) FILTER (WHERE x.until = '-infinity') AS leases_free,
           count(*) FILTER (WHERE x.until <= clock_timestamp() AND x.until <> '-infinity') AS leases_over
    FROM pgvmig.lease x WHERE x.version_id = b.version_id
) AS l

-- name: runs
-- Workers that run now, and the last one that ended, for every version. Their speed is that of the last half minute; how
-- it is with them now stands in the last entry of the pacing log.
SELECT DISTINCT ON (r.version_id, coalesce(r.ended_at, 'infinity'), r.run_id)
       r.run_id, r.version_id, r.host, r.pid, r.started_at, r.seen_at, r.ended_at, r.ended_why, r.batches,
       r.rows_written, r.rows_empty, r.rows_failed, r.rows_outrun, r.waiting, r.waited, r.peak_lag, r.peak_lag_bytes,
       r.rows_updated, r.rows_hot, r.batch_size, r.speed, r.limits, clock_timestamp() - r.seen_at AS silent_for,
       p.state, p.at AS since, clock_timestamp() - p.at AS for, p.signal, p.reason, p.next,
       CASE WHEN s.at < r.seen_at
            THEN (r.rows_written - s.rows_written) / extract(epoch FROM r.seen_at - s.at)::float8 END AS rows_per_second
FROM pgvmig.backfill_run r
LEFT JOIN LATERAL (
    SELECT x.state, x.at, x.signal, x.reason, x.next FROM pgvmig.pacing_log x
    WHERE x.run_id = r.run_id AND x.version_id = r.version_id ORDER BY x.entry DESC LIMIT 1
) AS p ON true
LEFT JOIN LATERAL (
    SELECT x.at, x.rows_written FROM (
        SELECT x.at, x.rows_written FROM pgvmig.backfill_sample x
        WHERE x.run_id = r.run_id AND x.version_id = r.version_id AND x.at > r.seen_at - interval '35 s'
        UNION ALL SELECT r.started_at, 0 WHERE r.started_at > r.seen_at - interval '35 s' OR r.ended_at IS NOT NULL
    ) AS x ORDER BY x.at LIMIT 1
) AS s ON true
WHERE r.ended_at IS NULL AND r.seen_at > clock_timestamp() - interval '5 min'
   OR r.started_at = (SELECT max(x.started_at) FROM pgvmig.backfill_run x WHERE x.version_id = r.version_id)

-- name: pacing
-- What changed in the pace of those workers, the newest first.
SELECT l.version_id, l.run_id, r.host, r.pid, l.at, l.state, l.signal, l.reason, l.next
FROM pgvmig.pacing_log l JOIN pgvmig.backfill_run r USING (run_id, version_id)
ORDER BY l.entry DESC LIMIT {number}

-- name: indexes
SELECT v.version_id, i.index::text AS name, i.valid, i.method
FROM pgvmig.version v, pgvmig.vector_indexes(v) i

-- name: installation
SELECT schema_version, toolkit_version, no_standbys FROM pgvmig.installation

-- name: events
SELECT at, who, source, verb, relation, slot, version, from_state, to_state, reason, revision
FROM pgvmig.event ORDER BY event_id DESC LIMIT {number}

-- name: activations
-- The last event that changed which version is active, for every slot: whoever did it, and by a revision.
WITH activation AS (
    SELECT e.*, CASE WHEN to_state = 'active' THEN version END AS now_active
    FROM pgvmig.event e
    WHERE e.to_state = 'active' OR (e.from_state = 'active' AND e.to_state = 'ready')
)
SELECT DISTINCT ON (a.relation, a.slot) a.relation, a.slot, a.verb, a.at, a.who, a.source, a.now_active,
       r.now_active AS by_revisions, r.revision, r.verb AS revision_verb
FROM activation a
LEFT JOIN LATERAL (
    SELECT * FROM activation x WHERE x.relation = a.relation AND x.slot = a.slot AND x.source = 'alembic'
    ORDER BY x.event_id DESC LIMIT 1
) AS r ON true
ORDER BY a.relation, a.slot, a.event_id DESC

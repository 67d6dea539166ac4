-- name: coverage
SELECT c.* FROM {function}({version_id}, {max_stale_age}) AS c

-- name: queue
-- The stale log of every version: how long it is and how old its oldest entry.
SELECT version_id, count(*) AS entries, clock_timestamp() - min(queued_at) AS oldest
FROM pgvmig.stale_row GROUP BY version_id

-- name: failures
-- The newest failed rows that nobody has accepted.
SELECT version_id, count(*) AS failed, (array_agg(error ORDER BY recorded_at DESC))[1] AS last_error
FROM pgvmig.outcome WHERE kind = 'failed' AND accepted_at IS NULL GROUP BY version_id

-- name: revoked
-- Versions that nobody but their owner may read, for a soak.
SELECT version_id, revoked_at AS at, revoked_by AS by FROM pgvmig.revoked_view

-- name: progress
-- Where the walk stands, and an estimate of what is left of it: the planner's rows, scaled with the table's size.
SELECT b.version_id, b.pass, b.next_block, b.end_block, pgvmig.is_walked(v) AS walked, b.walked_at, l.leases, l.leases_free, l.leases_over,
       e.rows AS rows_estimate,
       CASE WHEN b.walked THEN 0
            WHEN b.end_block > 0 THEN (e.rows * (1 - b.next_block::numeric / b.end_block))::bigint
            ELSE e.rows END AS rows_left_estimate
FROM pgvmig.backfill b
JOIN pgvmig.version v USING (version_id)
JOIN pg_class c ON c.oid = v.relation
CROSS JOIN LATERAL (
    SELECT pgvmig.rows_estimated(c.oid) AS rows
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
SELECT v.version_id, pgvmig.label(i.index, 'embedding') AS name, i.valid, i.method
FROM pgvmig.version v, pgvmig.vector_indexes(v) i

-- name: installation
SELECT schema_version, toolkit_version, no_standbys FROM pgvmig.installation

-- name: events
SELECT at, who, source, verb, relation, slot, version, from_state, to_state, reason, revision
FROM pgvmig.event ORDER BY event_id DESC LIMIT {number}

-- name: activations
-- The last event that changed which version is active, for every slot: whoever did it, and by a revision, which may have
-- found it done.
WITH activation AS (
    SELECT e.*, CASE WHEN to_state = 'active' THEN version END AS now_active
    FROM pgvmig.event e
    WHERE e.to_state = 'active' OR (e.from_state = 'active' AND e.to_state = 'ready')
), said AS (
    SELECT * FROM activation WHERE source = 'alembic'
    UNION ALL
    SELECT e.*, e.version FROM pgvmig.event e WHERE e.detail ? 'found_done'
)
SELECT DISTINCT ON (a.relation, a.slot) a.relation, a.slot, a.verb, a.at, a.who, a.source, a.now_active,
       a.detail ->> 'previous' AS was_active, r.now_active AS by_revisions, r.revision, r.verb AS revision_verb
FROM activation a
LEFT JOIN LATERAL (
    SELECT * FROM said x WHERE x.relation = a.relation AND x.slot = a.slot ORDER BY x.event_id DESC LIMIT 1
) AS r ON true
ORDER BY a.relation, a.slot, a.event_id DESC

-- name: routes
-- Who serves each target's keys, and how many triggers are declared on it.
SELECT s.relation::oid::bigint AS relation, s.slot, pgvmig.label(s.relation, s.slot) AS target, a.version AS active,
       p.version AS previous, c.version AS candidate, coalesce(c.percent, 0)::float8 AS percent,
       coalesce(c.keys, ARRAY[]::text[]) AS keys,
       (SELECT max(r.changed_at) FROM pgvmig.route r WHERE r.relation = s.relation AND r.slot = s.slot) AS changed_at,
       (SELECT count(*) FROM pgvmig.rollback_trigger t WHERE t.relation = s.relation AND t.slot = s.slot) AS triggers
FROM pgvmig.slot s
LEFT JOIN pgvmig.version a ON a.relation = s.relation AND a.slot = s.slot AND a.state = 'active'
LEFT JOIN pgvmig.version p ON p.version_id = a.activated_from AND p.state = 'retained'
LEFT JOIN LATERAL pgvmig.candidate(s.relation, s.slot) c ON true

-- name: evidence
-- The newest evidence of each gate that asks for it. Why it is no longer about what is there takes a sample of the
-- vectors, and matters before a switch only.
SELECT v.version_id, g.gate, e.passed, e.found, e.measured_at, clock_timestamp() - e.measured_at AS age,
       CASE WHEN {look} AND v.state = 'ready' AND e.evidence_id IS NOT NULL THEN pgvmig.evidence_outdated(v, e) END AS outdated
FROM pgvmig.version v
CROSS JOIN unnest(ARRAY['hashes', 'health', 'recall', 'identity', 'visibility']) WITH ORDINALITY AS g (gate, i)
LEFT JOIN LATERAL (
    SELECT x.* FROM pgvmig.evidence x WHERE x.version_id = v.version_id AND x.gate = g.gate
    ORDER BY x.measured_at DESC, x.evidence_id DESC LIMIT 1
) AS e ON true
WHERE v.version_id = ANY ({version_ids}) AND v.state <> 'retired'
ORDER BY v.version_id, g.i

-- name: evaluations
-- The newest evaluation of each version, and whether it is one that a switch would be content with.
SELECT v.version_id, o.version AS against, e.verdict, e.reason, e.pilot, e.evaluated_at,
       clock_timestamp() - e.evaluated_at AS age, v.thresholds IS NOT NULL AS required,
       CASE WHEN v.thresholds IS NULL OR v.state <> 'ready' THEN true
            WHEN {look} THEN (SELECT g.passed FROM pgvmig.gate_evaluation(v, NULL) g)
            ELSE coalesce(e.verdict = 'GO', false) END AS satisfied
FROM pgvmig.version v
LEFT JOIN LATERAL (
    SELECT x.evaluation_id, x.old_version_id, x.verdict, x.reason, x.pilot, x.evaluated_at
    FROM pgvmig.evaluation x WHERE x.new_version_id = v.version_id ORDER BY x.evaluation_id DESC LIMIT 1
) AS e ON true
LEFT JOIN pgvmig.version o ON o.version_id = e.old_version_id
WHERE v.version_id = ANY ({version_ids}) AND (e.evaluation_id IS NOT NULL OR v.thresholds IS NOT NULL)

-- name: production
-- What services reported lately. A version's metrics are found one after the other by the index: there are few, and of
-- each there may be millions of values.
WITH RECURSIVE named AS (
    SELECT v.version_id,
           (SELECT min(m.metric) FROM pgvmig.production_metric m WHERE m.version_id = v.version_id) AS metric
    FROM pgvmig.version v WHERE v.version_id = ANY ({version_ids})
    UNION ALL
    SELECT n.version_id, (SELECT min(m.metric) FROM pgvmig.production_metric m
                          WHERE m.version_id = n.version_id AND m.metric > n.metric)
    FROM named n WHERE n.metric IS NOT NULL
)
SELECT n.version_id, n.metric, s.recorded AS values, s.total, s.mean, s.p95
FROM named n
CROSS JOIN LATERAL pgvmig.metric_summary(n.version_id, n.metric, clock_timestamp() - {window}, clock_timestamp()) s
WHERE n.metric IS NOT NULL AND s.recorded > 0
ORDER BY n.metric, n.version_id

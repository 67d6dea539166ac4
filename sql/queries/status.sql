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
SELECT b.version_id, b.pass, b.next_block, b.end_block, b.walked, b.walked_at,
       (SELECT count(*) FROM pgvmig.lease l WHERE l.version_id = b.version_id AND l.until > clock_timestamp()) AS leases
FROM pgvmig.backfill b

-- name: runs
-- Workers that run now, and the last one that ended, for every version.
SELECT DISTINCT ON (version_id, coalesce(ended_at, 'infinity'), run_id)
       run_id, version_id, host, pid, started_at, seen_at, ended_at, ended_why, batches,
       rows_written, rows_empty, rows_failed, rows_outrun, waiting, waited, peak_lag, peak_lag_bytes
FROM pgvmig.backfill_run r
WHERE ended_at IS NULL AND seen_at > clock_timestamp() - interval '5 min'
   OR started_at = (SELECT max(x.started_at) FROM pgvmig.backfill_run x WHERE x.version_id = r.version_id)

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

-- What a worker notes about its pace, beside its batches.

-- name: unhurried
-- Notes: nobody misses those that a crash loses, and they must not hang where a synchronous standby is gone.
SELECT set_config('synchronous_commit', 'off', true)

-- name: count_wait
UPDATE pgvmig.backfill_run
SET seen_at = clock_timestamp(), waiting = %(waiting)s, waited = waited + %(waited)s, batch_size = %(batch_size)s,
    speed = %(speed)s, peak_lag = greatest(peak_lag, %(lag)s), peak_lag_bytes = greatest(peak_lag_bytes, %(lag_bytes)s)
WHERE run_id = %(run_id)s AND version_id = %(version_id)s

-- name: log_state
-- Nothing when the version was dropped meanwhile.
INSERT INTO pgvmig.pacing_log (run_id, version_id, state, signal, reason, next)
SELECT r.run_id, r.version_id, %(state)s, %(signal)s, %(reason)s, %(next)s
FROM pgvmig.backfill_run r WHERE r.run_id = %(run_id)s AND r.version_id = %(version_id)s

-- name: trim_log
DELETE FROM pgvmig.pacing_log l
WHERE l.run_id = %(run_id)s AND l.version_id = %(version_id)s
  AND l.entry <= (SELECT x.entry FROM pgvmig.pacing_log x WHERE x.run_id = l.run_id AND x.version_id = l.version_id
                  ORDER BY x.entry DESC OFFSET %(keep)s LIMIT 1)

-- name: sample
INSERT INTO pgvmig.backfill_sample (version_id, run_id, rows_written, batch_size, state, lag, lag_bytes, wal_rate)
SELECT r.version_id, r.run_id, r.rows_written, %(batch_size)s, %(state)s, %(lag)s, %(lag_bytes)s, %(wal_rate)s
FROM pgvmig.backfill_run r WHERE r.run_id = %(run_id)s AND r.version_id = %(version_id)s

-- name: thin_samples
-- Over the bound every other sample of the older half goes: what is long ago is kept, and gets coarser.
DELETE FROM pgvmig.backfill_sample s
USING (SELECT version_id, at, run_id, row_number() OVER (ORDER BY at) AS number, count(*) OVER () AS total
       FROM pgvmig.backfill_sample WHERE version_id = %(version_id)s) AS n
WHERE (s.version_id, s.at, s.run_id) = (n.version_id, n.at, n.run_id)
  AND n.total > %(keep)s AND n.number < n.total / 2 AND n.number %% 2 = 0

-- name: table
-- The planner's estimate of the table's rows, as it scales it with the table's size; NULL before the first ANALYZE. And
-- where the vectors are written, when that is another table.
SELECT pgvmig.rows_estimated(v.relation) AS rows,
       CASE WHEN v.vector_relation <> v.relation THEN v.vector_relation::oid::bigint END AS vector_relation
FROM pgvmig.version v WHERE v.version_id = %(version_id)s

-- name: to_build
-- What an index build would read, TOAST included.
SELECT to_regclass({relation})::oid::bigint AS relation, (SELECT sum(pg_table_size(l))::bigint FROM pgvmig.leaves(to_regclass({home})) l) AS bytes

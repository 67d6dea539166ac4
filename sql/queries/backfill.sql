-- The worker's own statements: claims, the stale log, outcomes, counters. q: the log, o: outcomes, u: keys given as
-- arrays of text. Whoever changes claims holds the version's row of pgvmig.backfill.

-- name: server_state
SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean

-- name: transaction_settings
-- Hidden rows must be an error. The worker waits for no row; it may wait for a table, and then not for long. Nor for a
-- synchronous standby: where that is gone COMMIT hangs past every timeout, with the batch's rows locked. What a failover
-- then loses of a batch it loses altogether, vectors and what was taken out of the log, so the next worker does it again.
SELECT set_config('row_security', 'off', true), set_config('lock_timeout', '2s', true),
       set_config('statement_timeout', '60s', true),
       set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'off' ELSE 'local' END, true)

-- name: lock_backfill
SELECT b.pass, b.next_block, b.end_block, b.walked AND b.partitions = pgvmig.partition_marks(v.relation), pgvmig.shape(v)
FROM pgvmig.backfill b JOIN pgvmig.version v USING (version_id)
WHERE b.version_id = %(version_id)s AND v.writer = 'worker' AND v.state <> 'retired'
FOR UPDATE OF b

-- name: take_over_range
-- A range that its worker did not finish: killed, stopped, or too slow to renew its lease. A run that was slow to renew
-- its own is still at work on it.
UPDATE pgvmig.lease SET run_id = %(run_id)s, taken_at = clock_timestamp(), until = clock_timestamp() + %(lease)s
WHERE lease_id = (SELECT lease_id FROM pgvmig.lease
                  WHERE version_id = %(version_id)s AND first_block IS NOT NULL AND until < clock_timestamp()
                    AND (run_id <> %(run_id)s OR until = '-infinity')
                  ORDER BY first_block LIMIT 1)
RETURNING lease_id, first_block, last_block

-- name: has_ranges
SELECT EXISTS (SELECT FROM pgvmig.lease WHERE version_id = %(version_id)s AND first_block IS NOT NULL)

-- name: advance
UPDATE pgvmig.backfill SET next_block = %(next_block)s WHERE version_id = %(version_id)s

-- name: begin_pass
UPDATE pgvmig.backfill
SET pass = pass + 1, next_block = 0, end_block = %(end_block)s, found_in_pass = 0, walked = false
WHERE version_id = %(version_id)s

-- name: lease_range
INSERT INTO pgvmig.lease (version_id, run_id, first_block, last_block, until)
VALUES (%(version_id)s, %(run_id)s, %(first)s, %(last)s, clock_timestamp() + %(lease)s)
RETURNING lease_id

-- name: finish_range
WITH finished AS (
    DELETE FROM pgvmig.lease WHERE lease_id = %(lease_id)s AND run_id = %(run_id)s RETURNING version_id
)
UPDATE pgvmig.backfill b SET found_in_pass = b.found_in_pass + %(found)s
FROM finished f WHERE b.version_id = f.version_id

-- name: finish_walk
-- With the partitions that there were when the look began: one that came since is looked at next.
UPDATE pgvmig.backfill SET walked = true, walked_at = clock_timestamp(), partitions = %(partitions)s
WHERE version_id = %(version_id)s

-- name: forget_orphans
-- A REPEATABLE READ transaction that deletes a row does not see an outcome recorded since its snapshot.
WITH orphan AS MATERIALIZED (
    SELECT {queue_columns} FROM {outcome} AS o
    WHERE NOT EXISTS (SELECT FROM {table} AS d WHERE {recorded}) FOR UPDATE OF o SKIP LOCKED
)
DELETE FROM {outcome} AS o USING orphan AS c WHERE {same_key}

-- name: walk_again
-- Look over the whole table once more: it was asked for, or the last look is long ago.
UPDATE pgvmig.backfill SET walked = false
WHERE version_id = %(version_id)s AND walked AND (%(asked)s OR walked_at < clock_timestamp() - interval '1 day')

-- name: has_stale
SELECT EXISTS (SELECT FROM {stale})

-- name: claim_stale
-- The keys that have waited longest and are in nobody's lease, with all entries of theirs that are visible now.
WITH leased AS MATERIALIZED (
    SELECT unnest(l.entries) AS entry FROM pgvmig.lease l
    WHERE l.version_id = %(version_id)s AND l.entries IS NOT NULL
      AND (l.until > clock_timestamp() OR l.run_id = %(run_id)s)
), busy AS MATERIALIZED (
    SELECT DISTINCT {queue_columns} FROM {stale} JOIN leased USING (entry)
), oldest AS MATERIALIZED (
    SELECT {queue_columns} FROM {stale} AS q
    WHERE NOT EXISTS (SELECT FROM busy AS b WHERE {busy_key})
    ORDER BY q.entry LIMIT %(limit)s
), chosen AS MATERIALIZED (
    SELECT DISTINCT {queue_columns} FROM oldest
)
SELECT {queue_key}, array_agg(q.entry ORDER BY q.entry) AS entries
FROM {stale} AS q JOIN chosen AS c ON {chosen_key}
GROUP BY {queue_key}
ORDER BY min(q.entry)

-- name: forget_leases
-- Leases of the log whose time is over, or whose entries are gone: their worker was killed after it had written.
DELETE FROM pgvmig.lease l
WHERE l.version_id = %(version_id)s AND l.entries IS NOT NULL
  AND (l.until < clock_timestamp() AND l.run_id <> %(run_id)s
       OR NOT EXISTS (SELECT FROM {stale} AS q WHERE q.entry = ANY (l.entries)))

-- name: lease_entries
-- One entry of a key keeps all others of that key from being claimed.
INSERT INTO pgvmig.lease (version_id, run_id, entries, until)
VALUES (%(version_id)s, %(run_id)s, %(entries)s, clock_timestamp() + %(lease)s)
RETURNING lease_id

-- name: extend_lease
UPDATE pgvmig.lease l SET until = clock_timestamp() + %(lease)s
FROM pgvmig.version v
WHERE l.lease_id = %(lease_id)s AND l.run_id = %(run_id)s AND v.version_id = l.version_id RETURNING pgvmig.shape(v)

-- name: extend_leases
-- Only what is still running: a lease that was given back stays free.
UPDATE pgvmig.lease SET until = clock_timestamp() + %(lease)s
WHERE run_id = %(run_id)s AND until > clock_timestamp()

-- name: release_entries
DELETE FROM pgvmig.lease WHERE lease_id = %(lease_id)s AND run_id = %(run_id)s

-- name: give_back_range
-- Unfinished: free for the next worker at once.
UPDATE pgvmig.lease SET until = '-infinity' WHERE lease_id = %(lease_id)s AND run_id = %(run_id)s

-- name: give_back_ranges
UPDATE pgvmig.lease SET until = '-infinity' WHERE run_id = %(run_id)s AND first_block IS NOT NULL

-- name: release_all_entries
DELETE FROM pgvmig.lease WHERE run_id = %(run_id)s AND entries IS NOT NULL

-- name: unqueue_entries
-- Entries that were read, of rows that need nothing. Newer entries of the same rows stay.
WITH mine AS MATERIALIZED (
    SELECT q.entry FROM {stale} AS q WHERE q.entry = ANY (%(entries)s) FOR UPDATE SKIP LOCKED
)
DELETE FROM {stale} AS q USING mine WHERE q.entry = mine.entry

-- name: unqueue_keys
-- Whatever the log holds of rows that this transaction has locked and seen to: nobody else can be changing them.
WITH mine AS MATERIALIZED (
    SELECT q.entry FROM unnest({given}) AS u ({given_columns}) JOIN {stale} AS q ON {queue_is_given}
    FOR UPDATE OF q SKIP LOCKED
)
DELETE FROM {stale} AS q USING mine WHERE q.entry = mine.entry

-- name: unqueue_gone
-- Rows that are not there in the very snapshot that shows their entries: deleted, not merely locked.
WITH mine AS MATERIALIZED (
    SELECT q.entry FROM unnest({given}) AS u ({given_columns}) JOIN {stale} AS q ON {queue_is_given}
    WHERE NOT EXISTS (SELECT FROM {table} AS d WHERE {row_is_given})
    FOR UPDATE OF q SKIP LOCKED
)
DELETE FROM {stale} AS q USING mine WHERE q.entry = mine.entry

-- name: queue_rows
-- Rows of the walk that another transaction held for too long: from now on the log looks after them.
INSERT INTO {stale} ({queue_columns}) SELECT {given_key} FROM unnest({given}) AS u ({given_columns})

-- name: record_outcomes
INSERT INTO {outcome} AS o ({queue_columns}, kind, source_hash, error)
SELECT {given_key}, u.kind, u.hash, u.error
FROM unnest({given}, %(kinds)s::text[], %(hashes)b::bytea[], %(errors)s::text[])
     AS u ({given_columns}, kind, hash, error)
ON CONFLICT ({queue_columns}) DO UPDATE
SET kind = excluded.kind, source_hash = excluded.source_hash, error = excluded.error,
    attempts = CASE WHEN o.kind = excluded.kind THEN o.attempts + 1 ELSE 1 END, recorded_at = clock_timestamp(),
    accepted_at = NULL, accepted_by = NULL, accept_reason = NULL

-- name: forget_outcomes
DELETE FROM {outcome} AS o USING unnest({given}) AS u ({given_columns}) WHERE {outcome_is_given}

-- name: require_followable
SELECT pgvmig.require_followable(%(version_id)s)

-- name: begin_backfill
-- 'added' is over when a worker has begun.
SELECT pgvmig.begin_backfill(%(version_id)s)

-- name: become_ready
SELECT pgvmig.become_ready(%(version_id)s)

-- name: stale_before
-- What is queued after the end of the walk comes from live traffic: there is always some, and it is no reason to go on.
SELECT EXISTS (SELECT FROM {stale} AS q WHERE q.queued_at < %(before)s)

-- name: follow
UPDATE pgvmig.follower SET until = greatest(until, clock_timestamp() + %(window)s)
WHERE version_id = ANY (%(version_ids)s)

-- name: begin_run
INSERT INTO pgvmig.backfill_run (run_id, version_id, host, pid, limits)
VALUES (%(run_id)s, %(version_id)s, %(host)s, %(pid)s, %(limits)s)
ON CONFLICT DO NOTHING

-- name: count_batch
-- Also, where the table itself is written, what pg_stat_xact_user_tables shows of this transaction. It shows as well what
-- earlier ones of the session have not handed on yet, which happens once a second: so we have that done at every commit.
UPDATE pgvmig.backfill_run r
SET seen_at = clock_timestamp(), batches = r.batches + 1, rows_written = r.rows_written + %(written)s,
    rows_empty = r.rows_empty + %(empty)s, rows_failed = r.rows_failed + %(failed)s,
    rows_outrun = r.rows_outrun + %(outrun)s,
    rows_updated = coalesce(r.rows_updated, 0) + x.updated, rows_hot = coalesce(r.rows_hot, 0) + x.hot
FROM pgvmig.version v
LEFT JOIN LATERAL (SELECT sum(pg_stat_get_xact_tuples_updated(l))::bigint AS updated,
                          sum(pg_stat_get_xact_tuples_hot_updated(l))::bigint AS hot,
                          max(pg_stat_force_next_flush()::text)
                   FROM pgvmig.leaves(v.relation) l) AS x ON v.layout = 'column'
WHERE v.version_id = %(version_id)s AND r.version_id = v.version_id AND r.run_id = %(run_id)s
RETURNING x.updated, x.hot

-- name: count_outrun
UPDATE pgvmig.backfill_run SET rows_outrun = rows_outrun + %(outrun)s
WHERE run_id = %(run_id)s AND version_id = %(version_id)s

-- name: seen
UPDATE pgvmig.backfill_run SET seen_at = clock_timestamp() WHERE run_id = %(run_id)s AND ended_at IS NULL

-- name: end_run
UPDATE pgvmig.backfill_run
SET seen_at = clock_timestamp(), ended_at = clock_timestamp(), ended_why = %(why)s, waiting = NULL
WHERE run_id = %(run_id)s

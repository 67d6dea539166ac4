-- Rows that got no vector, for people to look at. o: outcomes, d: the row, u: keys given as arrays of text.

-- name: failed
-- Only those of the present text: what is said of an older one is settled by the worker.
SELECT {outcome_key}, o.error, o.attempts, o.recorded_at, o.accepted_at, o.accepted_by, o.accept_reason
FROM {outcome} AS o JOIN {table} AS d ON {recorded}
WHERE o.kind = 'failed' AND o.source_hash = pgvmig.source_hash({input}(d.*))
ORDER BY o.recorded_at, {outcome_key}

-- name: retry
-- Take the outcome away and put the row into the log. What somebody else has locked is being changed or deleted. Rows
-- that were accepted are retried only by name.
WITH chosen AS MATERIALIZED (
    SELECT {queue_columns} FROM {outcome} AS o
    WHERE o.kind = 'failed'
      AND CASE WHEN %(all)s THEN o.accepted_at IS NULL ELSE EXISTS (
          SELECT FROM unnest({given}) AS u ({given_columns}) WHERE {outcome_is_given}) END
    FOR UPDATE OF o SKIP LOCKED
), removed AS (
    DELETE FROM {outcome} AS o USING chosen AS c WHERE {same_key} RETURNING {outcome_columns}
)
INSERT INTO {stale} ({queue_columns}) SELECT {queue_columns} FROM removed

-- name: accept
WITH chosen AS MATERIALIZED (
    SELECT {queue_columns} FROM {outcome} AS o
    WHERE o.kind = 'failed' AND o.accepted_at IS NULL
      AND CASE WHEN %(all)s THEN true ELSE EXISTS (
          SELECT FROM unnest({given}) AS u ({given_columns}) WHERE {outcome_is_given}) END
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE {outcome} AS o
SET accepted_at = clock_timestamp(), accepted_by = session_user, accept_reason = %(reason)s
FROM chosen AS c WHERE {same_key}

-- name: record
-- For the diary, next to what the lifecycle writes there.
INSERT INTO pgvmig.event (source, verb, relation, slot, version, reason, detail)
SELECT coalesce(nullif(current_setting('pgvmig.source', true), ''), 'sql'), %(verb)s,
       pgvmig.label(v.relation, 'embedding'), v.slot, v.version, %(reason)s, jsonb_build_object('rows', %(rows)s::bigint)
FROM pgvmig.version v WHERE v.version_id = %(version_id)s

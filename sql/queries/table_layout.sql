-- Reading and writing rows whose vectors are in a table of their own. d: the row, e: its vector, u: keys given as arrays
-- of text, q: the log. Vectors there are only inserted and deleted, never updated: a worker that is late then meets the
-- unique key of one who was faster, and looks again.

-- name: missing_rows
-- The rows on some pages that wait for the walk: no vector, no outcome recorded for their text, and not in the log,
-- where they would be taken from. OFFSET 0 has PostgreSQL look each row up instead of reading the whole table of vectors.
SELECT {row_key}, d.ctid
FROM {table} AS d
WHERE d.ctid >= %(first)s::tid AND d.ctid < %(last)s::tid
  AND NOT EXISTS (SELECT FROM {vectors} AS e WHERE {vector_is_row} OFFSET 0)
  AND NOT EXISTS (SELECT FROM {stale} AS q WHERE {queued})
  AND NOT EXISTS (SELECT FROM {outcome} AS o WHERE {recorded} AND o.source_hash = pgvmig.source_hash({input}(d.*)))
ORDER BY d.ctid

-- name: read_rows
-- The rows' input and its hash, whether the vector is of that text, and whether an outcome is recorded for it.
-- OFFSET 0 keeps PostgreSQL from evaluating the input twice.
SELECT u.i::integer - 1, r.input, r.hash,
       coalesce(e.{version_id} = %(version_id)s AND e.{source_hash} = r.hash, false),
       coalesce(o.source_hash = r.hash, false)
FROM unnest({given}) WITH ORDINALITY AS u ({given_columns}, i)
JOIN {table} AS d ON {row_is_given}
CROSS JOIN LATERAL (
    SELECT t.input, pgvmig.source_hash(t.input) AS hash FROM (SELECT {input}(d.*) AS input OFFSET 0) AS t OFFSET 0
) AS r
LEFT JOIN {vectors} AS e ON {vector_is_row}
LEFT JOIN {outcome} AS o ON {recorded}

-- name: begin_writing
-- 1885828717 is "pgvm". Who only writes vectors shares this lock with others.
SELECT pg_advisory_xact_lock_shared(1885828717, %(version_id)s)

-- name: begin_removing
-- Who leaves a row without a vector must see those that are being written: a worker that looked before the row changed
-- would write one of the old text afterwards, and nothing in the log would tell. Applications never take this lock.
SELECT pg_advisory_xact_lock(1885828717, %(version_id)s)

-- name: guard_rows
-- One statement, so one snapshot. An entry of the log that is seen here belongs to a committed text that is seen here as
-- well, so it is taken out only where that text is the one that was embedded; a change that commits later leaves its own
-- entry. No row of the table is locked. A vector that another transaction is about to remove makes its row wait.
-- The key comes back as PostgreSQL sends it in binary, which is what COPY takes.
WITH r AS MATERIALIZED (
    SELECT u.i, u.replaced, {row_columns}, pgvmig.source_hash({input}(d.*)) = u.hash AS same,
           EXISTS (SELECT FROM {vectors} AS e WHERE {vector_is_row} OFFSET 0) AS has_vector
    FROM unnest({given}, %(hashes)b::bytea[], %(replaced)b::boolean[]) WITH ORDINALITY
         AS u ({given_columns}, hash, replaced, i)
    JOIN {table} AS d ON {row_is_given}
), free AS MATERIALIZED (
    SELECT r.i, {vector_key} FROM r JOIN {vectors} AS e ON {same_vector}
    WHERE r.same AND r.replaced AND r.has_vector
    FOR UPDATE OF e SKIP LOCKED
), removed AS (
    DELETE FROM {vectors} AS e USING free AS f WHERE {free_vector}
), ours AS MATERIALIZED (
    SELECT r.* FROM r LEFT JOIN free AS f USING (i)
    WHERE r.same AND (f.i IS NOT NULL OR NOT (r.replaced AND r.has_vector))
), entry AS MATERIALIZED (
    SELECT q.entry FROM ours AS r JOIN {stale} AS q ON {same_entry}
    FOR UPDATE OF q SKIP LOCKED
), unqueued AS (
    DELETE FROM {stale} AS q USING entry WHERE q.entry = entry.entry
)
SELECT r.i::integer - 1, r.same, o.i IS NOT NULL, clock_timestamp(), {guarded_key}
FROM r LEFT JOIN ours AS o USING (i)

-- name: copy_rows
COPY {vectors} ({queue_columns}, {vector}, {version_id}, {source_hash}, {embedded_at}) FROM STDIN (FORMAT BINARY)

-- name: forget_rows
-- Rows that are not there in the snapshot that shows their vectors and entries: deleted. Under the lock of
-- begin_removing no vector of theirs is on its way; one that a transaction holds is left to it and to the log.
WITH gone AS MATERIALIZED (
    SELECT {given_as_queue}, EXISTS (SELECT FROM {vectors} AS e WHERE {vector_is_given} OFFSET 0) AS has_vector
    FROM unnest({given}) AS u ({given_columns})
    WHERE NOT EXISTS (SELECT FROM {table} AS d WHERE {row_is_given})
), free AS MATERIALIZED (
    SELECT {vector_key} FROM gone AS r JOIN {vectors} AS e ON {same_vector} FOR UPDATE OF e SKIP LOCKED
), removed AS (
    DELETE FROM {vectors} AS e USING free AS f WHERE {free_vector}
), entry AS MATERIALIZED (
    SELECT q.entry FROM gone AS r JOIN {stale} AS q ON {same_entry}
    WHERE NOT r.has_vector OR EXISTS (SELECT FROM free AS f WHERE {free_row})
    FOR UPDATE OF q SKIP LOCKED
)
DELETE FROM {stale} AS q USING entry WHERE q.entry = entry.entry

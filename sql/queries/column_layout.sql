-- Reading and writing rows whose vector stands beside them. d: the row, u: keys given as arrays of text.

-- name: stored_columns
-- The columns whose values take more room in one row than in another.
SELECT a.attname
FROM pgvmig.version v JOIN pg_attribute a ON a.attrelid = v.relation
WHERE v.version_id = %(version_id)s AND a.attnum > 0 AND a.attlen = -1 AND NOT a.attisdropped AND a.attgenerated <> 'v'
  AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')

-- name: room
-- What a value takes on the row's page: a pointer, where it is kept elsewhere.
coalesce(CASE WHEN pg_column_toast_chunk_id({column}) IS NULL THEN pg_column_size({column}) ELSE 18 END, 0)

-- name: room_before_17
-- There nothing tells where a value is kept; one that is longer than this cannot be in its row.
coalesce(CASE WHEN pg_column_size({column}) < 2032 THEN pg_column_size({column}) ELSE 18 END, 0)

-- name: missing_rows
-- The rows on some pages that wait for the walk: no vector, no outcome recorded for their text, and not in the log,
-- where they would be taken from. A range of TIDs, so that the pages before it are not read again; of every partition.
SELECT {row_key}, d.tableoid::bigint, d.ctid, {room}
FROM {table} AS d
WHERE d.ctid >= %(first)s::tid AND d.ctid < %(last)s::tid
  AND d.{vector} IS NULL
  AND NOT EXISTS (SELECT FROM {stale} AS q WHERE {queued})
  AND NOT EXISTS (SELECT FROM {outcome} AS o WHERE {recorded} AND o.source_hash = pgvmig.source_hash({text}))
ORDER BY d.tableoid, d.ctid

-- name: read_rows
-- The rows' input and its hash, whether the vector is of that text, and whether an outcome is recorded for it.
-- OFFSET 0 keeps PostgreSQL from evaluating the input twice.
SELECT u.i::integer - 1, d.tableoid::bigint, d.ctid, r.input, r.hash,
       coalesce(d.{version_id} = %(version_id)s AND d.{source_hash} = r.hash AND d.{vector} IS NOT NULL, false),
       coalesce(o.source_hash = r.hash, false)
FROM unnest({given}) WITH ORDINALITY AS u ({given_columns}, i)
JOIN {table} AS d ON {row_is_given}
CROSS JOIN LATERAL (
    SELECT t.input, pgvmig.source_hash(t.input) AS hash FROM (SELECT {text} AS input OFFSET 0) AS t OFFSET 0
) AS r
LEFT JOIN {outcome} AS o ON {recorded}

-- name: lock_rows
-- Lock what nobody else has locked, and say which of it still is what was embedded. Waiting for nobody, a worker
-- cannot be part of a deadlock.
SELECT u.i::integer - 1, pgvmig.source_hash({text}) = u.hash
FROM unnest({given}, %(hashes)b::bytea[]) WITH ORDINALITY AS u ({given_columns}, hash, i)
JOIN {table} AS d ON {row_is_given}
FOR NO KEY UPDATE OF d SKIP LOCKED

-- name: write_rows
-- Vector and provenance together, for rows that this transaction has locked.
UPDATE {table} AS d
SET {vector} = u.vector, {version_id} = %(version_id)s, {source_hash} = u.hash, {embedded_at} = clock_timestamp()
FROM unnest({given}, %(hashes)b::bytea[], %(vectors)b::{vector_type}[]) AS u ({given_columns}, hash, vector)
WHERE {row_is_given}

-- name: clear_rows
-- The text was removed: its vector would still be found by searches.
UPDATE {table} AS d
SET {vector} = NULL, {version_id} = NULL, {source_hash} = NULL, {embedded_at} = NULL
FROM unnest({given}) AS u ({given_columns})
WHERE {row_is_given} AND d.{vector} IS NOT NULL

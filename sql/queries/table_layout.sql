-- Reading and writing rows whose vectors are in a table of their own. d: the row, e: its vector, u: keys given as arrays
-- of text, q: the log. Vectors there are only inserted and deleted, never updated: a worker that is late then meets the
-- unique key of one who was faster, and looks again.

-- name: senders
-- The functions that turn the key's columns into their binary form.
SELECT t.typsend::regproc::text
FROM pgvmig.version v JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot,
     unnest(pgvmig.present_names(s.relation, s.key_columns, s.key_numbers)) WITH ORDINALITY AS u (name, i),
     pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE v.version_id = %(version_id)s AND a.attrelid = v.relation AND a.attname = u.name
ORDER BY u.i

-- name: missing_rows
-- The rows on some pages that wait for the walk: no vector, no outcome recorded for their text, and not in the log,
-- where they would be taken from. OFFSET 0 has PostgreSQL look each row up instead of reading the whole table of vectors,
-- and hash only texts that have an outcome.
SELECT {row_key}, d.tableoid::bigint, d.ctid
FROM {table} AS d
WHERE d.ctid >= %(first)s::tid AND d.ctid < %(last)s::tid
  AND NOT EXISTS (SELECT FROM {vectors} AS e WHERE {vector_is_row} OFFSET 0)
  AND NOT EXISTS (SELECT FROM {stale} AS q WHERE {queued} OFFSET 0)
  AND NOT EXISTS (SELECT FROM {outcome} AS o WHERE {recorded} AND o.source_hash = pgvmig.source_hash({text}) OFFSET 0)
ORDER BY d.tableoid, d.ctid

-- name: read_rows
-- The rows' input and its hash, whether the vector is of that text, and whether an outcome is recorded for it; which
-- version of the row that is, and its key as COPY takes it: the fields in their types' binary form after their lengths.
-- OFFSET 0 keeps PostgreSQL from evaluating the input twice.
SELECT u.i::integer - 1, d.tableoid::bigint, d.ctid, r.input, r.hash,
       coalesce(e.{version_id} = %(version_id)s AND e.{source_hash} = r.hash, false),
       coalesce(o.source_hash = r.hash, false),
       d.tableoid || d.ctid::text || d.xmin, {sent_key}
FROM unnest({given}) WITH ORDINALITY AS u ({given_columns}, i)
JOIN {table} AS d ON {row_is_given}
CROSS JOIN LATERAL (
    SELECT t.input, pgvmig.source_hash(t.input) AS hash FROM (SELECT {text} AS input OFFSET 0) AS t OFFSET 0
) AS r
LEFT JOIN {vectors} AS e ON {vector_is_row}
LEFT JOIN {outcome} AS o ON {recorded}

-- name: begin_writing
-- 1885828717 is "pgvm". Who only writes vectors shares this lock with others.
SELECT pg_advisory_xact_lock_shared(1885828717, %(version_id)s)

-- name: begin_alone
-- Who leaves a row without a vector, or takes it out of the log because its vector is right, must see those that are being
-- written: a worker that looked before the row changed would write one of the old text afterwards, and nothing in the log
-- would tell. Applications never take this lock.
SELECT pg_advisory_xact_lock(1885828717, %(version_id)s)

-- name: guard_rows
-- One statement, so one snapshot. An entry of the log that is seen here belongs to a committed text that is seen here as
-- well, so it is taken out only where that text is the one that was embedded; a change that commits later leaves its own
-- entry. A row version that is still the one that was read has the text that was read; only another one is hashed again.
-- No row of the table is locked, and nothing is waited for: an application that deletes a row holds what is ours of it.
-- Returns the positions of the rows that are not ours, and among them of those that somebody holds.
WITH r AS MATERIALIZED (
    SELECT u.i, {row_columns},
           CASE WHEN u.version = d.tableoid || d.ctid::text || d.xmin THEN true
                ELSE pgvmig.source_hash({text}) = substr(%(hashes)s::bytea, u.i::integer * 32 - 31, 32) END AS same,
           u.i <> ALL (%(failed)s::integer[]) AND EXISTS (SELECT FROM {vectors} AS e WHERE {vector_is_row} OFFSET 0) AS has_vector,
           (SELECT EXISTS (SELECT FROM {outcome})) AND EXISTS (SELECT FROM {outcome} AS o WHERE {recorded} OFFSET 0)
               AS has_outcome
    FROM unnest({given}, %(versions)s::text[]) WITH ORDINALITY AS u ({given_columns}, version, i)
    JOIN {table} AS d ON {row_is_given}
), vector AS MATERIALIZED (
    SELECT r.i FROM r JOIN {vectors} AS e ON {same_vector} WHERE r.same AND r.has_vector
    FOR UPDATE OF e SKIP LOCKED
), outcome AS MATERIALIZED (
    SELECT r.i FROM r JOIN {outcome} AS o ON {same_outcome} WHERE r.same AND r.has_outcome
    FOR UPDATE OF o SKIP LOCKED
), ours AS MATERIALIZED (
    SELECT * FROM r
    WHERE r.same AND (NOT r.has_vector OR r.i IN (SELECT i FROM vector))
      AND (NOT r.has_outcome OR r.i IN (SELECT i FROM outcome))
), entry AS MATERIALIZED (
    SELECT q.entry FROM ours AS r JOIN {stale} AS q ON {same_entry}
    FOR UPDATE OF q SKIP LOCKED
), unqueued AS (
    DELETE FROM {stale} AS q USING entry WHERE q.entry = entry.entry
), removed AS (
    DELETE FROM {vectors} AS e USING ours AS r WHERE r.has_vector AND {same_vector}
), forgotten AS (
    DELETE FROM {outcome} AS o USING ours AS r WHERE r.has_outcome AND r.i <> ALL (%(without)s::integer[]) AND {same_outcome}
)
SELECT CASE WHEN n < %(count)s THEN ARRAY(SELECT generate_series(1, %(count)s) EXCEPT SELECT i FROM ours) END,
       CASE WHEN n < %(count)s THEN ARRAY(SELECT i FROM r WHERE r.same EXCEPT SELECT i FROM ours) END
FROM (SELECT count(*) AS n FROM ours) AS counted

-- name: copy_rows
COPY {vectors} ({queue_columns}, {vector}, {version_id}, {source_hash}) FROM STDIN (FORMAT BINARY)

-- name: forget_rows
-- Rows that are not there in the snapshot that shows their vectors and entries: deleted. Under the lock of
-- begin_alone no vector of theirs is on its way; one that a transaction holds is left to it and to the log. The table is
-- named before that of the vectors: PostgreSQL locks them in this order, as TRUNCATE and its trigger do.
WITH gone AS MATERIALIZED (
    SELECT {given_as_queue} FROM unnest({given}) AS u ({given_columns})
    WHERE NOT EXISTS (SELECT FROM {table} AS d WHERE {row_is_given})
), left_over AS MATERIALIZED (
    SELECT r.*, EXISTS (SELECT FROM {vectors} AS e WHERE {same_vector} OFFSET 0) AS has_vector FROM gone AS r
), free AS MATERIALIZED (
    SELECT {vector_key} FROM left_over AS r JOIN {vectors} AS e ON {same_vector} FOR UPDATE OF e SKIP LOCKED
), removed AS (
    DELETE FROM {vectors} AS e USING free AS r WHERE {same_vector}
), entry AS MATERIALIZED (
    SELECT q.entry FROM left_over AS r JOIN {stale} AS q ON {same_entry}
    WHERE NOT r.has_vector OR EXISTS (SELECT FROM free AS f WHERE {free_row})
    FOR UPDATE OF q SKIP LOCKED
)
DELETE FROM {stale} AS q USING entry WHERE q.entry = entry.entry

-- name: queue_orphans
-- Vectors whose row went with its partition, past every trigger: the log has the worker find the row gone. A range of the
-- vectors' own pages.
INSERT INTO {stale} ({queue_columns})
SELECT {vector_key} FROM {vectors} AS e
WHERE e.ctid >= %(first)s::tid AND e.ctid < %(last)s::tid
  AND NOT EXISTS (SELECT FROM {table} AS d WHERE {vector_is_row} OFFSET 0)
  AND NOT EXISTS (SELECT FROM {stale} AS q WHERE {queued_vector} OFFSET 0)

-- name: vector_blocks
SELECT pgvmig.end_of_pages(v.vector_relation) FROM pgvmig.version v WHERE v.version_id = %(version_id)s

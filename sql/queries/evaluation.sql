-- What `pgvmig evaluate` asks and keeps.

-- name: readable_keys
-- Which of the given ids can be keys of the table at all; one of another type is no row of it. By their numbers from 1.
SELECT u.number
FROM unnest({given}) WITH ORDINALITY AS u ({given_columns}, number)
WHERE {readable}

-- name: judged_rows
-- The rows that somebody judged, by key: the number under which each was given, whether both versions have its vector,
-- its key.
SELECT u.number,
       EXISTS (SELECT FROM {old_view} AS w WHERE {in_old}) AS in_old,
       EXISTS (SELECT FROM {new_view} AS w WHERE {in_new}) AS in_new, {key}
FROM unnest({given}) WITH ORDINALITY AS u ({given_columns}, number)
JOIN {table} AS d ON {row_is_given}

-- name: judged_rows_by_column
-- The same by another column of the rows, which may be one of several rows' (chunks of one document).
SELECT u.number,
       EXISTS (SELECT FROM {old_view} AS w WHERE {in_old}) AS in_old,
       EXISTS (SELECT FROM {new_view} AS w WHERE {in_new}) AS in_new, {key}
FROM unnest(%(documents)s::text[]) WITH ORDINALITY AS u (document, number)
JOIN {table} AS d ON d.{column}::text OPERATOR(pg_catalog.=) u.document

-- name: is_unique
-- Whether no two rows of the table have the same value in a column.
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = %(relation)s::oid AND a.attname = %(column)s AND i.indnkeyatts = 1 AND i.indisunique
      AND i.indisvalid AND i.indpred IS NULL)

-- name: candidates
-- A pilot's rows: judged, and with a vector in both versions. A condition on the row w of a version's view.
EXISTS (SELECT FROM unnest({given}) AS u ({given_columns}) WHERE {is_given})

-- name: facts
-- What must be known of a version beside its contract.
SELECT v.thresholds, v.search, v.state IN ('active', 'retained') AS serves, clock_timestamp() AS at FROM pgvmig.version v
WHERE v.version_id = %(version_id)s

-- name: complete
-- How far its backfill is. Rows that changed a moment ago do not count.
SELECT g.passed, g.found, (g.measured ->> 'embedded')::bigint AS embedded, (g.measured ->> 'total')::bigint AS total
FROM pgvmig.version v
CROSS JOIN LATERAL pgvmig.gate_coverage(v, ROW('60 s', '24 h', false)::pgvmig.gate_terms) AS g
WHERE v.version_id = %(version_id)s

-- name: keep_judged_set
-- The same content again is the same set; its name, owner and date are what was said last, where something was said.
INSERT INTO pgvmig.judged_set AS s (relation, slot, hash, name, owner, judged_on, queries, judgements)
VALUES (%(relation)s::oid::regclass, %(slot)s, %(hash)s, %(name)s, coalesce(%(owner)s, session_user),
        coalesce(%(judged_on)s, %(file_date)s), %(queries)s, %(judgements)s)
ON CONFLICT (relation, slot, hash) DO UPDATE
SET name = excluded.name, owner = coalesce(%(owner)s, s.owner), judged_on = coalesce(%(judged_on)s, s.judged_on)
RETURNING s.judged_set_id, s.name, s.owner, s.judged_on, s.judged_on < current_date - 90 AS old

-- name: keep_evaluation
-- Its time is that of its beginning: what was written since then may not be what was searched.
INSERT INTO pgvmig.evaluation (old_version_id, new_version_id, judged_set_id, evaluated_at, verdict, reason, pilot,
                               thresholds, figures, queries)
VALUES (%(old)s, %(new)s, %(judged_set_id)s, %(began)s, %(verdict)s, %(reason)s, %(pilot)s, %(thresholds)s,
        %(figures)s, %(queries)s)
RETURNING evaluation_id, evaluated_at, evaluated_by

-- name: history
-- Every evaluation of a slot's versions, the oldest first.
SELECT e.evaluation_id, e.evaluated_at, e.evaluated_by, o.version AS old, n.version AS new,
       ko.definition ->> 'model' AS old_model, kn.definition ->> 'model' AS new_model, e.verdict, e.reason, e.pilot,
       e.thresholds, e.figures, s.name AS judged_set, s.owner, s.judged_on, s.hash
FROM pgvmig.evaluation e
JOIN pgvmig.judged_set s USING (judged_set_id)
JOIN pgvmig.version n ON n.version_id = e.new_version_id
JOIN pgvmig.contract kn ON kn.fingerprint = n.fingerprint
LEFT JOIN pgvmig.version o ON o.version_id = e.old_version_id
LEFT JOIN pgvmig.contract ko ON ko.fingerprint = o.fingerprint
WHERE n.relation = %(relation)s::oid::regclass AND n.slot = %(slot)s
ORDER BY e.evaluation_id

-- name: require
-- NULL: an evaluation is not required any more.
SELECT pgvmig.require_evaluation(%(relation)s::oid::regclass, %(version)s, %(thresholds)s, slot => %(slot)s,
                                 reason => %(reason)s)

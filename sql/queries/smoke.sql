-- Searches that must work whatever is active, run after a switch.

-- name: queries
SELECT q.text, q.expect_key, q.added_at, q.added_by
FROM pgvmig.smoke_query q
WHERE q.relation::oid::bigint = %(relation)s AND q.slot = %(slot)s
ORDER BY q.added_at, q.text

-- name: add
INSERT INTO pgvmig.smoke_query AS q (relation, slot, text, expect_key)
VALUES (%(relation)s::bigint::oid::regclass, %(slot)s, %(text)s, %(expect_key)s)
ON CONFLICT (relation, slot, text) DO UPDATE SET expect_key = excluded.expect_key
WHERE q.expect_key IS DISTINCT FROM excluded.expect_key

-- name: remove
DELETE FROM pgvmig.smoke_query WHERE relation::oid::bigint = %(relation)s AND slot = %(slot)s AND text = %(text)s

-- name: record
INSERT INTO pgvmig.event (source, verb, relation, slot, detail)
SELECT 'cli', 'smoke', pgvmig.label(%(relation)s::bigint::oid::regclass, 'embedding'), %(slot)s, %(detail)s

-- name: current
-- The current view of the slot, and which version is active.
SELECT v.version_id, c.oid::bigint AS view, n.nspname AS view_schema, c.relname AS view_name
FROM pgvmig.slot s
JOIN pg_class c ON c.oid = s.current_view
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pgvmig.version v ON v.relation = s.relation AND v.slot = s.slot AND v.state = 'active'
WHERE s.relation::oid::bigint = %(relation)s AND s.slot = %(slot)s

-- name: search
-- The keys as text, as they are written with --expect.
SELECT concat_ws(',', {keys}) AS key FROM (
{search}
) AS s ORDER BY s.distance

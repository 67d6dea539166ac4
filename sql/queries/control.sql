-- What an operator changes while workers run. A worker reads both tables with every look at the signals.

-- name: pauses
-- Paused targets, the pause of everything first, those of versions after that of their table.
SELECT pgvmig.label(p.relation, p.slot) AS target, p.relation::oid::bigint AS relation, p.slot, p.version, p.paused_at,
       p.paused_by, p.reason
FROM pgvmig.all_pauses() p ORDER BY p.relation IS NOT NULL, 1, p.version NULLS FIRST

-- name: pause
INSERT INTO pgvmig.pause (relation, slot, version, reason)
VALUES (%(relation)s::bigint::oid::regclass, %(slot)s, %(version)s, %(reason)s)
ON CONFLICT (relation, slot, version) DO NOTHING

-- name: resume
DELETE FROM pgvmig.pause
WHERE relation::oid::bigint IS NOT DISTINCT FROM %(relation)s AND slot IS NOT DISTINCT FROM %(slot)s
  AND version IS NOT DISTINCT FROM %(version)s

-- name: is_copy
SELECT pgvmig.is_copy()

-- name: settle_copy
SELECT pgvmig.settle_copy()

-- name: throttles
SELECT pgvmig.label(t.relation, t.slot) AS target, t.relation::oid::bigint AS relation, t.slot, t.settings,
       t.changed_at, t.changed_by
FROM pgvmig.throttle t ORDER BY 1

-- name: throttle
-- What is given is changed, the rest of the row stays. Who and when is signed by a trigger.
INSERT INTO pgvmig.throttle AS t (relation, slot, settings)
VALUES (%(relation)s::bigint::oid::regclass, %(slot)s, %(settings)s)
ON CONFLICT (relation, slot) DO UPDATE
SET settings = t.settings || excluded.settings

-- name: unthrottle
DELETE FROM pgvmig.throttle WHERE relation::oid::bigint = %(relation)s AND slot = %(slot)s

-- name: record
-- For the diary, next to what the lifecycle writes there.
INSERT INTO pgvmig.event (source, verb, relation, slot, version, reason, detail)
SELECT 'cli', %(verb)s, pgvmig.label(%(relation)s::bigint::oid::regclass, 'embedding'), %(slot)s, %(version)s, %(reason)s,
       %(detail)s

-- name: workers
-- Runs on a target, and the limits that they were started with where those are not the defaults.
SELECT r.host, r.pid, v.version, r.limits
FROM pgvmig.backfill_run r JOIN pgvmig.version v USING (version_id)
WHERE v.relation::oid::bigint = %(relation)s AND v.slot = %(slot)s
  AND r.ended_at IS NULL AND r.seen_at > clock_timestamp() - interval '1 min'
ORDER BY r.started_at

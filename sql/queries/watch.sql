-- Rollback triggers, and what services report of the versions that they are about.

-- name: triggers
SELECT t.metric, t.comparison, t.bound, t.relative, t.statistic, t.over, t.min_values, t.declared_at, t.declared_by
FROM pgvmig.rollback_trigger t
WHERE t.relation = {relation}::bigint::oid AND t.slot = {slot}
ORDER BY t.metric, t.comparison

-- name: declare
-- The same metric and side again replaces what was declared before.
INSERT INTO pgvmig.rollback_trigger AS t
    (relation, slot, metric, comparison, bound, relative, statistic, over, min_values)
VALUES ({relation}::bigint::oid, {slot}, {metric}, {comparison}, {bound}, {relative}, {statistic}, {over}, {min_values})
ON CONFLICT (relation, slot, metric, comparison) DO UPDATE
SET bound = excluded.bound, relative = excluded.relative, statistic = excluded.statistic, over = excluded.over,
    min_values = excluded.min_values, declared_at = clock_timestamp(), declared_by = session_user

-- name: remove
DELETE FROM pgvmig.rollback_trigger t
WHERE t.relation = {relation}::bigint::oid AND t.slot = {slot} AND t.metric = {metric}
  AND ({comparison}::text IS NULL OR t.comparison = {comparison})
RETURNING t.metric, t.comparison, t.bound, t.relative, t.statistic, t.over, t.min_values, t.declared_at, t.declared_by

-- name: record
INSERT INTO pgvmig.event (source, verb, relation, slot, detail)
SELECT 'cli', {verb}, pgvmig.label({relation}::bigint::oid::regclass, 'embedding'), {slot}, {detail}

-- name: look
-- One snapshot: each version that is on trial with each trigger, its figures, and those of the version against it. The
-- active version is on trial since the switch, against the one before it until then; a candidate is, at the same time,
-- against the active one.
WITH moment AS (SELECT clock_timestamp() AS at),
active AS (
    SELECT v.* FROM pgvmig.version v
    WHERE v.relation = {relation}::bigint::oid AND v.slot = {slot} AND v.state = 'active'
),
trial AS (
    SELECT a.version_id, a.version, false AS candidate, a.state_changed_at AS since, p.version_id AS against_id,
           p.version AS against, a.state_changed_at AS until
    FROM active a LEFT JOIN pgvmig.version p ON p.version_id = a.activated_from
    UNION ALL
    SELECT v.version_id, v.version, true, NULL, a.version_id, a.version, m.at
    FROM active a, moment m, pgvmig.route r JOIN pgvmig.version v ON v.version_id = r.version_id
    WHERE r.relation = {relation}::bigint::oid AND r.slot = {slot} AND r.percent < 100
)
SELECT m.at, y.version, y.candidate, y.since, y.against,
       t.metric, t.comparison, t.bound, t.relative, t.statistic, t.over, t.min_values,
       n.recorded, n.mean, n.p95, b.recorded AS baseline_recorded, b.mean AS baseline_mean, b.p95 AS baseline_p95
FROM trial y CROSS JOIN moment m
LEFT JOIN pgvmig.rollback_trigger t ON t.relation = {relation}::bigint::oid AND t.slot = {slot}
LEFT JOIN LATERAL pgvmig.metric_summary(y.version_id, t.metric, greatest(m.at - t.over, y.since), m.at) n ON true
LEFT JOIN LATERAL pgvmig.metric_summary(y.against_id, t.metric, y.until - t.over, y.until) b ON t.relative
ORDER BY y.candidate DESC, t.metric, t.comparison

-- name: prune
SELECT pgvmig.prune_outcomes({relation}::bigint::oid::regclass, {slot}, {keep}, {most})

-- name: route
-- Who serves a target: the active version, and the candidate with its share and its keys. No row without a slot.
SELECT pgvmig.label(s.relation, s.slot) AS target,
       (SELECT v.version FROM pgvmig.version v
        WHERE v.relation = s.relation AND v.slot = s.slot AND v.state = 'active') AS active,
       c.version AS candidate, coalesce(c.percent, 0)::float8 AS percent, coalesce(c.keys, ARRAY[]::text[]) AS keys,
       (SELECT max(r.changed_at) FROM pgvmig.route r WHERE r.relation = s.relation AND r.slot = s.slot) AS changed_at
FROM pgvmig.slot s LEFT JOIN LATERAL pgvmig.candidate(s.relation, s.slot) c ON true
WHERE s.relation = {relation}::bigint::oid AND s.slot = {slot}

-- name: served
-- How many searches each version answered lately, as services report it.
SELECT v.version, m.total AS searches
FROM pgvmig.version v
CROSS JOIN LATERAL pgvmig.metric_summary(v.version_id, 'served', clock_timestamp() - {window}, clock_timestamp()) m
WHERE v.relation = {relation}::bigint::oid AND v.slot = {slot} AND m.total > 0
ORDER BY v.version_id

-- name: set_route
SELECT {function}({relation}, {version}, {percent}::numeric, slot => {slot}, add_keys => {add_keys}::text[],
                  remove_keys => {remove_keys}::text[], max_stale_age => {max_stale_age}, skip => {skip}::text[],
                  reason => {reason}, max_evidence_age => {max_evidence_age})

-- name: unroute
SELECT {function}({relation}, {version}::text, slot => {slot}, reason => {reason})

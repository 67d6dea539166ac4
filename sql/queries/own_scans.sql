-- How often pgvmig itself scans a version's vector indexes: a proof that nobody reads it subtracts that.

-- name: count
-- By version, what this session's transaction has scanned so far. It may include what earlier ones have not handed on
-- yet, so that only a difference within one transaction says something.
SELECT v.version_id::text, coalesce(sum(pg_stat_get_xact_numscans(l)), 0)::bigint
FROM pgvmig.version v CROSS JOIN LATERAL pgvmig.vector_indexes(v) AS i CROSS JOIN LATERAL pgvmig.leaves(i.index) AS l
WHERE v.version_id = ANY (%(version_ids)s)
GROUP BY v.version_id

-- name: note
-- Add what was scanned since `before`. It shows in pg_stat_user_indexes at the commit, not up to a second later: whoever
-- reads both between the two would take ours for somebody else's.
INSERT INTO pgvmig.own_index_scan (version_id, scans)
SELECT now.version_id, now.scans
FROM (SELECT v.version_id, sum(pg_stat_get_xact_numscans(l))
                           - coalesce((%(before)s::jsonb ->> v.version_id::text)::bigint, 0) AS scans
      FROM pgvmig.version v CROSS JOIN LATERAL pgvmig.vector_indexes(v) AS i CROSS JOIN LATERAL pgvmig.leaves(i.index) AS l
      WHERE v.version_id = ANY (%(version_ids)s)
      GROUP BY v.version_id) AS now,
     pg_stat_force_next_flush()
WHERE now.scans > 0

-- What reading rows has in common in both layouts.

-- name: blocks
-- How many pages the table has now.
SELECT pg_relation_size(v.relation) / current_setting('block_size')::bigint
FROM pgvmig.version v WHERE v.version_id = %(version_id)s

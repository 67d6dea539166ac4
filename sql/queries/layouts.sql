-- What reading rows has in common in both layouts.

-- name: blocks
-- How many pages the table has now, or its longest partition.
SELECT pgvmig.end_of_pages(v.relation) FROM pgvmig.version v WHERE v.version_id = %(version_id)s

-- name: partitions
SELECT pgvmig.partition_marks(v.relation) FROM pgvmig.version v WHERE v.version_id = %(version_id)s

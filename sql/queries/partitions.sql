-- The index of a partitioned table: one of each leaf partition, attached to that of the table. PostgreSQL builds none
-- of them concurrently by itself.

-- name: is_partitioned
SELECT pgvmig.is_partitioned({relation}::regclass) AS partitioned

-- name: next_part
-- The first partition, from the top down, that has no index in this one's tree, and the index to attach its to.
WITH ours AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid FROM pg_partition_tree({index}::regclass) t JOIN pg_index i ON i.indexrelid = t.relid
)
SELECT n.nspname AS table_schema, c.relname AS table_name, t.isleaf, o.indexrelid::regclass::text AS attach_to
FROM pg_partition_tree({relation}::regclass) t
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN ours o ON o.indrelid = t.parentrelid
WHERE NOT EXISTS (SELECT FROM ours x WHERE x.indrelid = t.relid)
ORDER BY t.level, c.oid LIMIT 1

-- name: unattached
-- A partition's indexes that are attached to none; the others are part of another one.
SELECT c.relname AS name, i.indrelid = {relation}::regclass AS same_table, NOT c.relispartition AS free,
       (SELECT p.pid FROM pg_stat_progress_create_index p
        WHERE p.index_relid = c.oid AND p.pid <> pg_backend_pid() LIMIT 1) AS builder
FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.oid = to_regclass({index}) OR i.indrelid = {relation}::regclass AND NOT c.relispartition

-- name: attach
ALTER INDEX {index} ATTACH PARTITION {part}

-- name: drop
-- Never CONCURRENTLY: PostgreSQL does not take that of a partitioned index. All its partitions are locked, for a moment.
DROP INDEX IF EXISTS {index}

-- name: patiently
SELECT pgvmig.execute_patiently({statement})

-- name: parts
-- The indexes that an index consists of.
SELECT n.nspname AS table_schema, c.relname AS name
FROM pg_partition_tree(to_regclass({index})) t JOIN pg_class c ON c.oid = t.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.level > 0

-- name: partitions
SELECT n.nspname AS table_schema, c.relname AS table_name, t.isleaf
FROM pg_partition_tree({relation}::regclass) t JOIN pg_class c ON c.oid = t.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.level > 0

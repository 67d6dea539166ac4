-- name: require_backfilled
SELECT pgvmig.require_backfilled({relation}, {version}, slot => {slot})

-- name: index_state
SELECT i.indisvalid AND i.indisready AS valid, i.indrelid = {relation}::regclass AS same_table
FROM pg_index i WHERE i.indexrelid = to_regclass({index})

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- name: create_index
CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {table}
    USING {method} ({vector} {opclass}){options}

-- name: no_lock_timeout
-- CREATE INDEX CONCURRENTLY waits for old snapshots: a lock_timeout would kill it and leave an invalid index.
SET lock_timeout = 0

-- name: reset_lock_timeout
RESET lock_timeout

-- name: require_valid_index
SELECT pgvmig.require_valid_index({index})

-- name: validate_check
ALTER TABLE {table} VALIDATE CONSTRAINT {check}

-- name: has_check
SELECT 1 AS there FROM pg_constraint
WHERE conrelid = {relation}::regclass AND conname = {check} AND NOT convalidated

-- name: version_indexes
SELECT i.index::text AS name, pg_relation_size(i.index) AS bytes
FROM pgvmig.version v, pgvmig.vector_indexes(v) i
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version} AND NOT v.adopted

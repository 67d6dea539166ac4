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

-- name: no_timeouts
-- CREATE INDEX CONCURRENTLY waits for old snapshots, and takes its time: a timeout would leave an invalid index.
SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false)

-- name: timeouts
SELECT current_setting('lock_timeout') AS lock_timeout, current_setting('statement_timeout') AS statement_timeout

-- name: restore_timeouts
SELECT set_config('lock_timeout', {lock_timeout}, false), set_config('statement_timeout', {statement_timeout}, false)

-- name: reset_lock_timeout
RESET lock_timeout

-- name: reset_statement_timeout
RESET statement_timeout

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

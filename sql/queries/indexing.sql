-- name: require_backfilled
SELECT pgvmig.require_backfilled({relation}, {version}, slot => {slot})

-- name: plan_index
SELECT pgvmig.plan_index({relation}, {version}, {plan}::jsonb, slot => {slot})

-- name: require_droppable_index
SELECT pgvmig.require_droppable_index({relation}, {version}, {slot}, destroy => {destroy})

-- name: tell_searchers
SELECT pgvmig.tell_searchers({relation}, {version}, slot => {slot})

-- name: record_built
SELECT pgvmig.record_built({relation}, {version}, {index}, slot => {slot})

-- name: is_backfilled
SELECT pgvmig.is_backfilled({relation}, {version}, slot => {slot})

-- name: planned
SELECT v.index_plan FROM pgvmig.version v
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version}

-- name: count_vectors
SELECT count({vector}) AS vectors FROM {table}

-- name: index_states
-- What has the names that we would give, and who builds it at the moment.
SELECT u.name AS index, i.indrelid = {relation}::regclass AS same_table,
       (SELECT p.pid FROM pg_stat_progress_create_index p
        WHERE p.index_relid = i.indexrelid AND p.pid <> pg_backend_pid() LIMIT 1) AS builder
FROM unnest({indexes}::text[]) AS u (name) JOIN pg_index i ON i.indexrelid = to_regclass(u.name)

-- name: indexes_on
SELECT c.relname AS name, i.valid, i.method, i.opclass, i.quantize, i.options, i.whole, c.relkind = 'I' AS partitioned
FROM pgvmig.indexes_on({relation}::regclass, {column}, {vector_type}, {dimensions}) AS i
JOIN pg_class c ON c.oid = i.index

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- name: create_index
-- What is held is the column, or an expression of it. The views show vectors without their dimensions: the cast that takes
-- those away is part of the expression, or no search through a view would match the index.
CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {table}
    USING {method} ({held} {opclass}){options}

-- name: create_index_on_only
-- A partitioned table's own: no more than what its partitions' are attached to, so it is there at once.
CREATE INDEX IF NOT EXISTS {index} ON ONLY {table}
    USING {method} ({held} {opclass}){options}

-- name: halfvec_of
(({vector}::{vector_type})::{halfvec}({dimensions}))

-- name: bits_of
({binary_quantize}({vector}::{vector_type})::bit({dimensions}))

-- name: rename_index
ALTER INDEX {index} RENAME TO {called}

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

-- name: named_before
-- Indexes of a version that we named after what the table was called then: the diary knows them, or their names' end.
SELECT c.relname AS name
FROM pgvmig.version v, pgvmig.vector_indexes(v) AS i JOIN pg_class c ON c.oid = i.index
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version} AND NOT v.adopted
  AND (right(c.relname, length({end})) = {end}
       OR EXISTS (SELECT FROM pgvmig.event e
                  WHERE e.verb = 'index' AND e.slot = v.slot AND e.version = v.version
                    AND (parse_ident(e.detail ->> 'built'))[2] = c.relname))

-- name: version_indexes
SELECT i.index::text AS name, (SELECT sum(pg_relation_size(l)) FROM pgvmig.leaves(i.index) l)::bigint AS bytes,
       EXISTS (SELECT FROM pg_class c WHERE c.oid = i.index AND c.relkind = 'I') AS partitioned
FROM pgvmig.version v, pgvmig.vector_indexes(v) i
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version} AND NOT v.adopted

-- name: progress
-- How far that session's build is. What it counts depends on the phase: blocks of the table, or rows.
SELECT p.phase, p.blocks_done, p.blocks_total, p.tuples_done, p.tuples_total,
       (SELECT string_agg(pid::text, ', ') FROM unnest(pg_blocking_pids(p.pid)) AS pid) AS waits_for
FROM pg_stat_progress_create_index p WHERE p.pid = %(pid)s

-- name: built
SELECT pgvmig.label(i.index, 'embedding') AS index, i.method, i.quantize, i.options, (SELECT sum(pg_relation_size(l)) FROM pgvmig.leaves(i.index) l)::bigint AS bytes
FROM pgvmig.version v, pgvmig.searched_index(v) AS i
WHERE v.version_id = %(version_id)s

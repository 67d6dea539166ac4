-- What `pgvmig plan` asks: the table's shape, a sample of its pages, and who else would notice a backfill.

-- name: see_every_row
-- Rows that a policy hides would be missing from every figure: an error instead.
SELECT set_config('row_security', 'off', true)

-- name: table_facts
-- The table as the catalog has it, and the settings that decide what is stored on its pages and what beside them. A
-- partitioned table's are those of its partitions: sums, the worst of them, or what the biggest one has.
SELECT n.nspname AS table_schema, c.relname AS table_name, c.relkind::text AS relkind, p.partitions,
       p.estimated_rows, pgvmig.pages(c.oid) AS pages, p.heap_bytes, p.toast_bytes,
       current_setting('block_size')::integer AS block_size,
       c.relrowsecurity AS row_security, p.identity_full, p.fillfactor, p.toast_tuple_target,
       p.autovacuum AND current_setting('autovacuum')::boolean AS autovacuum,
       p.frozen_age, current_setting('autovacuum_freeze_max_age')::bigint AS freeze_max_age,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       (SELECT max(extract(epoch FROM clock_timestamp() - a.xact_start)) FROM pg_stat_activity a
        WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid() AND a.datname = current_database()) AS oldest_snapshot
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.relkind = 'p' THEN count(*) ELSE 0 END AS partitions,
           CASE WHEN bool_or(l.reltuples < 0 AND pg_relation_size(l.oid) > 0) THEN -1
                ELSE sum(greatest(l.reltuples, 0))::bigint END AS estimated_rows,
           coalesce(sum(pg_relation_size(l.oid)), 0)::bigint AS heap_bytes,
           coalesce(sum(pg_total_relation_size(nullif(l.reltoastrelid, 0))), 0)::bigint AS toast_bytes,
           coalesce(bool_or(l.relreplident = 'f'), false) AS identity_full,
           coalesce((array_agg(o.fillfactor ORDER BY pg_relation_size(l.oid) DESC))[1], 100) AS fillfactor,
           coalesce((array_agg(o.toast_tuple_target ORDER BY pg_relation_size(l.oid) DESC))[1], 2032) AS toast_tuple_target,
           coalesce(bool_and(o.autovacuum), true) AS autovacuum,
           coalesce(max(age(l.relfrozenxid)), 0) AS frozen_age
    FROM pgvmig.leaves(c.oid) AS leaf JOIN pg_class l ON l.oid = leaf
    CROSS JOIN LATERAL (
        SELECT coalesce(max(o.option_value) FILTER (WHERE o.option_name = 'fillfactor'), '100')::integer AS fillfactor,
               coalesce(max(o.option_value) FILTER (WHERE o.option_name = 'toast_tuple_target'), '2032')::integer
                   AS toast_tuple_target,
               coalesce(max(o.option_value) FILTER (WHERE o.option_name = 'autovacuum_enabled'), 'true')::boolean AS autovacuum
        FROM pg_options_to_table(l.reloptions) o
    ) AS o
) AS p
WHERE c.oid = to_regclass({relation})

-- name: columns
-- The columns as they lie in a row; dropped ones take no room in new versions.
SELECT a.attname AS name, a.attlen AS length, a.attstorage::text AS storage,
       CASE a.attalign WHEN 'c' THEN 1 WHEN 's' THEN 2 WHEN 'i' THEN 4 ELSE 8 END AS align
FROM pg_attribute a
WHERE a.attrelid = {relation}::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

-- name: indexes
-- Every index that an update which is not HOT writes to, and whether one of the given columns is in it.
SELECT c.relname AS name, m.amname AS method, s.bytes,
       coalesce((SELECT max(a.atttypmod) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND m.amname IN ('hnsw', 'ivfflat')), -1) AS dimensions,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[])
               AND a.attname = ANY ({columns}::text[])) AS on_vector
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
CROSS JOIN LATERAL (SELECT coalesce(sum(pg_relation_size(l)), 0)::bigint AS bytes FROM pgvmig.leaves(c.oid) l) AS s
WHERE i.indrelid = {relation}::regclass AND i.indisready
ORDER BY s.bytes DESC, c.relname

-- name: count
SELECT count(*) AS total, count(*) FILTER (WHERE {waits}) AS waiting FROM {table} AS d

-- name: sample
-- The rows of some of the table's pages: where they lie, and for each column its stored bytes, whether they lie in the
-- TOAST table and whether they are compressed. Nothing is decompressed or read from the TOAST table for it.
SELECT (d.tableoid::bigint << 32) + (d.ctid::text::point)[0]::bigint AS page, {waits} AS waits,
       ARRAY[{sizes}]::integer[] AS sizes, ARRAY[{external}]::boolean[] AS external,
       ARRAY[{compressed}]::boolean[] AS compressed
FROM {table} AS d TABLESAMPLE SYSTEM ({percent}) REPEATABLE ({seed})

-- name: make_trial
-- A place that goes with the transaction, where PostgreSQL itself shows what compressing makes of some values.
CREATE TEMP TABLE pgvmig_trial ON COMMIT DROP AS
SELECT {columns}, NULL::integer[] AS {before}, NULL::bytea AS {filler} FROM {table} AS d LIMIT 0

-- name: fill_rows
-- Too long to leave the row any room, and not to be moved: so the values beside it are compressed.
ALTER TABLE pg_temp.pgvmig_trial ALTER COLUMN {filler} SET STORAGE PLAIN

-- name: try_compressing
INSERT INTO pg_temp.pgvmig_trial
SELECT {values}, ARRAY[{sizes}]::integer[], decode(repeat('00', 2100), 'hex')
FROM {table} AS d TABLESAMPLE SYSTEM ({percent}) REPEATABLE ({seed})
LIMIT 200

-- name: not_compressed
-- A value that lies in its row as it is, long enough to be worth compressing.
CASE WHEN pg_column_compression(d.{column}) IS NULL AND pg_column_size(d.{column}) BETWEEN 64 AND 2032 THEN d.{column} END

-- name: trial_sizes
-- A column's values there, and how long they were before.
SELECT sum(pg_column_size(d.{column})) AS after, sum(d.{before}[{number}]) FILTER (WHERE d.{column} IS NOT NULL) AS before
FROM pg_temp.pgvmig_trial AS d

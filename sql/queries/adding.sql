-- name: found_schema
-- Run under the caller's search_path: nothing here is looked for on it but the table.
SELECT n.nspname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass({relation}::pg_catalog.text)::pg_catalog.oid

-- name: table_facts
-- The table as the caller's search_path finds it, and what adding a version must know of it.
SELECT n.nspname AS table_schema, c.relname AS table_name, c.relkind::text AS relkind,
       c.relpersistence::text AS relpersistence,
       EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)) AND c.relkind = 'r' AS inherits,
       CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::text END AS partition_of,
       (SELECT min(l::text) FROM pgvmig.leaves(c.oid) l JOIN pg_class p ON p.oid = l WHERE p.relpersistence = 'u') AS unlogged,
       pgvmig.vector_schema() AS vector_schema,
       (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector') AS vector_version,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
       ARRAY(SELECT u::text FROM unnest(pgvmig.managed_columns(c.oid)) AS u) AS managed,
       CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS of_type,
       -- the primary key, or the narrowest unique one that cannot be NULL
       (SELECT ARRAY(SELECT a.attname::text FROM unnest(k.numbers) WITH ORDINALITY AS u (number, o)
                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number ORDER BY o)
        -- without what it INCLUDEs
        FROM pg_index i CROSS JOIN LATERAL (SELECT i.indkey[0:i.indnkeyatts - 1]::smallint[] AS numbers) AS k
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND NOT EXISTS (SELECT FROM unnest(k.numbers) AS u (number)
                          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.number WHERE NOT a.attnotnull)
        ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass({relation})

-- name: slot_facts
SELECT view_columns, key_columns,
       pgvmig.present_names(relation, view_columns, view_numbers) AS present,
       pgvmig.present_names(relation, key_columns, key_numbers) AS present_key
FROM pgvmig.slot WHERE relation = {relation}::regclass AND slot = {slot}

-- name: key_operators
-- What compares the key's columns, in their order, named with its schema; nothing while there is no table yet.
SELECT pgvmig.equality(to_regclass({relation}), u.name) AS operator
FROM unnest({key}::text[]) WITH ORDINALITY AS u (name, i) ORDER BY u.i

-- name: version_facts
SELECT v.state, v.unfinished, v.fingerprint, v.adopted, v.layout, k.definition, v.vector_column, v.version_id_column,
       v.source_hash_column, v.embedded_at_column, n.nspname AS vector_table_schema, c.relname AS vector_table_name
FROM pgvmig.version v JOIN pgvmig.contract k ON k.fingerprint = v.fingerprint
LEFT JOIN pg_class c ON c.oid = v.vector_relation
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version}

-- name: column_type
SELECT format_type(a.atttypid, a.atttypmod) AS type, t.typname AS name, a.atttypmod AS dimensions
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = {relation}::regclass AND a.attname = {column} AND NOT a.attisdropped

-- name: other_dimensions
-- A vector that the contract has no room for, in a column that takes any.
SELECT found.dims FROM {table} AS d, LATERAL (SELECT {dims}(d.{column}) AS dims) AS found
WHERE found.dims <> {dimensions} LIMIT 1

-- name: lock_table
-- A lock that waits makes everybody behind it wait: short tries, and before any other lock is held.
SELECT pgvmig.execute_patiently({statement})

-- name: lock_statement
LOCK TABLE {table} IN {mode} MODE

-- name: add_columns
-- NULLable and without defaults, so that no row is rewritten; the check is validated later, without a lock. In the order
-- that wastes least on alignment: a row grows by 64 bytes instead of 72, and more of them find room on their page.
ALTER TABLE {table}
    ADD COLUMN {embedded_at} timestamptz,
    ADD COLUMN {version_id} integer,
    ADD COLUMN {source_hash} bytea,
    ADD COLUMN {vector} {type},
    ADD CONSTRAINT {check}
        CHECK (num_nonnulls({vector}, {version_id}, {source_hash}, {embedded_at}) IN (0, 4)) NOT VALID

-- name: create_vectors
-- The key as the row has it, with its types and collations; the table stays empty.
CREATE TABLE {vectors} AS
SELECT {key} FROM {table} AS d WITH NO DATA

-- name: complete_vectors
-- No foreign key to the row: writing would lock every row of the table that is embedded. A trigger on that table takes
-- the vectors of deleted rows away.
ALTER TABLE {vectors}
    ADD COLUMN {vector} {type} NOT NULL,
    ADD COLUMN {version_id} integer NOT NULL,
    ADD COLUMN {source_hash} bytea NOT NULL,
    ADD COLUMN {embedded_at} timestamptz NOT NULL DEFAULT now(),
    ADD PRIMARY KEY ({key})

-- name: comment_on_vectors
COMMENT ON TABLE {vectors} IS {comment}

-- name: add_provenance_columns
ALTER TABLE {table}
    ADD COLUMN {version_id} integer,
    ADD COLUMN {source_hash} bytea,
    ADD COLUMN {embedded_at} timestamptz

-- name: create_view
-- Typmod-free, so that the current view can be swapped across dimensions; the constants are the guard.
CREATE VIEW {view} WITH (security_invoker = true) AS
SELECT {columns}
FROM {table} AS d
WHERE d.{vector} IS NOT NULL

-- name: create_joined_view
-- A row without a vector is not in it, nor is a vector whose row is gone.
CREATE VIEW {view} WITH (security_invoker = true) AS
SELECT {columns}
FROM {table} AS d
JOIN {vectors} AS e ON {same_key}

-- name: view_vector_columns
{alias}.{vector}::{type} AS {slot},
    {version_text}::text AS {space},
    {model_text}::text AS {model},
    {model_version_text}::text AS {model_version},
    {alias}.{source_hash} AS {source_hash_as},
    {alias}.{embedded_at} AS {embedded_at_as}

-- name: add_version
SELECT pgvmig.add_version(
    relation => {relation}, slot => {slot}, version => {version},
    contract => {contract},
    view => {view}, view_columns => {view_columns}::text[], key_columns => {key_columns}::text[],
    vector_column => {vector}, version_id_column => {version_id},
    source_hash_column => {source_hash}, embedded_at_column => {embedded_at},
    object_name => {object_name}, layout => {layout}, adopted => {adopted}, writer => {writer},
    vector_relation => {vector_relation}
)

-- name: drop_version
SELECT pgvmig.drop_version({relation}, {version}, slot => {slot}, destroy => {destroy})

-- name: release_version
SELECT pgvmig.release_version({relation}, {version}, slot => {slot})

-- name: set_search
SELECT pgvmig.set_search({relation}, {version}, {search}::jsonb, slot => {slot}, reason => {reason})

-- name: refresh_views
SELECT pgvmig.refresh_views({relation}, slot => {slot})

-- What is looked at before the vectors of a column become a version's.

-- name: settings
-- For this transaction. Hidden rows must be an error; who waits for a table makes everybody behind wait as well. The input
-- is read as capture will read it: with the table's own schema in view.
SELECT set_config('row_security', 'off', true), set_config('lock_timeout', '5s', true),
       set_config('statement_timeout', '0', true),
       set_config('search_path', format('pg_catalog, %%I, pg_temp', %(table_schema)s::text), true)

-- name: check_input
SELECT pgvmig.check_input(%(relation)s::regclass, %(input)s)

-- name: vector_columns
-- The columns that could be adopted.
SELECT a.attname::text AS name
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = {relation}::regclass AND t.typname IN ('vector', 'halfvec') AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- name: indexes
-- Vector indexes that read the column; the operator class says what they rank by.
SELECT c.relname AS name, i.indexrelid::regclass::text AS qualified, i.indisvalid AS valid, o.opcname AS opclass
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = {column}
CROSS JOIN LATERAL unnest(i.indclass::oid[]) AS k (class) JOIN pg_opclass o ON o.oid = k.class
WHERE i.indrelid = {relation}::regclass AND o.opcname ~ '_(l2|ip|cosine|l1)_ops$'
  AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
              AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)
ORDER BY c.relname

-- name: lengths
-- Of some vectors on random pages: how long they are.
SELECT count(*) AS vectors, count(*) FILTER (WHERE n.norm < 1e-18) AS zero,
       count(*) FILTER (WHERE n.norm >= 1e-18 AND abs(n.norm - 1) > {tolerance}) AS wrong,
       min(n.norm) AS shortest, max(n.norm) AS longest
FROM (
    SELECT {norm}(d.{column}) AS norm
    FROM {table} AS d
         TABLESAMPLE SYSTEM (least(100, 100.0 * {pages} / greatest(pgvmig.pages({relation}::regclass), 1)))
    WHERE d.{column} IS NOT NULL LIMIT {limit}
) AS n

-- name: newest_look
SELECT (l).passed, (l).checks, (l).measured_at
FROM pgvmig.adoption_look({relation}::regclass, {column}, {fingerprint}) AS l
WHERE (l).look_id IS NOT NULL

-- name: require_passed_look
SELECT pgvmig.require_passed_look({relation}::regclass, {slot}, {version}, {column},
                                  pgvmig.adoption_look({relation}::regclass, {column}, {fingerprint}))

-- name: record_look
SELECT pgvmig.record_adoption_look(%(relation)s::regclass, %(column)s, %(fingerprint)s, %(passed)s, %(checks)s, %(reason)s,
                                   %(measured_at)s)

-- name: facts
-- What a sample needs to know of the table: its key with types, and columns that may tell which rows are of another model.
SELECT pgvmig.pages(c.oid) AS pages, coalesce(pgvmig.rows_estimated(c.oid), c.reltuples::bigint) AS rows,
       (SELECT a.attnotnull FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = %(column)s) AS not_null,
       ARRAY(SELECT a.attname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attname <> %(column)s AND a.attname <> ALL (%(read)s::text[])
               AND (t.typcategory IN ('B', 'D', 'E', 'N', 'S') OR t.typname = 'uuid')
             ORDER BY a.attnum LIMIT 40) AS telling,
       ARRAY(SELECT a.attname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND t.typcategory = 'D') AS dates
FROM pg_class c WHERE c.oid = %(relation)s::regclass

-- name: dimensions
-- How many vectors of which dimensions there are, in a column that takes any; by group where there are groups.
SELECT {dims}({alias}.{column}) AS dimensions, {group}::text AS value, count(*) AS vectors
FROM {table} AS {alias} WHERE {alias}.{column} IS NOT NULL
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2

-- name: groups
-- How many vectors each group has.
SELECT {group}::text AS value, count(*) AS vectors
FROM {table} AS {alias} WHERE {alias}.{column} IS NOT NULL
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(most)s

-- name: sample
-- Rows of random pages, so that nobody reads or sorts the whole table.
SELECT concat_ws(', ', {key}) AS key, ({input})::text AS input, {alias}.{column}::text AS vector,
       {norm}({alias}.{column}) AS norm, {group}::text AS value, ARRAY[{telling}]::text[] AS telling
FROM {table} AS {alias} TABLESAMPLE SYSTEM (%(percent)s)
WHERE {alias}.{column} IS NOT NULL
ORDER BY random() LIMIT %(limit)s

-- name: sample_groups
-- So many rows of every group: a small one would seldom be met by chance.
SELECT concat_ws(', ', {key}) AS key, ({input})::text AS input, {alias}.{column}::text AS vector,
       {norm}({alias}.{column}) AS norm, {group}::text AS value, ARRAY[{telling}]::text[] AS telling
FROM (
    SELECT n.leaf, n.place FROM (
        SELECT {alias}.tableoid AS leaf, {alias}.ctid AS place,
               row_number() OVER (PARTITION BY {group} ORDER BY random()) AS number
        FROM {table} AS {alias} WHERE {alias}.{column} IS NOT NULL
    ) AS n
    WHERE n.number <= %(each)s LIMIT %(limit)s
) AS picked
JOIN {table} AS {alias} ON {alias}.tableoid = picked.leaf AND {alias}.ctid = picked.place

-- name: without_vectors
-- Rows that have none yet.
SELECT count(*) FROM {table} AS {alias} WHERE {alias}.{column} IS NULL

-- name: pgai_vectorizer
-- What pgai has written down about the vectorizer that fills this table.
SELECT v.config #>> '{{embedding,model}}' AS model, (v.config #>> '{{embedding,dimensions}}')::integer AS dimensions,
       v.config #>> '{{chunking,implementation}}' AS chunking
FROM ai.vectorizer v
WHERE v.config #>> '{{destination,target_table}}' = %(table)s AND v.config #>> '{{destination,target_schema}}' = %(schema)s

-- name: langchain_collection
-- What people call a collection.
SELECT c.name FROM {collections} AS c WHERE c.uuid::text = %(uuid)s

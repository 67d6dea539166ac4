-- What autogenerate compares the models with. `visible`: the search_path finds it, so a model may name no schema.
-- Rows are read as jsonb where a column may be missing: the control schema may be older than this toolkit.

-- name: versions
-- Every version with its slot, and the index that it has where none is recorded. `shows_all`: the views show the whole row.
-- `renamed`: columns by the names that they had, and no other has by now.
SELECT n.nspname AS schema, c.relname AS table, pg_table_is_visible(c.oid) AS visible, s.slot, s.view_columns, s.key_columns,
       NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                     AND a.attnum <> ALL (s.view_numbers) AND a.attname <> ALL (s.view_columns)
                     AND a.attname <> ALL (pgvmig.managed_columns(c.oid))) AS shows_all,
       (SELECT coalesce(jsonb_object_agg(u.name, u.present), jsonb_build_object())
        FROM unnest(s.view_columns || s.left_out,
                    pgvmig.present_names(c.oid, s.view_columns || s.left_out, s.view_numbers || s.left_out_numbers))
             AS u (name, present)
        WHERE u.present <> u.name
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = u.name)) AS renamed,
       v.version, v.state, v.adopted, v.layout, k.definition, v.search, before.version AS activated_from,
       to_jsonb(v) -> 'index_plan' AS index_plan,
       (SELECT to_jsonb(i) FROM pgvmig.vector_indexes(v) i WHERE i.valid LIMIT 1) AS index,
       (SELECT e.revision FROM pgvmig.event e
        WHERE e.relation = pgvmig.label(v.relation, 'embedding') AND e.slot = v.slot AND e.version = v.version
          AND e.to_state = 'active' ORDER BY e.event_id DESC LIMIT 1) AS revision,
       v.vector_column,
       (SELECT e.revision FROM pgvmig.event e
        WHERE e.relation = pgvmig.label(v.relation, 'embedding') AND e.slot = v.slot AND e.version = v.version
          AND e.to_state = 'retired' ORDER BY e.event_id DESC LIMIT 1) AS retired_by
FROM pgvmig.version v
JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot
JOIN pgvmig.contract k ON k.fingerprint = v.fingerprint
JOIN pg_class c ON c.oid = v.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pgvmig.version before ON before.version_id = v.activated_from
ORDER BY v.version_id

-- name: own_objects
-- What belongs to versions, by the table that it is on; of a partitioned table also on its partitions. `adopted`: the
-- application made the column, and pgvmig looks after the vectors in it.
WITH live AS (
    SELECT v.*, p.relid::oid AS on_table
    FROM pgvmig.version v
    JOIN pg_class c ON c.oid = v.vector_relation
    CROSS JOIN LATERAL (SELECT c.oid::regclass AS relid UNION SELECT t.relid FROM pg_partition_tree(c.oid) t) AS p
    WHERE v.state <> 'retired' OR v.unfinished
), columns AS (
    SELECT l.on_table, a.attname, a.attnum, l.adopted AND a.attname = l.vector_column AS adopted
    FROM live l JOIN pg_attribute a ON a.attrelid = l.on_table
    WHERE a.attname IN (l.vector_column, l.version_id_column, l.source_hash_column, l.embedded_at_column)
), found AS (
    SELECT 'table' AS kind, l.on_table, NULL::name AS name, false AS adopted FROM live l WHERE l.vector_relation <> l.relation
    UNION ALL
    SELECT 'table', c.oid, NULL, false FROM pg_class c WHERE c.relnamespace = 'pgvmig'::regnamespace AND c.relkind IN ('r', 'p', 'v')
    UNION ALL
    SELECT 'table', l.view::oid, NULL, false FROM live l
    UNION ALL
    SELECT 'table', s.current_view::oid, NULL, false FROM pgvmig.slot s
    UNION ALL
    SELECT 'column', k.on_table, k.attname, k.adopted FROM columns k
    UNION ALL
    SELECT 'constraint', o.conrelid, o.conname, false
    FROM pg_constraint o JOIN columns k ON k.on_table = o.conrelid AND k.attnum = ANY (o.conkey) AND NOT k.adopted
    WHERE o.contype = 'c'
    UNION ALL
    SELECT 'index', k.on_table, i.relname, false
    FROM columns k
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid = k.on_table AND d.refobjsubid = k.attnum
    JOIN pg_class i ON i.oid = d.objid AND i.relkind IN ('i', 'I')
)
SELECT DISTINCT f.kind, n.nspname AS schema, c.relname AS table, pg_table_is_visible(c.oid) AS visible, f.name, f.adopted
FROM found f JOIN pg_class c ON c.oid = f.on_table JOIN pg_namespace n ON n.oid = c.relnamespace

-- name: table_facts
-- A table that is about to get its first version: its columns, a key, and the vector columns that it has.
SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
       (SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, o)
                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY o)
        FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND i.indnatts = i.indnkeyatts
          AND NOT EXISTS (SELECT FROM unnest(i.indkey::smallint[]) AS k (number)
                          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number WHERE NOT a.attnotnull)
        ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1) AS key,
       (SELECT coalesce(jsonb_object_agg(a.attname, jsonb_build_object('type', t.typname, 'dimensions', a.atttypmod)), '{{}}')
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND NOT a.attisdropped AND t.typname IN ('vector', 'halfvec')) AS vectors
FROM pg_class c WHERE c.oid = to_regclass({relation})

-- name: dependents
-- Columns that PostgreSQL will not let anybody drop or retype, because versions' views show them; `embeds`: or a version's
-- input reads them.
SELECT n.nspname AS schema, c.relname AS table, pg_table_is_visible(c.oid) AS visible, a.attname AS column,
       pgvmig.label(v.relation, v.slot) || ' ' || v.version AS version, bool_or(d.classid = 'pg_proc'::regclass) AS embeds
FROM pgvmig.version v
JOIN pg_class c ON c.oid = v.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
WHERE v.state <> 'retired'
  AND (d.classid = 'pg_rewrite'::regclass AND d.objid IN (SELECT r.oid FROM pg_rewrite r WHERE r.ev_class = v.view)
       OR d.classid = 'pg_proc'::regclass
          AND d.objid = to_regproc(format('pgvmig.%I', pgvmig.fit(v.object_name || '_input')))::oid)
GROUP BY 1, 2, 3, 4, 5, v.version_id
ORDER BY 1, 2, 4, v.version_id

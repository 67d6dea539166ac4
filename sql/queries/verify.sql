-- What `pgvmig verify` measures. d: the row, e: its vector in a table of its own; {alias} is where the vectors are.

-- name: settings
-- For this transaction. Hidden rows must be an error; who waits for a table makes everybody behind wait as well.
SELECT set_config('row_security', 'off', true), set_config('lock_timeout', '5s', true),
       set_config('statement_timeout', '0', true)

-- name: gates
-- The gates that there are.
SELECT substr(p.proname, 6) FROM pg_proc p
WHERE p.pronamespace = 'pgvmig'::regnamespace AND p.proname LIKE 'gate\_%'
ORDER BY 1

-- name: has_rows
SELECT EXISTS (SELECT FROM {table})

-- name: about
-- What evidence of these gates is about, and since when.
SELECT g.gate, pgvmig.evidence_about(v, g.gate), clock_timestamp()
FROM pgvmig.version v, unnest(%(gates)s::text[]) AS g (gate)
WHERE v.version_id = %(version_id)s

-- name: record
SELECT pgvmig.record_evidence(%(version_id)s, %(gate)s, %(passed)s, %(found)s, %(wanted)s, %(next)s, %(measured)s, %(about)s,
                              %(measured_at)s)

-- name: pages
-- How many pages the vectors are on.
SELECT pgvmig.end_of_pages(v.vector_relation)
FROM pgvmig.version v WHERE v.version_id = %(version_id)s

-- name: column_rows
{table} AS d {sample}

-- name: table_rows
{vectors} AS e {sample} JOIN {table} AS d ON {vector_is_row}

-- name: sample
-- Random pages, so that nobody reads or sorts the whole table.
TABLESAMPLE SYSTEM (%(percent)s)

-- name: walk
-- The vectors on some pages: of how many the hash is not that of the row's present text, though the row neither waits in
-- the log nor has an outcome for that text; and how many are not what the contract says. Up to five keys of each.
SELECT count(*) AS vectors,
       count(*) FILTER (WHERE r.unhashed) AS unhashed,
       count(*) FILTER (WHERE r.other_text) AS other_text,
       (array_agg(r.key) FILTER (WHERE r.other_text))[1:5] AS other_text_keys,
       count(*) FILTER (WHERE r.dimensions <> %(dimensions)s) AS wrong_dimensions,
       count(*) FILTER (WHERE NOT r.finite) AS not_finite,
       count(*) FILTER (WHERE r.finite AND r.norm < 1e-18) AS zero,
       count(*) FILTER (WHERE r.wrong_length) AS wrong_length,
       (array_agg(r.key) FILTER (WHERE r.dimensions <> %(dimensions)s OR NOT r.finite OR r.norm < 1e-18 OR r.wrong_length))[1:5]
           AS unsound_keys,
       min(r.norm) FILTER (WHERE r.finite) AS shortest,
       max(r.norm) FILTER (WHERE r.finite) AS longest
FROM (
    SELECT x.*, x.norm < 'Infinity' AS finite,
           %(normalized)s AND x.norm BETWEEN 1e-18 AND 1.7e308 AND abs(x.norm - 1) > %(tolerance)s AS wrong_length
    FROM (
        SELECT concat_ws(', ', {row_key}) AS key,
               {alias}.{source_hash} IS NULL AND %(adopted)s AS unhashed,
               CASE WHEN {alias}.{source_hash} = t.hash OR {alias}.{source_hash} IS NULL AND %(adopted)s THEN false
                    ELSE NOT EXISTS (SELECT FROM {stale} AS q WHERE {queued})
                         AND NOT EXISTS (SELECT FROM {outcome} AS o WHERE {recorded} AND o.source_hash = t.hash) END AS other_text,
               {vector_schema}.vector_dims({alias}.{vector}) AS dimensions,
               {vector_schema}.{norm}({alias}.{vector}) AS norm
        FROM {rows}
        CROSS JOIN LATERAL (SELECT pgvmig.source_hash({input}(d.*)) AS hash OFFSET 0) AS t
        WHERE {alias}.ctid >= %(first)s::tid AND {alias}.ctid < %(last)s::tid AND {alias}.{vector} IS NOT NULL
        OFFSET 0
    ) AS x
    OFFSET 0
) AS r

-- name: sample_vectors
SELECT {alias}.{vector}::text, {keys}
FROM {rows}
WHERE {alias}.{vector} IS NOT NULL
ORDER BY random() LIMIT %(limit)s

-- name: sample_texts
-- Rows with their text and the vector of that very text; of adopted vectors nobody knows which text it was.
SELECT concat_ws(', ', {row_key}), t.input, {alias}.{vector}::text
FROM {rows}
CROSS JOIN LATERAL (
    SELECT i.input, pgvmig.source_hash(i.input) AS hash FROM (SELECT {input}(d.*) AS input OFFSET 0) AS i OFFSET 0
) AS t
WHERE {alias}.{vector} IS NOT NULL
  AND ({alias}.{source_hash} = t.hash OR {alias}.{source_hash} IS NULL AND %(adopted)s)
ORDER BY random() LIMIT %(limit)s

-- name: valid_indexes
SELECT c.relname, i.method
FROM pgvmig.version v CROSS JOIN LATERAL pgvmig.vector_indexes(v) AS i CROSS JOIN LATERAL pgvmig.leaves(i.index) AS l
JOIN pg_class c ON c.oid = l
WHERE v.version_id = %(version_id)s AND i.valid

-- name: in_effect
SELECT current_setting(%(name)s, true)

-- name: exact
-- Every vector is compared: no index, whatever this session or role prefers.
SELECT set_config('enable_indexscan', 'off', true), set_config('enable_indexonlyscan', 'off', true),
       set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'on', true),
       set_config('enable_sort', 'on', true)

-- name: views
-- What a reader reads now, what is to take its place, the columns that both have beside the vector, and whether
-- row-level security may hide rows from some.
SELECT coalesce(o.oid::regclass, v.relation)::text AS old, o.oid IS NOT NULL AS is_view, v.view::text AS new,
       (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = v.relation)
           OR (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = v.vector_relation) AS rows_hidden,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = coalesce(o.oid, v.relation) AND a.attnum > 0 AND NOT a.attisdropped
             INTERSECT
             SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = v.view AND a.attnum > 0 AND NOT a.attisdropped
             ORDER BY 1) AS columns
FROM pgvmig.version v
JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot
LEFT JOIN pg_class o ON o.oid = s.current_view
WHERE v.version_id = %(version_id)s

-- name: readers
-- Who reads it, through a right of their own or one of everybody's. Those who see every row whatever is hidden from others
-- are no test of that.
SELECT r.rolname
FROM pg_roles r
WHERE NOT r.rolsuper AND NOT r.rolbypassrls AND r.rolname NOT LIKE 'pg\_%%'
  AND has_table_privilege(r.oid, %(old)s::regclass, 'SELECT')
ORDER BY r.rolname

-- name: reads
-- Whether the role can read these columns of it at all.
SELECT {columns} FROM {view} LIMIT 1

-- name: visible
SELECT count(*) FROM {view}

-- name: only_in_one
-- How many rows only the old one and only the new one shows, where nothing is hidden: not embedded in one of the two.
SELECT count(*) FILTER (WHERE new.here IS NULL) AS only_old, count(*) FILTER (WHERE old.here IS NULL) AS only_new
FROM (SELECT {old_keys}, true AS here FROM {old}) AS old
FULL JOIN (SELECT {new_keys}, true AS here FROM {new}) AS new ON {same}

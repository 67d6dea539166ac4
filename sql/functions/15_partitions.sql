-- A partitioned table has no pages, no statistics and no vector index of its own: its leaf partitions do. Whoever asks for
-- those asks here, and a plain table answers for itself.

-- The tables that hold a relation's rows, or the indexes that an index consists of.
CREATE OR REPLACE FUNCTION pgvmig.leaves(relation regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass FROM pg_class c WHERE c.oid = $1 AND c.relkind NOT IN ('p', 'I')
    UNION ALL
    SELECT t.relid FROM pg_class c CROSS JOIN LATERAL pg_partition_tree($1) t
    WHERE c.oid = $1 AND c.relkind IN ('p', 'I') AND t.isleaf
$$;

-- Whether rows can move from one partition to another, which is a DELETE here and an INSERT there.
CREATE OR REPLACE FUNCTION pgvmig.is_partitioned(relation regclass) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT FROM pg_class c WHERE c.oid = $1 AND c.relkind = 'p');

-- How many pages there are in all.
CREATE OR REPLACE FUNCTION pgvmig.pages(relation regclass) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(sum(pg_relation_size(l)), 0)::bigint / current_setting('block_size')::bigint FROM pgvmig.leaves($1) l
$$;

-- The number after the last page's. A range of TIDs covers the same pages of every leaf partition, so the longest counts.
CREATE OR REPLACE FUNCTION pgvmig.end_of_pages(relation regclass) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(max(pg_relation_size(l)), 0) / current_setting('block_size')::bigint FROM pgvmig.leaves($1) l
$$;

-- What it takes on disk with its indexes and TOAST tables.
CREATE OR REPLACE FUNCTION pgvmig.total_bytes(relation regclass) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(sum(pg_total_relation_size(l)), 0)::bigint FROM pgvmig.leaves($1) l
$$;

-- The planner's figure for how many rows a table has, scaled with its size; NULL where it has none yet. A partition
-- without a page has none, whether or not it was ever analyzed.
CREATE OR REPLACE FUNCTION pgvmig.rows_estimated(relation regclass) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN count(*) = count(e.rows) THEN sum(e.rows)::bigint END
    FROM pgvmig.leaves($1) l JOIN pg_class c ON c.oid = l
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.relpages > 0 AND c.reltuples >= 0
                    THEN (c.reltuples / c.relpages * pg_relation_size(c.oid) / current_setting('block_size')::integer)::bigint
                    WHEN c.relispartition AND pg_relation_size(c.oid) = 0 THEN 0 END AS rows) AS e
$$;

-- A partitioned table's leaf partitions as a set that can be compared, each with the file that holds its rows: a
-- partition that is attached, detached, dropped or truncated fires no trigger of the table's. Of a plain table, empty.
CREATE OR REPLACE FUNCTION pgvmig.partition_marks(relation regclass) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(c.oid || ':' || c.relfilenode ORDER BY c.oid), '{}')
    FROM pg_class p CROSS JOIN LATERAL pgvmig.leaves(p.oid) l JOIN pg_class c ON c.oid = l
    WHERE p.oid = $1 AND p.relkind = 'p'
$$;

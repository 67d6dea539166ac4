-- What somebody else's triggers and subscribers would feel of a version.

-- name: triggers
-- The user's own triggers and rules that an UPDATE of the given columns fires in an ordinary session. A trigger OF other
-- columns stays quiet; one with a WHEN condition may. Partitions can have row triggers of their own.
SELECT t.tgname AS name, t.tgfoid::regproc::text AS function,
       CASE WHEN t.tgtype & 2 <> 0 THEN 'BEFORE' ELSE 'AFTER' END AS moment,
       CASE WHEN t.tgtype & 1 <> 0 THEN 'ROW' ELSE 'STATEMENT' END AS level,
       substring(pg_get_triggerdef(t.oid) FROM ' WHEN \((.*)\) EXECUTE FUNCTION ') AS condition
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE (t.tgrelid = {relation}::regclass
       OR t.tgparentid = 0 AND t.tgtype & 1 <> 0 AND t.tgrelid IN (SELECT p.relid FROM pg_partition_tree({relation}::regclass) p))
  AND NOT t.tgisinternal AND n.nspname <> 'pgvmig'
  AND t.tgenabled IN ('O', 'A') AND t.tgtype & 16 <> 0
  AND (t.tgattr = '' OR EXISTS (SELECT FROM pg_attribute a
                                WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::smallint[])
                                  AND a.attname = ANY ({columns}::text[])))
UNION
SELECT r.rulename, 'rule', 'INSTEAD', 'STATEMENT', NULL
FROM pg_rewrite r WHERE r.ev_class = {relation}::regclass AND r.ev_type = '2' AND r.ev_enabled IN ('O', 'A')
ORDER BY 1

-- name: all_tables_publications
-- Asked before the control schema is there. They send its rows too, to subscribers that have no such schema.
SELECT pubname AS name FROM pg_publication WHERE puballtables ORDER BY pubname

-- name: publications
SELECT p.publication, p.scope, p.columns, p.publication = ANY (pgvmig.leaking_publications({relation}::regclass, 'column'))
       AS leaks_columns, p.publication = ANY (pgvmig.leaking_publications({relation}::regclass, 'table')) AS leaks_table
FROM pgvmig.publications({relation}::regclass) p

-- name: publication_advice
SELECT pgvmig.publication_advice({relation}::regclass, {version}, {slot}, {layout})

-- name: require_prepared_subscribers
-- Refuses to add to a published table what its subscribers do not have, unless somebody said that they do.
SELECT pgvmig.require_prepared_subscribers({relation}, {version}, {slot}, {layout}, prepared => {prepared})

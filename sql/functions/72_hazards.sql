-- What pgvmig's writes would do outside the table: subscribers that receive columns or tables which they do not have.

-- The publications that send a table's changes, and how: by its name (then perhaps with a column list), by the name or
-- schema of a partition, with its schema, or with all tables. `only_table`: the publication names no other one.
CREATE OR REPLACE FUNCTION pgvmig.publications(relation regclass)
RETURNS TABLE (publication text, scope text, columns text[], condition text, only_table boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.pubname::text, 'table',
           ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum = ANY (r.prattrs::smallint[])
                 ORDER BY a.attnum),
           pg_get_expr(r.prqual, r.prrelid),
           NOT EXISTS (SELECT FROM pg_publication_rel o WHERE o.prpubid = p.oid AND o.prrelid <> $1)
           AND NOT EXISTS (SELECT FROM pg_publication_namespace o WHERE o.pnpubid = p.oid)
    FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = $1
    UNION ALL
    SELECT DISTINCT p.pubname::text, 'partition',
           ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::smallint[])
                 ORDER BY a.attname),
           NULL, false
    FROM pg_partition_tree($1) t JOIN pg_publication_rel r ON r.prrelid = t.relid JOIN pg_publication p ON p.oid = r.prpubid
    WHERE t.relid <> $1
    UNION ALL
    SELECT p.pubname::text, 'schema', '{}', NULL, false
    FROM pg_publication p JOIN pg_publication_namespace n ON n.pnpubid = p.oid
    JOIN pg_class c ON c.relnamespace = n.pnnspid AND c.oid = $1
    UNION ALL
    SELECT DISTINCT p.pubname::text, 'partition', '{}'::text[], NULL, false
    FROM pg_partition_tree($1) t JOIN pg_class c ON c.oid = t.relid
    JOIN pg_publication_namespace n ON n.pnnspid = c.relnamespace JOIN pg_publication p ON p.oid = n.pnpubid
    WHERE n.pnnspid <> (SELECT r.relnamespace FROM pg_class r WHERE r.oid = $1)
    UNION ALL
    SELECT p.pubname::text, 'all tables', '{}', NULL, false FROM pg_publication p WHERE p.puballtables
    ORDER BY 1
$$;

-- Those publications through which what a version adds would reach subscribers: columns, where no column list keeps them
-- back; the side table of layout 'table', where its schema or all tables are published.
CREATE OR REPLACE FUNCTION pgvmig.leaking_publications(relation regclass, layout text) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(DISTINCT p.publication ORDER BY p.publication), '{}') FROM pgvmig.publications($1) p
    WHERE p.columns = '{}' AND (p.scope IN ('schema', 'all tables') OR $2 = 'column')
$$;

-- How a publication is made to send the columns that the table has now and no others. Two statements in one transaction
-- where it publishes other tables: SET TABLE would drop those from it. NULL where PostgreSQL takes no column list: of a
-- partitioned table only with publish_via_partition_root.
CREATE OR REPLACE FUNCTION pgvmig.column_list_statement(relation regclass, publication text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(CASE WHEN p.only_table THEN 'ALTER PUBLICATION %1$I SET TABLE %2$s (%3$s)%4$s'
                       ELSE 'BEGIN; ALTER PUBLICATION %1$I DROP TABLE %2$s; '
                            'ALTER PUBLICATION %1$I ADD TABLE %2$s (%3$s)%4$s; COMMIT' END,
                  $2, $1,
                  (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                   WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                     AND a.attname <> ALL (pgvmig.managed_columns($1))),
                  ' WHERE (' || p.condition || ')')
    FROM pgvmig.publications($1) p JOIN pg_publication b ON b.pubname = p.publication
    WHERE p.publication = $2 AND p.scope = 'table'
      AND (b.pubviaroot OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = $1 AND c.relkind = 'p'))
$$;

-- What to do so that a version can be added to a published table.
CREATE OR REPLACE FUNCTION pgvmig.publication_advice(relation regclass, version text, slot text, layout text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(', or ',
        CASE WHEN layout = 'column' AND pgvmig.leaking_publications($1, 'table') = '{}'
             THEN 'layout="table", whose side table is not published' END,
        -- A column list must cover the replica identity, which is then every column.
        CASE WHEN layout = 'column' AND (SELECT c.relreplident FROM pg_class c WHERE c.oid = $1) <> 'f'
                  AND pgvmig.leaking_publications($1, 'table') = '{}'
             THEN (SELECT CASE WHEN count(s.statement) = count(*) THEN string_agg(s.statement, '; ' ORDER BY s.i) END
                   FROM (SELECT pgvmig.column_list_statement($1, u.name) AS statement, u.i
                         FROM unnest(pgvmig.leaking_publications($1, layout)) WITH ORDINALITY AS u (name, i)) AS s) END,
        CASE WHEN pgvmig.leaking_publications($1, 'table') <> '{}'
             THEN 'publish the tables by name instead' END,
        format('prepare the subscribers (%s), then alembic -x pgvmig_published=%s.%s upgrade ...',
               CASE layout WHEN 'table' THEN 'the same side table there'
                           ELSE 'the same columns there' END, pgvmig.label($1, $3), $2))
$$;

-- A subscriber that lacks a column or table which it is sent stops, with this server's WAL piling up behind it. Whoever
-- adds one says first that subscribers have it. Raises PV009.
CREATE OR REPLACE FUNCTION pgvmig.require_prepared_subscribers(
    relation regclass, version text, slot text DEFAULT 'embedding', layout text DEFAULT 'column',
    prepared boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    leaking text[] := pgvmig.leaking_publications($1, $4);
BEGIN
    IF prepared OR leaking = '{}' THEN
        RETURN;
    ELSIF EXISTS (SELECT FROM pgvmig.version x
                  WHERE x.relation = $1 AND x.version = $2 AND x.slot = $3 AND x.state <> 'retired') THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '% is published by % without a column list', pgvmig.label($1, 'embedding'),
        (SELECT string_agg(p.publication || CASE p.scope WHEN 'schema' THEN ' (FOR TABLES IN SCHEMA)'
                                                         WHEN 'all tables' THEN ' (FOR ALL TABLES)' ELSE '' END, ', ')
         FROM pgvmig.publications($1) p WHERE p.publication = ANY (leaking) AND p.columns = '{}')
        USING ERRCODE = 'PV009',
              DETAIL = format('Subscribers lack the %s that %s %s adds: at the next change they stop ("%s"), and their '
                              'slots keep this server''s WAL until its disk is full.',
                              CASE $4 WHEN 'table' THEN 'side table' ELSE 'columns' END, pgvmig.label($1, $3), $2,
                              CASE $4 WHEN 'table' THEN 'target relation does not exist'
                                      ELSE 'is missing replicated column' END),
              HINT = pgvmig.publication_advice($1, $2, $3, $4);
END
$$;

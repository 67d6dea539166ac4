-- Whether this database still is the one that its versions were added in. A dump carries the control tables along: a copy
-- of production would pay for production's vectors a second time, and column numbers differ in it. So a copy begins paused,
-- no verb runs in it, and `pgvmig resume` settles it.

-- Which database of which cluster this is. A promoted standby is the same. The table's OID tells a restored database that
-- got the OID of the old one.
CREATE OR REPLACE FUNCTION pgvmig.whereabouts() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s/%s/%s', (SELECT system_identifier FROM pg_control_system()), d.oid, 'pgvmig.installation'::regclass::oid)
    FROM pg_database d WHERE d.datname = current_database()
$$;

CREATE OR REPLACE FUNCTION pgvmig.is_copy() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pgvmig.installation i WHERE i.home <> pgvmig.whereabouts())
$$;

-- Whether column numbers are those of another table: a restored one has no gaps where columns were dropped. Of a database
-- that was copied file by file (CREATE DATABASE, pg_upgrade) they are right.
CREATE OR REPLACE FUNCTION pgvmig.was_restored() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pgvmig.installation i
                   WHERE split_part(i.home, '/', 3) <> 'pgvmig.installation'::regclass::oid::text)
$$;

-- Every verb begins with this.
CREATE OR REPLACE FUNCTION pgvmig.require_home() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pgvmig.is_copy() THEN
        RAISE EXCEPTION 'this database is a copy of the one that its versions were added in'
            USING ERRCODE = 'PV005',
                  DETAIL = 'It was restored from a dump, made from a template, or upgraded: leases, standbys and column numbers '
                           || 'are those of the other one.',
                  HINT = 'pgvmig resume settles it; until then its workers are paused';
    END IF;
END
$$;

-- All that pauses workers: what somebody said, and that this is a copy.
CREATE OR REPLACE FUNCTION pgvmig.all_pauses()
RETURNS TABLE (relation regclass, slot text, version text, paused_at timestamptz, paused_by text, reason text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.relation, p.slot, p.version, p.paused_at, p.paused_by, p.reason FROM pgvmig.pause p
    UNION ALL
    SELECT NULL, NULL, NULL, now(), 'pgvmig', 'this database is a copy of the one that its versions were added in'
    WHERE pgvmig.is_copy()
$$;

-- The numbers of a table's columns that a view's query or a function reads, in ascending order.
CREATE OR REPLACE FUNCTION pgvmig.columns_read_by(class regclass, object oid, relation regclass) RETURNS smallint[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(DISTINCT d.refobjsubid::smallint ORDER BY d.refobjsubid::smallint), '{}')
    FROM pg_depend d
    WHERE d.classid = class AND d.objid = object AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relation
      AND d.refobjsubid > 0
$$;

-- Old numbers in terms of the new ones: a dump keeps the columns' order, and a view or function that was restored with the
-- table says which columns are meant, renamed or not. NULL where they are not as many.
CREATE OR REPLACE FUNCTION pgvmig.renumbered(numbers smallint[], present smallint[]) RETURNS smallint[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH ranked AS (
        SELECT u.number, dense_rank() OVER (ORDER BY u.number) AS rank
        FROM unnest(numbers) AS u (number) WHERE u.number > 0 GROUP BY u.number
    )
    SELECT CASE WHEN (SELECT count(*) FROM ranked) = cardinality(present) THEN
               (SELECT array_agg(coalesce(present[r.rank], 0) ORDER BY u.i)
                FROM unnest(numbers) WITH ORDINALITY AS u (number, i) LEFT JOIN ranked r ON r.number = u.number) END
$$;

-- Put a slot's column numbers right in a restored database. Without a version that is followed, names are all there is.
CREATE OR REPLACE FUNCTION pgvmig.renumber_slot(s pgvmig.slot) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    by_name CONSTANT text := 'SELECT array_agg(coalesce(a.attnum, 0::smallint) ORDER BY u.i) '
        'FROM unnest(pgvmig.present_names($1, $2, $3)) WITH ORDINALITY AS u (name, i) '
        'LEFT JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = u.name AND a.attnum > 0 AND NOT a.attisdropped';
    v pgvmig.version;
    keys smallint[];
    shown smallint[];
    read smallint[];
BEGIN
    SELECT x.* INTO v FROM pgvmig.version x JOIN pg_class c ON c.oid = x.view
    WHERE x.relation = s.relation AND x.slot = s.slot AND x.state <> 'retired' ORDER BY x.version_id LIMIT 1;
    keys := pgvmig.renumbered(s.key_numbers, (
        SELECT pgvmig.columns_read_by('pg_proc', p.oid, s.relation) FROM pg_proc p
        WHERE p.pronamespace = 'pgvmig'::regnamespace AND p.proname = pgvmig.fit(v.object_name || '_mark')));
    IF keys IS NULL THEN
        EXECUTE by_name INTO keys USING s.relation, s.key_columns, s.key_numbers;
    END IF;
    -- the view also reads the vector and its provenance, and of a table of vectors the key that it is joined by
    SELECT array_agg(n ORDER BY n) INTO read
    FROM pg_rewrite r, unnest(pgvmig.columns_read_by('pg_rewrite', r.oid, s.relation)) AS n
    WHERE r.ev_class = v.view AND r.rulename = '_RETURN'
      AND n NOT IN (SELECT a.attnum FROM pg_attribute a
                    WHERE a.attrelid = s.relation AND v.vector_relation = s.relation
                      AND a.attname IN (v.vector_column, v.source_hash_column, v.embedded_at_column))
      AND n NOT IN (SELECT k.now FROM unnest(s.key_numbers, keys) AS k (before, now)
                    WHERE v.layout = 'table' AND k.before <> ALL (s.view_numbers));
    shown := pgvmig.renumbered(s.view_numbers, read);
    IF shown IS NULL THEN
        EXECUTE by_name INTO shown USING s.relation, s.view_columns, s.view_numbers;
    END IF;
    UPDATE pgvmig.slot x SET key_numbers = keys, view_numbers = shown WHERE x.relation = s.relation AND x.slot = s.slot;
    UPDATE pgvmig.version x SET input_numbers = coalesce(pgvmig.renumbered(x.input_numbers, pgvmig.columns_read_by('pg_proc', p.oid, s.relation)),
                                                        x.input_numbers)
    FROM pg_proc p
    WHERE x.relation = s.relation AND x.slot = s.slot AND p.pronamespace = 'pgvmig'::regnamespace
      AND p.proname = pgvmig.fit(x.object_name || '_input');
END
$$;

-- A copy becomes a database of its own. What is about the other one goes: leases, runs, where the walk was, readings of
-- its indexes; in another cluster also which standbys it has, which is declared and never inferred. Whether it was a copy.
CREATE OR REPLACE FUNCTION pgvmig.settle_copy() RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    home text := (SELECT i.home FROM pgvmig.installation i FOR UPDATE);
    elsewhere boolean := split_part(home, '/', 1) <> split_part(pgvmig.whereabouts(), '/', 1);
BEGIN
    IF NOT pgvmig.is_copy() THEN
        RETURN false;
    END IF;
    IF pgvmig.was_restored() THEN
        PERFORM pgvmig.renumber_slot(s) FROM pgvmig.slot s JOIN pg_class c ON c.oid = s.relation;
    END IF;
    DELETE FROM pgvmig.lease;
    DELETE FROM pgvmig.index_reading;
    UPDATE pgvmig.follower SET until = '-infinity';
    UPDATE pgvmig.backfill SET pass = 0, next_block = 0, end_block = 0, found_in_pass = 0, walked = false;
    UPDATE pgvmig.backfill_run SET ended_at = seen_at, ended_why = 'was of the database that this one was copied from', waiting = NULL
    WHERE ended_at IS NULL;
    IF elsewhere THEN
        DELETE FROM pgvmig.standby;
    END IF;
    UPDATE pgvmig.installation i SET home = pgvmig.whereabouts(), no_standbys = i.no_standbys AND NOT elsewhere;
    INSERT INTO pgvmig.event (source, verb, detail)
    VALUES (coalesce(nullif(current_setting('pgvmig.source', true), ''), 'sql'), 'settle copy',
            jsonb_build_object('from', home, 'to', pgvmig.whereabouts(), 'other_cluster', elsewhere));
    RETURN true;
END
$$;

REVOKE ALL ON FUNCTION pgvmig.renumber_slot, pgvmig.settle_copy FROM PUBLIC;

-- Retire: a version's vectors go, its contract and events stay. Three steps, so that no lock is held for long and nothing is
-- lost on the way to a refusal: first, in a short transaction, everything is checked, the version is retired and nothing
-- follows the table for it any more (begin_retire, the point of no return); then its indexes are dropped CONCURRENTLY;
-- then its columns or its table (finish_retire). Were the indexes dropped first, a lock that is not to be had would leave
-- a way back whose searches read the whole table. Killed anywhere, it is `unfinished` and goes on when it is run again.

-- What nobody may retire, or read no more, however long it was left: where searches go.
CREATE OR REPLACE FUNCTION pgvmig.require_left(v pgvmig.version) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target text := pgvmig.label(v.relation, v.slot);
    share record;
BEGIN
    IF v.state = 'active' THEN
        RAISE EXCEPTION '% % is active: searches go there', target, v.version
            USING ERRCODE = 'PV004', HINT = 'cut over to another version first';
    END IF;
    SELECT c.* INTO share FROM pgvmig.candidate(v.relation, v.slot) c WHERE c.version_id = v.version_id;
    IF share.version_id IS NOT NULL THEN
        RAISE EXCEPTION '% % still serves % percent of the keys and % by name', target, v.version, share.percent,
            cardinality(share.keys)
            USING ERRCODE = 'PV004', DETAIL = 'Their searches would fail.', HINT = format('pgvmig route %s --off', target);
    END IF;
END
$$;

-- The columns that go with a version. An adopted vector is the application's own and stays.
CREATE OR REPLACE FUNCTION pgvmig.own_columns(v pgvmig.version) RETURNS text[]
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN v.adopted THEN '{}' ELSE ARRAY[v.vector_column] END
       || ARRAY[v.version_id_column, v.source_hash_column, v.embedded_at_column];

-- What PostgreSQL would not let go without CASCADE: what depends on the version's view, on its columns or on its table, and
-- is not pgvmig's own.
CREATE OR REPLACE FUNCTION pgvmig.dependents(v pgvmig.version) RETURNS TABLE (on_what text, dependent text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH going AS (
        SELECT c.oid, c.reltype, NULL::smallint AS number, format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = v.view OR v.layout = 'table' AND c.oid = v.vector_relation
        UNION ALL
        SELECT a.attrelid, NULL, a.attnum, format('%I.%I.%I', n.nspname, c.relname, a.attname)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE v.layout = 'column' AND a.attrelid = v.vector_relation AND a.attname = ANY (pgvmig.own_columns(v))
    )
    SELECT g.name, string_agg(DISTINCT CASE WHEN r.oid IS NOT NULL THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0)
                                            ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END, ', ')
    FROM going g
    JOIN pg_depend d ON d.deptype = 'n' AND (
        d.refclassid = 'pg_class'::regclass AND d.refobjid = g.oid AND (g.number IS NULL OR d.refobjsubid = g.number)
        OR d.refclassid = 'pg_type'::regclass AND d.refobjid = g.reltype)
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    WHERE coalesce(r.ev_class, 0) NOT IN (coalesce(v.view, 0), g.oid)
      -- what goes with it: a check, an index, the policy of a table of vectors
      AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.classid AND x.objid = d.objid AND x.deptype IN ('a', 'i')
                        AND x.refclassid = 'pg_class'::regclass AND x.refobjid = g.oid
                        AND (g.number IS NULL OR x.refobjsubid = g.number))
      AND NOT (d.classid = 'pg_proc'::regclass AND EXISTS (
          SELECT FROM pg_proc p WHERE p.oid = d.objid AND p.pronamespace = 'pgvmig'::regnamespace))
      AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (
          SELECT FROM pg_trigger t WHERE t.oid = d.objid AND t.tgname IN (SELECT o.name FROM pgvmig.triggers_of(v) o)))
    GROUP BY g.oid, g.number, g.name ORDER BY g.number NULLS FIRST, g.oid
$$;

-- What must hold before a version is retired and cannot be skipped.
CREATE OR REPLACE FUNCTION pgvmig.require_retirable(v pgvmig.version) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    used text;
BEGIN
    PERFORM pgvmig.require_left(v);
    used := (SELECT string_agg(format('%s is still used by %s', d.on_what, d.dependent), '; ') FROM pgvmig.dependents(v) d);
    IF used IS NOT NULL THEN
        RAISE EXCEPTION '%', used USING ERRCODE = 'PV004', HINT = 'point them at the current view, then retire';
    END IF;
END
$$;

-- The gates of retiring, or PV002.
CREATE OR REPLACE FUNCTION pgvmig.require_retire_gates(v pgvmig.version, soak interval, skip text[], reason text) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_skippable(skip, reason, ARRAY['soak', 'unused']);
    RETURN pgvmig.require_passed(v, ARRAY(SELECT g FROM pgvmig.check_retire_gates(v.version_id, soak) AS g), skip,
                                 'is not to be retired yet');
END
$$;

-- What retiring gives back, and what it does not: `index_bytes` and `table_bytes` go back to the disk at once;
-- `held_bytes`, estimated from a sample of pages, is what the dropped columns leave in the rows and their TOAST table, used
-- again as rows are updated. `whole_bytes` is what rewriting the table would have to copy.
CREATE OR REPLACE FUNCTION pgvmig.space_of(v pgvmig.version) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    index_bytes bigint := (SELECT coalesce(sum(pg_relation_size(l)), 0) FROM pgvmig.vector_indexes(v) i,
                           pgvmig.leaves(i.index) l);
    pages double precision := pgvmig.pages(v.vector_relation);
    percent double precision := least(100, 100 * 2000 / greatest(pages, 1));
    held bigint := 0;
BEGIN
    IF v.layout = 'column' THEN
        EXECUTE format('SELECT coalesce(sum(%s), 0) * 100 / %s FROM %s AS x TABLESAMPLE SYSTEM (%s)',
                       (SELECT string_agg(format('coalesce(pg_column_size(x.%I), 0)', c), ' + ')
                        FROM unnest(pgvmig.own_columns(v)) AS c), percent, v.vector_relation, percent)
        INTO held;
    END IF;
    RETURN jsonb_build_object(
        'index_bytes', CASE WHEN v.adopted THEN 0 ELSE index_bytes END,
        'table_bytes', CASE WHEN v.layout = 'table' THEN pgvmig.total_bytes(v.vector_relation) - index_bytes ELSE 0 END,
        'held_bytes', held,
        'whole_bytes', CASE WHEN v.layout = 'column' THEN pgvmig.total_bytes(v.vector_relation)
                                 - CASE WHEN v.adopted THEN 0 ELSE index_bytes END ELSE 0 END,
        'kept_column', CASE WHEN v.adopted THEN v.vector_column END);
END
$$;

-- The end of following the table: triggers, queue and view. Never CASCADE. After lock_for_removal.
CREATE OR REPLACE FUNCTION pgvmig.stop_following(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.ungrant_version(v), pgvmig.drop_capture(v);
    IF v.view IS NOT NULL AND EXISTS (SELECT FROM pg_class c WHERE c.oid = v.view) THEN
        EXECUTE format('DROP VIEW %s', v.view);
    END IF;
END
$$;

-- The columns or the table that pgvmig made. Never CASCADE.
CREATE OR REPLACE FUNCTION pgvmig.drop_vectors(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF v.layout = 'column' THEN
        PERFORM pgvmig.execute_patiently((
            SELECT format('ALTER TABLE %s %s', v.vector_relation, string_agg(format('DROP COLUMN IF EXISTS %I', c), ', '))
            FROM unnest(pgvmig.own_columns(v)) AS c));
    ELSIF EXISTS (SELECT FROM pg_class c WHERE c.oid = v.vector_relation) THEN
        PERFORM pgvmig.execute_patiently(format('DROP TABLE %s', v.vector_relation));
    END IF;
END
$$;

-- Take a version off its table, all at once. After lock_for_removal.
CREATE OR REPLACE FUNCTION pgvmig.take_down(v pgvmig.version) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pgvmig.stop_following(v);
    SELECT pgvmig.drop_vectors(v)
$$;

-- Whether dropping its vectors would be refused: PostgreSQL judges, and nothing happens. The catalog's dependencies have more
-- kinds than pgvmig.dependents() can name, and after the point of no return it is too late for a refusal.
CREATE OR REPLACE FUNCTION pgvmig.try_dropping(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    complaint text;
    dependents text;
BEGIN
    PERFORM pgvmig.drop_vectors(v);
    RAISE EXCEPTION USING ERRCODE = 'PVTRY', MESSAGE = 'it can be done';
EXCEPTION
    WHEN SQLSTATE 'PVTRY' THEN
        RETURN;
    WHEN dependent_objects_still_exist OR feature_not_supported OR invalid_table_definition OR object_in_use THEN
        GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT, dependents = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION '%', concat_ws(': ', complaint, nullif(replace(dependents, E'\n', '; '), ''))
            USING ERRCODE = 'PV004', HINT = 'drop or change what uses it, then retire';
END
$$;

-- The point of no return, in a short transaction: everything is checked, then the version is retired.
CREATE OR REPLACE FUNCTION pgvmig.begin_retire(
    relation regclass, version text, slot text DEFAULT 'embedding', soak interval DEFAULT '24 h', skip text[] DEFAULT '{}',
    reason text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version;
    outcome jsonb;
BEGIN
    PERFORM pgvmig.lock_slot($1, $3);  -- nobody switches meanwhile
    v := pgvmig.find_version($1, $2, $3);
    IF v.state = 'retired' THEN
        RETURN jsonb_build_object('changed', v.unfinished, 'version', v.version);
    END IF;
    PERFORM pgvmig.require_retirable(v);
    outcome := jsonb_build_object('changed', true, 'version', v.version, 'soak_seconds', extract(epoch FROM soak),
                                  'skipped', to_jsonb(skip), 'gates', pgvmig.require_retire_gates(v, soak, skip, reason))
               || pgvmig.space_of(v);
    PERFORM pgvmig.lock_for_removal(v, false);
    PERFORM pgvmig.begin_verb('retire', reason, outcome);
    PERFORM pgvmig.stop_following(v);
    PERFORM pgvmig.try_dropping(v);
    DELETE FROM pgvmig.revoked_view r WHERE r.version_id = v.version_id;
    UPDATE pgvmig.version x SET state = 'retired', unfinished = true, view = NULL WHERE x.version_id = v.version_id;
    PERFORM pgvmig.end_verb();
    RETURN outcome;
END
$$;

-- The last step, after the indexes. Returns what begin_retire said.
CREATE OR REPLACE FUNCTION pgvmig.finish_retire(relation regclass, version text, slot text DEFAULT 'embedding') RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
BEGIN
    PERFORM pgvmig.lock_slot($1, $3);
    v := pgvmig.find_version($1, $2, $3);
    IF NOT v.unfinished THEN
        RETURN jsonb_build_object('changed', false, 'version', v.version);
    END IF;
    PERFORM pgvmig.drop_vectors(v);
    UPDATE pgvmig.version x SET unfinished = false, vector_relation = x.relation WHERE x.version_id = v.version_id;
    RETURN (SELECT e.detail FROM pgvmig.event e
            WHERE e.relation = pgvmig.label($1, 'embedding') AND e.slot = $3 AND e.version = $2 AND e.to_state = 'retired'
            ORDER BY e.event_id DESC LIMIT 1);
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION '% % is retired, and what it left is locked by somebody', pgvmig.label($1, $3), $2
        USING ERRCODE = 'lock_not_available',
              HINT = 'run this again: it goes on with what is left; pg_blocking_pids and pg_stat_activity say who holds the lock';
END
$$;

-- All steps in one transaction, for psql. Its indexes go with the columns, and not CONCURRENTLY: "pgvmig retire" and
-- op.retire_embedding do that.
CREATE OR REPLACE FUNCTION pgvmig.retire(
    relation regclass, version text, slot text DEFAULT 'embedding', soak interval DEFAULT '24 h', skip text[] DEFAULT '{}',
    reason text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outcome jsonb := pgvmig.begin_retire($1, $2, $3, $4, $5, $6);
BEGIN
    RETURN CASE WHEN (outcome ->> 'changed')::boolean THEN pgvmig.finish_retire($1, $2, $3) ELSE outcome END;
END
$$;

REVOKE ALL ON FUNCTION
    pgvmig.begin_retire, pgvmig.finish_retire, pgvmig.retire, pgvmig.stop_following, pgvmig.drop_vectors,
    pgvmig.try_dropping, pgvmig.take_down
FROM PUBLIC;

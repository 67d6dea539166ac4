-- Keep which index a version is to have, NULL: none. Returns whether that is another one than before.
CREATE OR REPLACE FUNCTION pgvmig.plan_index(relation regclass, version text, plan jsonb, slot text DEFAULT 'embedding')
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version := pgvmig.find_version($1, $2, $4);
BEGIN
    IF v.state = 'retired' AND plan IS NOT NULL THEN
        RAISE EXCEPTION '% % is retired', pgvmig.label($1, $4), $2
            USING ERRCODE = 'PV004', HINT = 'op.add_embedding() adds it again, empty';
    ELSIF v.index_plan IS NOT DISTINCT FROM plan THEN
        RETURN false;
    END IF;
    UPDATE pgvmig.version x SET index_plan = plan WHERE x.version_id = v.version_id;
    PERFORM pgvmig.record_event(v, 'index', NULL, jsonb_build_object('before', v.index_plan, 'plan', plan));
    RETURN true;
END
$$;

-- Whether a version has so many of its vectors that its index is worth building: all but a tenth.
CREATE OR REPLACE FUNCTION pgvmig.is_backfilled(relation regclass, version text, slot text DEFAULT 'embedding')
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    -- a retired version has nothing that could be counted
    SELECT CASE WHEN v.state = 'retired' THEN false
                ELSE (SELECT c.missing + c.missing_recent <= c.total / 10.0 FROM pgvmig.coverage(v.version_id) AS c) END
    FROM pgvmig.find_version($1, $2, $3) AS v
$$;

-- An index that is there before the vectors makes every one of them pay for its place in the graph: build it after the
-- backfill. Raises PV002 while more than a tenth of the rows has no vector.
CREATE OR REPLACE FUNCTION pgvmig.require_backfilled(relation regclass, version text, slot text DEFAULT 'embedding')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version := pgvmig.find_version($1, $2, $3);
    c record;
BEGIN
    IF v.state = 'retired' THEN
        RAISE EXCEPTION '% % is retired', pgvmig.label($1, $3), $2
            USING ERRCODE = 'PV004', HINT = 'op.add_embedding() adds it again, empty';
    END IF;
    SELECT * INTO c FROM pgvmig.coverage(v.version_id);
    IF c.missing + c.missing_recent > c.total / 10.0 THEN
        RAISE EXCEPTION '% % is not ready for its index: % of % rows have no vector', pgvmig.label($1, $3), $2,
            pgvmig.figure(c.missing + c.missing_recent), pgvmig.figure(c.total)
            USING ERRCODE = 'PV002',
                  HINT = CASE v.writer WHEN 'worker' THEN format('pgvmig backfill %s %s', pgvmig.label($1, $3), $2)
                         ELSE format('its application writes them; to build it now, alembic -x pgvmig_early_index=%s.%s',
                                     pgvmig.label($1, $3), $2) END;
    END IF;
END
$$;

-- Raises when the index of a version must stay: on the way down op.drop_embedding() comes next, and where that is refused the
-- index would be gone by then, dropped outside any transaction. What a version without vectors loses is built in no time.
CREATE OR REPLACE FUNCTION pgvmig.require_droppable_index(
    relation regclass, version text, slot text DEFAULT 'embedding', destroy boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
    successor text;
    name text := format('%s %s', pgvmig.label($1, $3), $2);
    told text := format('alembic -x pgvmig_drop_index=%s.%s', pgvmig.label($1, $3), $2);
BEGIN
    SELECT x.* INTO v FROM pgvmig.version x WHERE x.relation = $1 AND x.version = $2 AND x.slot = $3;
    IF NOT pgvmig.has_vectors(v) THEN
        RETURN;
    END IF;
    successor := pgvmig.way_back_from(v);
    IF v.state = 'active' THEN
        RAISE EXCEPTION '% is active, its index is not dropped', name
            USING ERRCODE = 'PV004', DETAIL = 'Every search would compare all vectors, one by one.',
                  HINT = format('pgvmig rollback %s; or to search without an index, %s', pgvmig.label($1, $3), told);
    ELSIF successor IS NOT NULL THEN
        RAISE EXCEPTION '% is the way back from %, its index is not dropped', name, successor
            USING ERRCODE = 'PV004', DETAIL = 'After a rollback every search would compare all vectors, one by one.',
                  HINT = format('op.retire_embedding drops it with the vectors; or to drop the index alone, %s', told);
    ELSIF NOT destroy THEN
        RAISE EXCEPTION '% has vectors, its index is not dropped', name
            USING ERRCODE = 'PV007',
                  DETAIL = 'To drop the version as well would be refused, and the index would be gone by then.',
                  HINT = format('alembic -x pgvmig_drop=%s.%s downgrade ... drops both; for the index alone, %s',
                                pgvmig.label($1, $3), $2, told);
    END IF;
END
$$;

-- An interrupted CREATE INDEX CONCURRENTLY leaves an invalid index, on which IF NOT EXISTS succeeds.
CREATE OR REPLACE FUNCTION pgvmig.require_valid_index(index regclass) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = $1 AND i.indisvalid AND i.indisready) THEN
        RAISE EXCEPTION 'index % is not valid: an earlier build was interrupted', $1
            USING ERRCODE = 'PV002', HINT = format('DROP INDEX CONCURRENTLY %s; then run this again', $1);
    END IF;
END
$$;

-- Tell services that listen for switches that another index of the active version is valid: the form of their searches may
-- be another one from now on, and the index before this one goes away.
CREATE OR REPLACE FUNCTION pgvmig.tell_searchers(relation regclass, version text, slot text DEFAULT 'embedding') RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_notify('pgvmig_switch', format('%s %s', pgvmig.label($1, $3), v.version))
    FROM pgvmig.find_version($1, $2, $3) AS v WHERE v.state = 'active'
$$;

-- Leave an event of an index that was built.
CREATE OR REPLACE FUNCTION pgvmig.record_built(relation regclass, version text, index regclass, slot text DEFAULT 'embedding')
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pgvmig.record_event(v, 'index', NULL, jsonb_build_object('built', $3::text, 'as', pg_get_indexdef($3)))
    FROM pgvmig.find_version($1, $2, $4) AS v
$$;

REVOKE ALL ON FUNCTION pgvmig.plan_index, pgvmig.tell_searchers, pgvmig.record_built FROM PUBLIC;

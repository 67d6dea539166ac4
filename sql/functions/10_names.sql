-- A name as commands read it: in double quotes where it has spaces, dots or quotes.
CREATE OR REPLACE FUNCTION pgvmig.said(name text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN name ~ '[ \t\r\n".]' THEN '"' || replace(name, '"', '""') || '"' ELSE name END;

-- What messages call a target: the schema only where it is not public, the slot only where it is not the default.
CREATE OR REPLACE FUNCTION pgvmig.label(relation regclass, slot text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN n.nspname = 'public' THEN '' ELSE pgvmig.said(n.nspname) || '.' END
           || pgvmig.said(c.relname)
           || CASE WHEN slot = 'embedding' THEN '' ELSE '.' || pgvmig.said(slot) END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = relation
$$;

-- A table as operations name it in a revision.
CREATE OR REPLACE FUNCTION pgvmig.named(relation regclass) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT to_json(c.relname) || CASE WHEN n.nspname = 'public' THEN '' ELSE ', schema=' || to_json(n.nspname) END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;

-- A name that PostgreSQL will not cut: as it is up to 63 bytes, beyond that its beginning and a hash.
CREATE OR REPLACE FUNCTION pgvmig.fit(name text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN octet_length(name) <= 63 THEN name
           ELSE (SELECT left(name, max(i)) FROM generate_series(0, 54) AS i WHERE octet_length(left(name, i)) <= 54)
                || '_' || left(encode(sha256(convert_to(name, 'UTF8')), 'hex'), 8) END
$$;

-- The columns' present names. The number decides, which follows renames, also of two columns that swap their names. In a
-- restored database nobody has settled yet the name does, where it is there: numbers became smaller ones, because dropped
-- columns leave no gap; a greater number is another column that took the old name.
CREATE OR REPLACE FUNCTION pgvmig.present_names(relation regclass, names text[], numbers smallint[]) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(coalesce(
               (SELECT a.attname FROM pg_attribute a
                WHERE a.attrelid = relation AND a.attname = u.name AND a.attnum BETWEEN 1 AND u.number
                  AND NOT a.attisdropped AND (SELECT pgvmig.was_restored())),
               (SELECT a.attname FROM pg_attribute a
                WHERE a.attrelid = relation AND a.attnum = u.number AND u.number > 0 AND NOT a.attisdropped),
               u.name) ORDER BY u.ordinality)
    FROM unnest(names, numbers) WITH ORDINALITY AS u (name, number, ordinality)
$$;

-- The schema that the vector extension lives in; it need not be on anybody's search_path.
CREATE OR REPLACE FUNCTION pgvmig.vector_schema() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
$$;

-- The version that was named; says which ones there are when it is not there.
CREATE OR REPLACE FUNCTION pgvmig.find_version(relation regclass, version text, slot text) RETURNS pgvmig.version
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_version pgvmig.version;
    others text;
BEGIN
    SELECT v.* INTO found_version FROM pgvmig.version v
    WHERE v.relation = $1 AND v.version = $2 AND v.slot = $3;
    IF found_version.version_id IS NULL THEN
        SELECT string_agg(v.version, ', ' ORDER BY v.version_id) INTO others
        FROM pgvmig.version v WHERE v.relation = $1 AND v.slot = $3;
        RAISE EXCEPTION '% has no version %', pgvmig.label($1, $3), $2
            USING ERRCODE = 'PV003',
                  HINT = coalesce('it has ' || others, 'op.add_embedding adds one');
    END IF;
    RETURN found_version;
END
$$;

-- The control schema stays while it looks after vectors. Versions of a table that is gone hold up nobody.
CREATE OR REPLACE FUNCTION pgvmig.require_unused() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text := (SELECT string_agg(pgvmig.label(v.relation, v.slot) || ' ' || v.version, ', ' ORDER BY v.version_id)
                   FROM pgvmig.version v JOIN pg_class c ON c.oid = v.relation WHERE v.state <> 'retired' OR v.unfinished);
BEGIN
    IF names IS NOT NULL THEN
        RAISE EXCEPTION 'pgvmig still looks after %', names
            USING ERRCODE = 'PV007',
                  DETAIL = 'Without the control schema nobody knows which vectors are of which model.',
                  HINT = 'downgrade the revisions that added them first';
    END IF;
END
$$;

-- A toolkit and a control schema of different versions do not work together; both say so.
CREATE OR REPLACE FUNCTION pgvmig.require_schema(wanted integer) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present integer := (SELECT i.schema_version FROM pgvmig.installation i);
BEGIN
    IF present < wanted THEN
        RAISE EXCEPTION 'the control schema is version %, this pgvmig needs %', present, wanted
            USING ERRCODE = 'PV008', HINT = format('pgvmig init, or op.upgrade_pgvmig(%s) in a revision', wanted);
    ELSIF present > wanted THEN
        RAISE EXCEPTION 'the control schema is version %, this pgvmig knows %', present, wanted
            USING ERRCODE = 'PV008', HINT = 'install a newer pgvmig: pip install --upgrade pgvmig';
    END IF;
END
$$;

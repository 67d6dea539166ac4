-- Columns of a table that belong to pgvmig or are a version's vectors: not part of what the views show of the row.
CREATE OR REPLACE FUNCTION pgvmig.managed_columns(relation regclass) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(c), '{}') FROM pgvmig.version v
    CROSS JOIN unnest(ARRAY[v.vector_column, v.version_id_column, v.source_hash_column, v.embedded_at_column]) AS c
    WHERE v.vector_relation = $1 AND (v.state <> 'retired' OR v.adopted OR v.unfinished)
$$;

-- The numbers of named columns, 0 for the slot's own name. Raises when one is not there.
CREATE OR REPLACE FUNCTION pgvmig.column_numbers(relation regclass, names text[], slot text) RETURNS smallint[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    numbers smallint[];
    unknown text;
BEGIN
    SELECT array_agg(coalesce(a.attnum, 0) ORDER BY u.i),
           string_agg(u.name, ', ') FILTER (WHERE a.attnum IS NULL AND u.name IS DISTINCT FROM $3)
    INTO numbers, unknown
    FROM unnest(names) WITH ORDINALITY AS u (name, i)
    LEFT JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = u.name AND a.attnum > 0 AND NOT a.attisdropped
                            AND u.name IS DISTINCT FROM $3;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION '% has no column %', pgvmig.label($1, 'embedding'), unknown USING ERRCODE = 'PV003';
    END IF;
    RETURN numbers;
END
$$;

-- A key says which row a vector belongs to: never NULL, and covered by a unique index.
CREATE OR REPLACE FUNCTION pgvmig.is_key(relation regclass, columns text[]) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (SELECT FROM unnest($2) AS k (name) LEFT JOIN pg_attribute a
                                ON a.attrelid = $1 AND a.attname = k.name AND a.attnotnull AND NOT a.attisdropped
                       WHERE a.attname IS NULL)
       AND EXISTS (SELECT FROM pg_index i
                   WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
                     AND (SELECT array_agg(a.attname::text) FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k (number)
                          JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = k.number) <@ $2)
$$;

CREATE OR REPLACE FUNCTION pgvmig.require_key(relation regclass, key_columns text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pgvmig.is_key($1, $2) THEN
        RAISE EXCEPTION '% has no unique key without NULLs on %', pgvmig.label($1, 'embedding'), array_to_string($2, ', ')
            USING ERRCODE = 'PV003', DETAIL = 'Nobody could say which row a vector belongs to.',
                  HINT = 'add one, or name key=[...]';
    END IF;
END
$$;

-- Vectors are written to a table of their own in COPY's binary format, their keys with them; a few types of extensions
-- have none.
CREATE OR REPLACE FUNCTION pgvmig.require_binary_key(relation regclass, slot text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lacking text := (
        SELECT string_agg(format('%s (%s)', a.attname, t.typname), ', ')
        FROM pgvmig.slot s, unnest(pgvmig.present_names(s.relation, s.key_columns, s.key_numbers)) AS u (name),
             pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE s.relation = $1 AND s.slot = $2 AND a.attrelid = $1 AND a.attname = u.name
          AND (t.typsend = 0 OR t.typreceive = 0));
BEGIN
    IF lacking IS NOT NULL THEN
        RAISE EXCEPTION 'the key of % has no binary form: %', pgvmig.label($1, $2), lacking
            USING ERRCODE = 'PV005', DETAIL = 'Vectors of the table layout are written by binary COPY.',
                  HINT = 'use layout="column", or another unique key with key=[...]';
    END IF;
END
$$;

-- The columns of a table that are not among these.
CREATE OR REPLACE FUNCTION pgvmig.not_shown(relation regclass, shown text[]) RETURNS TABLE (name text, number smallint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attname::text, a.attnum FROM pg_attribute a
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL ($2) ORDER BY a.attnum
$$;

-- The slot, made on its first version. Later ones must show the same columns in the same order, or the current view
-- could not be swapped between them.
CREATE OR REPLACE FUNCTION pgvmig.ensure_slot(relation regclass, slot text, key_columns text[], view_columns text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s pgvmig.slot;
BEGIN
    IF NOT EXISTS (SELECT FROM pgvmig.version) THEN
        UPDATE pgvmig.installation SET home = pgvmig.whereabouts();
    END IF;
    PERFORM pgvmig.require_home();
    SELECT x.* INTO s FROM pgvmig.slot x WHERE x.relation = $1 AND x.slot = $2;
    IF s.relation IS NULL THEN
        PERFORM pgvmig.column_numbers($1, $3, NULL), pgvmig.require_key($1, $3);
        INSERT INTO pgvmig.slot (relation, slot, key_columns, key_numbers, queue_columns, view_columns, view_numbers,
                                 left_out, left_out_numbers)
        VALUES ($1, $2, $3, pgvmig.column_numbers($1, $3, NULL),
                ARRAY(SELECT pgvmig.fit('key_' || k) FROM unnest($3) WITH ORDINALITY AS u (k, i) ORDER BY i),
                $4, pgvmig.column_numbers($1, $4, $2),
                ARRAY(SELECT u.name FROM pgvmig.not_shown($1, $4) u), ARRAY(SELECT u.number FROM pgvmig.not_shown($1, $4) u));
    ELSIF s.view_columns <> $4 THEN
        RAISE EXCEPTION 'the views of % show the columns %, not %', pgvmig.label($1, $2),
            array_to_string(s.view_columns, ', '), array_to_string($4, ', ')
            USING ERRCODE = 'PV004',
                  HINT = 'leave columns= out, or name them in that order; op.refresh_embedding_views() appends new ones';
    ELSIF s.key_columns <> $3 THEN
        RAISE EXCEPTION 'the key of % is %, not %', pgvmig.label($1, $2), array_to_string(s.key_columns, ', '),
            array_to_string($3, ', ')
            USING ERRCODE = 'PV004', HINT = 'leave key= out, or name that key';
    END IF;
END
$$;

-- Record a version whose view exists, and whose columns, or table (`vector_relation`), and begin to follow the table.
-- Does nothing when it is there under the same contract. A retired version may be added again, empty.
CREATE OR REPLACE FUNCTION pgvmig.add_version(
    relation regclass, slot text, version text, contract text, view regclass, view_columns text[], key_columns text[],
    vector_column text, version_id_column text, source_hash_column text, embedded_at_column text, object_name text,
    layout text DEFAULT 'column', adopted boolean DEFAULT false, writer text DEFAULT 'worker',
    vector_relation regclass DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mark text := encode(sha256(convert_to(contract, 'UTF8')), 'hex');
    v pgvmig.version;
    look pgvmig.adoption_look;
    id integer;
BEGIN
    -- Python refuses this earlier where it can ask the catalog; a script cannot.
    IF NOT (adopted AND vector_column = slot)
        AND NOT EXISTS (SELECT FROM pgvmig.slot s WHERE s.relation = $1 AND s.slot = $2)
        AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped)
    THEN
        RAISE EXCEPTION '% has a column %, which is what the views call the vector', pgvmig.label($1, 'embedding'), $2
            USING ERRCODE = 'PV005', DETAIL = 'One of the two would be hidden.',
                  HINT = 'name another slot with slot=, or take the vectors there with op.adopt_embedding()';
    END IF;
    INSERT INTO pgvmig.contract (fingerprint, canonical) VALUES (mark, contract) ON CONFLICT DO NOTHING;
    PERFORM pgvmig.ensure_slot(relation, slot, key_columns, view_columns);
    SELECT x.* INTO v FROM pgvmig.version x WHERE x.relation = $1 AND x.slot = $2 AND x.version = $3;
    IF v.version_id IS NOT NULL AND v.fingerprint <> mark THEN
        RAISE EXCEPTION '% % exists with another contract', pgvmig.label($1, $2), $3
            USING ERRCODE = 'PV004', HINT = 'a contract is frozen; add the changed one as the next version';
    ELSIF v.state <> 'retired' THEN
        RETURN v.version_id;
    ELSIF v.unfinished THEN
        RAISE EXCEPTION '% % is being retired, and its columns or table are still there', pgvmig.label($1, $2), $3
            USING ERRCODE = 'PV004', HINT = format('pgvmig retire %s %s goes on with it', pgvmig.label($1, $2), $3);
    ELSIF adopted AND EXISTS (SELECT FROM pgvmig.version x WHERE x.relation = $1 AND x.slot = $2 AND x.state = 'active') THEN
        RAISE EXCEPTION '% has an active version already', pgvmig.label($1, $2)
            USING ERRCODE = 'PV004',
                  DETAIL = 'Adopted vectors are active from the start, and two active versions would be mixed.',
                  HINT = 'op.add_embedding adds another version beside it, or adopt the column in a slot of its own';
    END IF;
    IF adopted THEN
        look := pgvmig.adoption_look(relation, vector_column, mark);
        PERFORM pgvmig.require_passed_look(relation, slot, version, vector_column, look);
    END IF;
    PERFORM pgvmig.begin_verb(CASE WHEN adopted THEN 'adopt' ELSE 'add' END, look.reason,
                              jsonb_build_object('fingerprint', mark) || pgvmig.look_detail(look));
    IF v.state = 'retired' THEN
        id := v.version_id;
        UPDATE pgvmig.version x
        SET state = 'added', view = $5, adopted = $14, writer = $15, layout = $13, activated_from = NULL,
            index_plan = NULL,
            vector_relation = coalesce($16, $1),
            vector_column = $8, version_id_column = $9, source_hash_column = $10, embedded_at_column = $11
        WHERE x.version_id = id;
    ELSE
        INSERT INTO pgvmig.version AS x (relation, slot, version, state, writer, adopted, layout, fingerprint, vector_relation,
            vector_column, version_id_column, source_hash_column, embedded_at_column, view, object_name)
        VALUES ($1, $2, $3, CASE WHEN $14 THEN 'active' ELSE 'added' END, $15, $14, $13, mark, coalesce($16, $1),
            $8, $9, $10, $11, $5,
            -- "app"."documents" and "app_documents" would give their objects one name
            CASE WHEN EXISTS (SELECT FROM pgvmig.version o WHERE o.object_name = $12)
                 THEN pgvmig.fit($12 || '_' || relation::oid) ELSE $12 END)
        RETURNING x.version_id INTO id;
    END IF;
    PERFORM pgvmig.end_verb();
    IF layout = 'table' THEN
        PERFORM pgvmig.require_binary_key(relation, slot);
    END IF;
    PERFORM pgvmig.create_capture(id);
    PERFORM pgvmig.dress_vectors(x) FROM pgvmig.version x WHERE x.version_id = id;
    PERFORM pgvmig.dress_view(view, relation), pgvmig.keep_owner();
    PERFORM pgvmig.grant_version(x) FROM pgvmig.version x WHERE x.version_id = id;
    IF adopted THEN
        PERFORM pgvmig.keep_look(id, look);
        PERFORM pgvmig.swap(x) FROM pgvmig.version x WHERE x.version_id = id AND x.state = 'active';
    END IF;
    RETURN id;
END
$$;

-- The text of a version's view: pgvmig/views.py writes the same for revisions, and a test compares them.
CREATE OR REPLACE FUNCTION pgvmig.view_query(v pgvmig.version) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c jsonb := (SELECT definition FROM pgvmig.contract WHERE fingerprint = v.fingerprint);
    s pgvmig.slot;
    vector_part text;
BEGIN
    SELECT x.* INTO STRICT s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot;
    vector_part := format(
        '%15$s.%1$I::%2$I.%3$I AS %4$I, %5$L::text AS %6$I, %7$L::text AS %8$I, %9$L::text AS %10$I, '
        '%15$s.%11$I AS %12$I, %15$s.%13$I AS %14$I',
        v.vector_column, pgvmig.vector_schema(), c ->> 'vector_type', v.slot,
        v.version, pgvmig.fit(v.slot || '_space'), c ->> 'model', pgvmig.fit(v.slot || '_model'),
        c ->> 'model_version', pgvmig.fit(v.slot || '_model_version'),
        v.source_hash_column, pgvmig.fit(v.slot || '_source_hash'),
        v.embedded_at_column, pgvmig.fit(v.slot || '_embedded_at'), pgvmig.vector_alias(v));
    RETURN (SELECT format('SELECT %s FROM %s%s',
                          string_agg(CASE WHEN u.name = v.slot THEN vector_part
                                          ELSE format('d.%I AS %I', u.present, u.name) END, ', ' ORDER BY i),
                          pgvmig.rows_from(v),
                          CASE WHEN v.layout = 'column' THEN format(' WHERE d.%I IS NOT NULL', v.vector_column) ELSE '' END)
            FROM unnest(s.view_columns, pgvmig.present_names(s.relation, s.view_columns, s.view_numbers))
                 WITH ORDINALITY AS u (name, present, i));
END
$$;

-- What the views call the vector and what stands beside it.
CREATE OR REPLACE FUNCTION pgvmig.view_vector_columns(slot text) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT slot || array_agg(pgvmig.fit(slot || suffix) ORDER BY i)
    FROM unnest(ARRAY['_space', '_model', '_model_version', '_source_hash', '_embedded_at']) WITH ORDINALITY AS u (suffix, i)
$$;

-- Columns that the application added to its table appear at the end of every view; renamed ones keep their name there.
-- Tables of vectors get the owner, readers and row-level security that the table has by now.
-- What was left out when the slot was made stays out, unless it is named in `show`: it may be somebody's secret.
CREATE OR REPLACE FUNCTION pgvmig.refresh_views(relation regclass, slot text DEFAULT 'embedding', show text[] DEFAULT '{}')
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s pgvmig.slot;
    added text[];
    gone text;
BEGIN
    PERFORM pgvmig.lock_slot($1, $2);
    SELECT x.* INTO s FROM pgvmig.slot x WHERE x.relation = $1 AND x.slot = $2;
    IF s.relation IS NULL THEN
        RAISE EXCEPTION '% has no versions', pgvmig.label($1, $2)
            USING ERRCODE = 'PV003', HINT = 'op.add_embedding adds one';
    END IF;
    UPDATE pgvmig.version x SET vector_column = pgvmig.renamed_vector(x)
    WHERE x.relation = $1 AND x.slot = $2 AND x.state <> 'retired' AND pgvmig.renamed_vector(x) IS NOT NULL;
    gone := (SELECT string_agg(x.version, ', ' ORDER BY x.version_id) FROM pgvmig.version x
             WHERE x.relation = $1 AND x.slot = $2 AND x.state <> 'retired' AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = x.view));
    IF gone IS NOT NULL THEN
        RAISE EXCEPTION 'views of % are gone: %', pgvmig.label($1, $2), gone
            USING ERRCODE = 'PV004', DETAIL = 'They were dropped, perhaps by a DROP COLUMN ... CASCADE, and their grants with them.',
                  HINT = format('op.begin_table_change(%1$s) and op.end_table_change(%1$s) make them anew', pgvmig.named($1));
    END IF;
    added := ARRAY(SELECT a.attname::text FROM pg_attribute a
                   WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
                     AND a.attname <> ALL (pgvmig.managed_columns($1))
                     AND a.attname <> ALL (s.view_columns)
                     AND a.attname <> ALL (pgvmig.present_names(s.relation, s.view_columns, s.view_numbers))
                     AND (a.attname = ANY (show)
                          OR (a.attname = ANY (pgvmig.present_names(s.relation, s.left_out, s.left_out_numbers))) IS NOT TRUE)
                   ORDER BY a.attnum);
    IF EXISTS (SELECT FROM unnest(added) AS a WHERE a = ANY (pgvmig.view_vector_columns($2))) THEN
        RAISE EXCEPTION '% now has a column that the views call one of their own: %', pgvmig.label($1, $2),
            (SELECT string_agg(a, ', ') FROM unnest(added) AS a WHERE a = ANY (pgvmig.view_vector_columns($2)))
            USING ERRCODE = 'PV005', DETAIL = 'One of the two would be hidden.', HINT = 'rename the table''s column';
    END IF;
    PERFORM pgvmig.dress_vectors(x) FROM pgvmig.version x
    WHERE x.relation = $1 AND x.slot = $2 AND x.state <> 'retired';
    UPDATE pgvmig.slot x
    SET view_columns = x.view_columns || added, view_numbers = x.view_numbers || pgvmig.column_numbers($1, added, NULL)
    WHERE x.relation = $1 AND x.slot = $2;
    PERFORM pgvmig.replace_views(array_agg(each.view), array_agg(each.query)) FROM (
        SELECT x.view, pgvmig.view_query(x) AS query FROM pgvmig.version x
        WHERE x.relation = $1 AND x.slot = $2 AND x.state <> 'retired'
        UNION ALL
        SELECT s.current_view, pgvmig.view_query(x) FROM pgvmig.version x JOIN pg_class c ON c.oid = s.current_view
        WHERE x.relation = $1 AND x.slot = $2 AND x.state = 'active') AS each
    HAVING count(*) > 0;
    PERFORM pgvmig.grant_version(x) FROM pgvmig.version x
    WHERE x.relation = $1 AND x.slot = $2 AND x.state <> 'retired';
    RETURN added;
END
$$;

-- Whether there is any vector of a version; a retired one has none, nor has one that is not there.
CREATE OR REPLACE FUNCTION pgvmig.has_vectors(v pgvmig.version, OUT has_any boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    has_any := false;
    IF v.state <> 'retired' THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I IS NOT NULL)', v.vector_relation, v.vector_column)
        INTO has_any;
    END IF;
END
$$;

-- The first version that the slot would come back from to this one; NULL when there is none.
CREATE OR REPLACE FUNCTION pgvmig.way_back_from(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.version FROM pgvmig.version x
    WHERE x.activated_from = v.version_id AND x.state IN ('active', 'retained') ORDER BY x.version_id LIMIT 1
$$;

-- The downgrade of add. Refuses to destroy vectors unless told so.
CREATE OR REPLACE FUNCTION pgvmig.drop_version(
    relation regclass, version text, slot text DEFAULT 'embedding', destroy boolean DEFAULT false
) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
    vectors bigint := 0;
    successor text;
BEGIN
    SELECT x.* INTO v FROM pgvmig.version x WHERE x.relation = $1 AND x.version = $2 AND x.slot = $3;
    IF v.version_id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM pgvmig.finish_retire($1, $2, $3);  -- when somebody was stopped in the middle of it
    successor := pgvmig.way_back_from(v);
    IF successor IS NOT NULL THEN
        RAISE EXCEPTION '% % is the way back from %', pgvmig.label($1, $3), $2, successor
            USING ERRCODE = 'PV004',
                  DETAIL = 'Forgotten, a rollback would leave searches with nothing.',
                  HINT = 'op.retire_embedding drops the vectors and remembers the version';
    END IF;
    IF v.state <> 'retired' THEN
        EXECUTE format('SELECT count(%I) FROM %s', v.vector_column, v.vector_relation) INTO vectors;
        IF v.state = 'active' THEN
            RAISE EXCEPTION '% % is active', pgvmig.label($1, $3), $2
                USING ERRCODE = 'PV004', HINT = format('pgvmig rollback %s', pgvmig.label($1, $3));
        ELSIF vectors > 0 AND NOT destroy THEN
            RAISE EXCEPTION 'dropping % % would destroy % vector%', pgvmig.label($1, $3), $2, pgvmig.figure(vectors),
                CASE WHEN vectors > 1 THEN 's' ELSE '' END
                USING ERRCODE = 'PV007',
                      DETAIL = 'They were paid for, and a rollback may still need them.',
                      HINT = format('alembic -x pgvmig_drop=%s.%s downgrade ...', pgvmig.label($1, $3), $2);
        END IF;
    END IF;
    IF v.state <> 'retired' THEN
        PERFORM pgvmig.lock_for_removal(v, false);
        IF NOT destroy AND pgvmig.has_vectors(v) THEN
            RAISE EXCEPTION '% % was written to while its lock was waited for', pgvmig.label($1, $3), $2
                USING ERRCODE = 'PV007', HINT = 'stop the worker, then run this again';
        END IF;
    END IF;
    PERFORM pgvmig.begin_verb('drop', NULL, jsonb_build_object('vectors', vectors));
    IF v.state = 'retained' THEN
        UPDATE pgvmig.version x SET state = 'retired' WHERE x.version_id = v.version_id;
    END IF;
    IF v.state <> 'retired' THEN
        PERFORM pgvmig.take_down(v);
    END IF;
    DELETE FROM pgvmig.version x WHERE x.version_id = v.version_id;
    PERFORM pgvmig.end_verb();
    PERFORM pgvmig.drop_slot_if_unused($1, $3);
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.drop_slot_if_unused(relation regclass, slot text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM pgvmig.slot s
    WHERE s.relation = $1 AND s.slot = $2
      AND NOT EXISTS (SELECT FROM pgvmig.version v WHERE v.relation = $1 AND v.slot = $2)
$$;

-- Whether the version was adopted once, retired, and added again without a vector, which is the downgrade of its
-- retirement: the downgrade of its adoption then takes that away.
CREATE OR REPLACE FUNCTION pgvmig.is_stand_in(v pgvmig.version) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.state <> 'retired' AND NOT pgvmig.has_vectors(v)
           AND EXISTS (SELECT FROM pgvmig.event e
                       WHERE e.relation = pgvmig.label(v.relation, 'embedding') AND e.slot = v.slot
                         AND e.version = v.version AND e.verb = 'adopt')
$$;

-- The downgrade of adopt: pgvmig leaves the table, the vectors and the application's column stay.
CREATE OR REPLACE FUNCTION pgvmig.release_version(relation regclass, version text, slot text DEFAULT 'embedding')
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
    others text;
BEGIN
    SELECT x.* INTO v FROM pgvmig.version x WHERE x.relation = $1 AND x.version = $2 AND x.slot = $3;
    IF v.version_id IS NULL THEN
        RETURN false;
    ELSIF NOT v.adopted AND NOT pgvmig.is_stand_in(v) THEN
        RAISE EXCEPTION '% % was not adopted, pgvmig made its columns', pgvmig.label($1, $3), $2
            USING ERRCODE = 'PV004', HINT = 'op.drop_embedding is the downgrade of op.add_embedding';
    END IF;
    SELECT string_agg(x.version, ', ') INTO others FROM pgvmig.version x
    WHERE x.relation = $1 AND x.slot = $3 AND x.version <> $2;
    IF others IS NOT NULL THEN
        RAISE EXCEPTION '% also has %', pgvmig.label($1, $3), others
            USING ERRCODE = 'PV004', HINT = 'downgrade the revisions that added it first';
    END IF;
    PERFORM pgvmig.finish_retire($1, $2, $3);
    IF v.state <> 'retired' THEN
        PERFORM pgvmig.lock_for_removal(v, v.state = 'active');
    END IF;
    PERFORM pgvmig.begin_verb('release', NULL, '{}');
    IF v.state = 'active' THEN
        PERFORM pgvmig.drop_current_view(v);
        UPDATE pgvmig.version x SET state = 'ready' WHERE x.version_id = v.version_id;
    END IF;
    IF v.state <> 'retired' THEN
        PERFORM pgvmig.take_down(v);
    END IF;
    DELETE FROM pgvmig.version x WHERE x.version_id = v.version_id;
    PERFORM pgvmig.end_verb();
    PERFORM pgvmig.drop_slot_if_unused($1, $3);
    RETURN true;
END
$$;

-- What a table may have become since its versions were added that pgvmig cannot follow.

-- The column that a version's view shows as its vector, NULL when it is the recorded one: somebody renamed it.
CREATE OR REPLACE FUNCTION pgvmig.renamed_vector(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT max(a.attname) FROM pg_rewrite r, unnest(pgvmig.columns_read_by('pg_rewrite', r.oid, v.vector_relation)) AS n (number),
           pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE r.ev_class = v.view AND r.rulename = '_RETURN' AND a.attrelid = v.vector_relation AND a.attnum = n.number
      AND t.typname IN ('vector', 'halfvec')
      AND NOT EXISTS (SELECT FROM pg_attribute x WHERE x.attrelid = v.vector_relation AND x.attname = v.vector_column AND NOT x.attisdropped)
      AND NOT EXISTS (SELECT FROM pgvmig.slot s WHERE s.relation = v.vector_relation AND s.slot = v.slot AND n.number = ANY (s.view_numbers))
    HAVING count(*) = 1
$$;

-- What keeps pgvmig from following a version's table, and what to do about it; NULL, NULL when nothing does.
CREATE OR REPLACE FUNCTION pgvmig.table_problem(v pgvmig.version, OUT problem text, OUT next text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    keys text[] := (SELECT pgvmig.present_names(s.relation, s.key_columns, s.key_numbers) FROM pgvmig.slot s
                    WHERE s.relation = v.relation AND s.slot = v.slot);
    contract jsonb := (SELECT k.definition FROM pgvmig.contract k WHERE k.fingerprint = v.fingerprint);
    unlogged regclass := (SELECT min(l::oid)::regclass FROM pgvmig.leaves(v.relation) l JOIN pg_class c ON c.oid = l
                          WHERE c.relpersistence = 'u');
    vectors record;
BEGIN
    SELECT format_type(a.atttypid, a.atttypmod) AS type, t.typname AS name, a.atttypmod AS dimensions INTO vectors
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = v.vector_relation AND a.attname = v.vector_column AND NOT a.attisdropped;
    IF vectors IS NULL THEN
        problem := format('%s has no column %I, where the vectors of %s are%s', v.vector_relation, v.vector_column, v.version,
                        format(': it is called %I now', pgvmig.renamed_vector(v)));
        next := CASE WHEN pgvmig.renamed_vector(v) IS NOT NULL THEN
                    format('SELECT pgvmig.refresh_views(%L%s)', v.relation::text,
                           CASE WHEN v.slot <> 'embedding' THEN format(', slot => %L', v.slot) END)
                ELSE 'restore the column, or take the version off: its vectors are gone' END;
    ELSIF vectors.name <> contract ->> 'vector_type' OR vectors.dimensions NOT IN (-1, (contract ->> 'dimensions')::integer) THEN
        problem := format('%s.%I is %s, the contract of %s says %s(%s)', v.vector_relation, v.vector_column, vectors.type, v.version,
                        contract ->> 'vector_type', contract ->> 'dimensions');
        next := 'vectors of another size are another version: give the column its type back, and add the next version';
    ELSIF NOT pgvmig.is_key(v.relation, keys) THEN
        problem := format('no unique index without NULLs covers the key of %s any more: %s', pgvmig.label(v.relation, 'embedding'),
                        array_to_string(keys, ', '));
        next := format('CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s), or name the new key with op.end_table_change(..., key=[...])',
                       v.relation, (SELECT string_agg(quote_ident(k), ', ' ORDER BY i) FROM unnest(keys) WITH ORDINALITY AS u (k, i)));
    ELSIF unlogged IS NOT NULL THEN
        problem := format('%s is unlogged: a crash empties it, and standbys never see it', pgvmig.label(unlogged, 'embedding'));
        next := format('ALTER TABLE %s SET LOGGED', unlogged);
    END IF;
END
$$;

-- Raise for it: a worker that goes by a key which is not unique gives a row another row's vector.
CREATE OR REPLACE FUNCTION pgvmig.require_followable(version_id integer) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_problem record;
BEGIN
    SELECT p.* INTO found_problem FROM pgvmig.version v, pgvmig.table_problem(v) p WHERE v.version_id = $1;
    IF found_problem.problem IS NOT NULL THEN
        RAISE EXCEPTION '%', found_problem.problem
            USING ERRCODE = 'PV005', DETAIL = 'The table has changed since its version was added, and nobody can tell which vector is whose.',
                  HINT = found_problem.next;
    END IF;
END
$$;

-- Gate table: it still is one that pgvmig can follow.
CREATE OR REPLACE FUNCTION pgvmig.gate_table(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ROW('table', p.problem IS NULL, coalesce(p.problem, 'the table has its key and the column of its vectors'),
               'a unique key without NULLs, the vectors in a column of the contract''s type, a logged table', p.next,
               '{}'::jsonb)::pgvmig.gate_result
    FROM pgvmig.table_problem(v) p
$$;

-- Whatever a worker's statements were written for: other names, types or keys need other statements.
CREATE OR REPLACE FUNCTION pgvmig.shape(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(' ', v.relation, v.vector_relation, pgvmig.vector_schema(), v.vector_column,
               (SELECT string_agg(format('%I %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation), ', ' ORDER BY u.i)
                FROM pgvmig.slot s, unnest(s.key_numbers) WITH ORDINALITY AS u (number, i), pg_attribute a
                WHERE s.relation = v.relation AND s.slot = v.slot AND a.attrelid = s.relation AND a.attnum = u.number
                  AND NOT a.attisdropped),
               (SELECT format('%I %s', a.attname, a.atttypmod) FROM pg_attribute a
                WHERE a.attrelid = v.vector_relation AND a.attname = v.vector_column AND NOT a.attisdropped),
               -- what made the key unique: without it the worker has to look again
               (SELECT string_agg(i.indexrelid::text, ',' ORDER BY i.indexrelid) FROM pg_index i
                WHERE i.indrelid = v.relation AND i.indisunique AND i.indisvalid))
$$;

-- Where a version's vectors are: beside the row, or in a table of their own that is keyed like it. Everything that reads
-- them asks here, and does not care which.

-- The rows as d with their vectors; `kind` LEFT JOIN also keeps the rows that have none.
CREATE OR REPLACE FUNCTION pgvmig.rows_from(v pgvmig.version, kind text DEFAULT 'JOIN') RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.relation || ' AS d'
           || CASE WHEN v.layout = 'table' THEN (
                  SELECT format(' %s %s AS e ON %s', kind, v.vector_relation,
                                string_agg(format('e.%I %s d.%I', u.queue, pgvmig.equality(s.relation, u.source), u.source), ' AND ' ORDER BY i))
                  FROM unnest(s.queue_columns, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers))
                       WITH ORDINALITY AS u (queue, source, i)) ELSE '' END
    FROM pgvmig.slot s WHERE s.relation = v.relation AND s.slot = v.slot
$$;

-- What the vectors are called in rows_from().
CREATE OR REPLACE FUNCTION pgvmig.vector_alias(v pgvmig.version) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE v.layout WHEN 'table' THEN 'e' ELSE 'd' END;

-- A table of vectors is the row's shadow: it has the row's owner, those who may read the row may read it, nobody else
-- writes it, and where rows are hidden from a reader their vectors are hidden too. The policy asks the table itself, so
-- whatever its own policies say now or later holds.
CREATE OR REPLACE FUNCTION pgvmig.dress_vectors(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
    same_key text;
BEGIN
    IF v.layout <> 'table' THEN
        RETURN;
    END IF;
    PERFORM pgvmig.execute_patiently(format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', v.vector_relation));
    -- whatever ALTER DEFAULT PRIVILEGES gave away
    FOR g IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
             WHERE c.oid = v.vector_relation AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', v.vector_relation,
                       CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END);
    END LOOP;
    IF NOT EXISTS (SELECT FROM pgvmig.revoked_view r WHERE r.version_id = v.version_id) THEN
        PERFORM pgvmig.copy_select_grants(v.relation, v.vector_relation);
    END IF;
    -- qualified: the table may have a column of that name itself
    SELECT string_agg(format('d.%I %s %I.%I', u.source, pgvmig.equality(s.relation, u.source), c.relname, u.queue), ' AND ' ORDER BY i)
    INTO same_key
    FROM pg_class c, pgvmig.slot s, unnest(s.queue_columns, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers))
         WITH ORDINALITY AS u (queue, source, i)
    WHERE c.oid = v.vector_relation AND s.relation = v.relation AND s.slot = v.slot;
    EXECUTE format('DROP POLICY IF EXISTS pgvmig_as_the_row ON %s', v.vector_relation);
    EXECUTE format('CREATE POLICY pgvmig_as_the_row ON %s FOR SELECT USING (EXISTS (SELECT FROM %s AS d WHERE %s))',
                   v.vector_relation, v.relation, same_key);
    EXECUTE format('ALTER TABLE %s %s ROW LEVEL SECURITY', v.vector_relation,
                   (SELECT CASE WHEN c.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END
                    FROM pg_class c WHERE c.oid = v.relation));
    PERFORM pgvmig.grant_version(v);
END
$$;

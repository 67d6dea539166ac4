-- The index gate, and what others ask about a version's vector indexes.

-- The operator that ranks in a metric, and the operator class that serves it.
CREATE OR REPLACE FUNCTION pgvmig.metric_operator(metric text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' WHEN 'inner_product' THEN '<#>' WHEN 'l1' THEN '<+>' END;

CREATE OR REPLACE FUNCTION pgvmig.metric_opclass(vector_type text, metric text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN vector_type || CASE metric WHEN 'cosine' THEN '_cosine_ops' WHEN 'l2' THEN '_l2_ops'
                                  WHEN 'inner_product' THEN '_ip_ops' WHEN 'l1' THEN '_l1_ops' END;

-- A version's vector indexes: those on its vector column of an approximate access method.
CREATE OR REPLACE FUNCTION pgvmig.vector_indexes(v pgvmig.version)
RETURNS TABLE (index regclass, valid boolean, opclass text, method text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.indexrelid::regclass, i.indisvalid AND i.indisready, o.opcname::text, m.amname::text
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = v.vector_column AND a.attnum = i.indkey[0]
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam
    JOIN pg_opclass o ON o.oid = i.indclass[0]
    WHERE i.indrelid = v.vector_relation AND m.amname IN ('hnsw', 'ivfflat')
    ORDER BY i.indexrelid
$$;

-- Index: one is there, valid, and the planner can use it through the version's view. On a small table a sequential
-- scan is cheaper, so the question is put with the alternatives switched off: can it, not does it.
CREATE OR REPLACE FUNCTION pgvmig.gate_index(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c jsonb := (SELECT definition FROM pgvmig.contract WHERE fingerprint = v.fingerprint);
    wanted text := pgvmig.metric_opclass(c ->> 'vector_type', c ->> 'metric');
    others text;
    serving regclass;
    next text := (SELECT format('in a revision, op.index_embedding(%L, %L%s%s)', r.relname, v.version,
                                CASE WHEN n.nspname <> 'public' THEN format(', schema=%L', n.nspname) END,
                                CASE WHEN v.slot <> 'embedding' THEN format(', slot=%L', v.slot) END)
                  FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace WHERE r.oid = v.relation);
    found text;
BEGIN
    SELECT string_agg(format('%s (%s%s)', i.index, i.opclass, CASE WHEN i.valid THEN '' ELSE ', invalid' END), ', ')
    INTO others FROM pgvmig.vector_indexes(v) i;
    IF pgvmig.next_restore(v) IS NOT NULL THEN
        found := format('the view of %s is gone, no search goes through it', v.version);
        next := pgvmig.next_restore(v);
    ELSIF others IS NULL AND v.adopted THEN
        RETURN ('index', true, 'the application searched its vectors without an index',
                'an index as good as before', next, '{}'::jsonb)::pgvmig.gate_result;
    ELSIF others IS NULL THEN
        found := 'there is no vector index on ' || quote_ident(v.vector_column);
    ELSIF NOT EXISTS (SELECT FROM pgvmig.vector_indexes(v) i WHERE i.valid AND i.opclass = wanted) THEN
        found := format('no valid index with %s, only %s', wanted, others);
    ELSE
        serving := pgvmig.serving_index(v, c);
        IF serving IS NULL THEN
            found := format('the planner cannot use %s for a search through %s', others, v.view);
        END IF;
    END IF;
    RETURN ('index', found IS NULL, coalesce(found, format('%s serves %s', serving, v.view)),
            format('a valid index with %s that can serve a search through the view', wanted), next, jsonb_build_object('index', serving::text))::pgvmig.gate_result;
END
$$;

-- The index that a nearest-neighbour search through a view of the version (its own unless said) is planned with, NULL
-- when none.
CREATE OR REPLACE FUNCTION pgvmig.serving_index(v pgvmig.version, contract jsonb, through regclass DEFAULT NULL)
RETURNS regclass
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
DECLARE
    plan jsonb;
BEGIN
    EXECUTE format(
        'EXPLAIN (FORMAT JSON) SELECT * FROM %s AS w ORDER BY w.%I OPERATOR(%I.%s) %6$L::%3$I.%5$I LIMIT 10',
        coalesce(through, v.view), v.slot, pgvmig.vector_schema(), pgvmig.metric_operator(contract ->> 'metric'),
        contract ->> 'vector_type',
        '[' || array_to_string(array_fill(1, ARRAY[(contract ->> 'dimensions')::integer]), ',') || ']')
    INTO plan;
    RETURN (SELECT i.index FROM pgvmig.vector_indexes(v) i
            JOIN pg_class k ON k.oid = i.index
            WHERE i.valid
              AND jsonb_path_exists(plan, '$.**."Index Name" ? (@ == $name)', jsonb_build_object('name', k.relname))
            LIMIT 1);
END
$$;

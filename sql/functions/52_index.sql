-- The index gate, and what others ask about a version's vector indexes.

-- The operator that ranks in a metric, and the operator class that serves it.
CREATE OR REPLACE FUNCTION pgvmig.metric_operator(metric text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' WHEN 'inner_product' THEN '<#>' WHEN 'l1' THEN '<+>' END;

CREATE OR REPLACE FUNCTION pgvmig.metric_opclass(vector_type text, metric text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN vector_type || CASE metric WHEN 'cosine' THEN '_cosine_ops' WHEN 'l2' THEN '_l2_ops'
                                  WHEN 'inner_product' THEN '_ip_ops' WHEN 'l1' THEN '_l1_ops' END;

-- What a quantised index holds of a column, as PostgreSQL shows it under our search_path. The views show vectors without
-- their dimensions: the cast that takes them away is part of the expression, or no search through a view would match it.
CREATE OR REPLACE FUNCTION pgvmig.quantized_expression(
    quantize text, "column" text, vector_type text, dimensions integer, sized boolean
) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE quantize
           WHEN 'halfvec' THEN format('(%s)::%I.halfvec(%s)', shown, at, dimensions)
           WHEN 'binary' THEN format('(%I.binary_quantize(%s))::bit(%s)', at, shown, dimensions) END
    FROM (SELECT CASE WHEN sized THEN format('(%I)::%I.%I', "column", s.at, vector_type) ELSE quote_ident("column") END AS shown,
                 s.at
          FROM (SELECT pgvmig.vector_schema() AS at) AS s) AS d
$$;

-- The vector indexes on a table's column: of an approximate access method, over the vectors as they are or quantised;
-- `quantize` is `other` for an expression that no search of ours uses. `whole`: of all rows, not of some.
CREATE OR REPLACE FUNCTION pgvmig.indexes_on(relation regclass, "column" text, vector_type text, dimensions integer)
RETURNS TABLE (index regclass, valid boolean, opclass text, method text, quantize text, options jsonb, whole boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT i.indexrelid::regclass, i.indisvalid AND i.indisready, o.opcname::text, m.amname::text,
           CASE WHEN i.indkey[0] = a.attnum THEN NULL
                ELSE coalesce((SELECT q FROM unnest(ARRAY['halfvec', 'binary']) AS q
                               WHERE pg_get_expr(i.indexprs, i.indrelid)
                                     = pgvmig.quantized_expression(q, a.attname, $3, $4, a.atttypmod <> -1)), 'other') END,
           (SELECT coalesce(jsonb_object_agg(r.option_name, r.option_value), '{}') FROM pg_options_to_table(c.reloptions) AS r),
           i.indpred IS NULL
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = $2
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam
    JOIN pg_opclass o ON o.oid = i.indclass[0]
    WHERE i.indrelid = $1 AND m.amname IN ('hnsw', 'ivfflat')
      AND (i.indkey[0] = a.attnum
           OR i.indkey[0] = 0 AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                                          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
                                          AND d.refobjsubid = a.attnum))
    ORDER BY i.indexrelid;
END
$$;

-- A version's vector indexes. These functions are PL/pgSQL for its kept plans: every search of a service asks active_space().
CREATE OR REPLACE FUNCTION pgvmig.vector_indexes(v pgvmig.version)
RETURNS TABLE (index regclass, valid boolean, opclass text, method text, quantize text, options jsonb, whole boolean)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT i.* FROM pgvmig.contract c,
        pgvmig.indexes_on(v.vector_relation, v.vector_column, c.definition ->> 'vector_type',
                          (c.definition ->> 'dimensions')::integer) AS i
    WHERE c.fingerprint = v.fingerprint;
END
$$;

-- The operator class of an index over vectors of a contract, quantised or not; NULL where there is none that would rank
-- them: bits know angles and no lengths. pgvmig/index_plan.py has the same.
CREATE OR REPLACE FUNCTION pgvmig.index_opclass(contract jsonb, quantize text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN quantize IS NULL THEN pgvmig.metric_opclass(contract ->> 'vector_type', contract ->> 'metric')
                WHEN quantize = 'halfvec' THEN pgvmig.metric_opclass('halfvec', contract ->> 'metric')
                WHEN quantize = 'binary' AND (contract ->> 'metric' = 'cosine'
                     OR contract ->> 'metric' IN ('l2', 'inner_product') AND (contract ->> 'normalized')::boolean)
                THEN 'bit_hamming_ops' END
$$;

-- The index that searches of a version are written for, no row when there is none: the one that was planned where that is
-- valid, so that while it is built, and until the one before it is dropped, there always is one.
CREATE OR REPLACE FUNCTION pgvmig.searched_index(v pgvmig.version)
RETURNS TABLE (index regclass, method text, quantize text, options jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT i.index, i.method, i.quantize, i.options
    FROM pgvmig.contract c, pgvmig.vector_indexes(v) AS i
    WHERE c.fingerprint = v.fingerprint AND i.valid AND i.opclass = pgvmig.index_opclass(c.definition, i.quantize)
    ORDER BY i.whole DESC, i.quantize IS NOT DISTINCT FROM v.index_plan ->> 'quantize' DESC,
             i.method IS NOT DISTINCT FROM v.index_plan ->> 'method' DESC, i.quantize DESC NULLS FIRST, i.index DESC
    LIMIT 1;
END
$$;

-- What searches of a version are ordered by, so that its index serves them: `vector` is the view's, `query` a vector as text.
CREATE OR REPLACE FUNCTION pgvmig.search_order(contract jsonb, quantize text, vector text, query text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE quantize
           WHEN 'halfvec' THEN format('%1$s::%3$I.halfvec(%4$s) OPERATOR(%3$I.%5$s) %2$s::%3$I.halfvec(%4$s)', v, q, s, n, o)
           WHEN 'binary' THEN format('%3$I.binary_quantize(%1$s)::bit(%4$s) OPERATOR(%3$I.<~>) %3$I.binary_quantize(%2$s::%3$I.%6$I)',
                                     v, q, s, n, o, t)
           ELSE format('%1$s OPERATOR(%3$I.%5$s) %2$s::%3$I.%6$I', v, q, s, n, o, t) END
    FROM (SELECT vector AS v, query AS q, pgvmig.vector_schema() AS s, contract ->> 'dimensions' AS n,
                 pgvmig.metric_operator(contract ->> 'metric') AS o, contract ->> 'vector_type' AS t) AS parts
$$;

-- Index: one is there, valid, and the planner can use it through the version's view. On a small table a sequential
-- scan is cheaper, so the question is put with the alternatives switched off: can it, not does it.
CREATE OR REPLACE FUNCTION pgvmig.gate_index(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c jsonb := (SELECT definition FROM pgvmig.contract WHERE fingerprint = v.fingerprint);
    wanted text := pgvmig.index_opclass(c, v.index_plan ->> 'quantize');
    others text;
    serving regclass;
    next text := format('pgvmig index %s %s', pgvmig.label(v.relation, v.slot), v.version);
    found text;
BEGIN
    SELECT string_agg(format('%s (%s%s%s)', i.index, i.opclass,
                             CASE WHEN i.quantize = 'other' THEN ', of an expression' END,
                             CASE WHEN i.valid THEN '' ELSE ', invalid' END), ', ')
    INTO others FROM pgvmig.vector_indexes(v) i;
    IF pgvmig.next_restore(v) IS NOT NULL THEN
        found := format('the view of %s is gone, no search goes through it', v.version);
        next := pgvmig.next_restore(v);
    ELSIF v.adopted AND NOT EXISTS (SELECT FROM pgvmig.vector_indexes(v) i WHERE i.quantize IS DISTINCT FROM 'other') THEN
        RETURN ('index', true, coalesce(format('the application''s index, %s, serves its own queries and none through a view', others),
                                        'the application searched its vectors without an index'),
                'an index as good as before', next, '{}'::jsonb)::pgvmig.gate_result;
    ELSIF others IS NULL THEN
        found := 'there is no vector index on ' || quote_ident(v.vector_column);
    ELSIF NOT EXISTS (SELECT FROM pgvmig.searched_index(v)) THEN
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
        'EXPLAIN (FORMAT JSON) SELECT * FROM %s AS w ORDER BY %s LIMIT 10', coalesce(through, v.view),
        pgvmig.search_order(
            contract, (SELECT i.quantize FROM pgvmig.searched_index(v) AS i), format('w.%I', v.slot),
            quote_literal('[' || array_to_string(array_fill(1, ARRAY[(contract ->> 'dimensions')::integer]), ',') || ']')))
    INTO plan;
    RETURN (SELECT i.index FROM pgvmig.vector_indexes(v) i
            JOIN pg_class k ON k.oid IN (SELECT pgvmig.leaves(i.index))
            WHERE i.valid
              AND jsonb_path_exists(plan, '$.**."Index Name" ? (@ == $name)', jsonb_build_object('name', k.relname))
            LIMIT 1);
END
$$;

-- Gates: what must hold before a verb runs. Each is a function gate_<name>(version, terms) that returns one gate_result
-- and changes nothing; check_gates (56_check_gates.sql) lists them. To add one: write it, add its line there.

-- Coverage: every row has a vector of its present text, or a recorded reason why not. Rows that changed a moment ago do
-- not count, unless they are most of the table: after a bulk load a switch would hide it.
CREATE OR REPLACE FUNCTION pgvmig.gate_coverage(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    most_changed boolean;
    lacking bigint;
    older bigint;
    found text;
BEGIN
    SELECT * INTO c FROM pgvmig.coverage(v.version_id, terms.max_stale_age);
    most_changed := c.missing_recent + c.outdated_recent > c.total / 2.0;
    lacking := c.missing + CASE WHEN most_changed THEN c.missing_recent ELSE 0 END;
    older := c.outdated + CASE WHEN most_changed THEN c.outdated_recent ELSE 0 END;
    found := concat_ws(' and ',
        CASE WHEN lacking > 0 THEN
            format('%s of %s rows have no vector', pgvmig.figure(lacking), pgvmig.figure(c.total)) END,
        CASE WHEN older > 0 THEN
            format('%s of %s rows have a vector of an older text', pgvmig.figure(older), pgvmig.figure(c.total)) END);
    RETURN ('coverage', found = '',
            coalesce(nullif(found, ''), format('%s rows, %s of them to be embedded still, none for longer than %s s',
                pgvmig.figure(c.total), pgvmig.figure(c.missing_recent + c.outdated_recent),
                extract(epoch FROM terms.max_stale_age)::integer)),
            format('every row that did not change in the last %s s has a vector of its text, or a recorded reason why not',
                   extract(epoch FROM terms.max_stale_age)::integer),
            format('pgvmig backfill %s %s', pgvmig.label(v.relation, v.slot), v.version),
            to_jsonb(c))::pgvmig.gate_result;
END
$$;

-- Capture: the triggers that follow the table are all there and fire always. ALTER TABLE … ENABLE TRIGGER USER, which
-- ends many a bulk load, leaves them enabled, but not for replication roles any more, and says that they were off.
CREATE OR REPLACE FUNCTION pgvmig.gate_capture(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lacking text[] := ARRAY(
        SELECT pgvmig.trigger_name(v, what) FROM unnest(ARRAY['insert', 'update', 'delete', 'truncate']) AS what
        EXCEPT
        SELECT t.tgname FROM pg_trigger t WHERE t.tgrelid = v.relation AND t.tgenabled = 'A' ORDER BY 1);
BEGIN
    RETURN ('capture', cardinality(lacking) = 0,
            CASE WHEN cardinality(lacking) = 0 THEN 'the triggers that follow the table fire always'
                 ELSE 'rows may have changed unseen: not enabled always is ' || array_to_string(lacking, ', ') END,
            'every trigger is enabled always',
            format('ALTER TABLE %s %s; then see which rows were written meanwhile', v.relation,
                   (SELECT string_agg(format('ENABLE ALWAYS TRIGGER %I', t), ', ') FROM unnest(lacking) AS t)),
            jsonb_build_object('lacking', lacking))::pgvmig.gate_result;
END
$$;

-- Privacy: where readers do not see every row, a table of vectors hides the same ones, and whoever sees none sees no vector.
-- Since the version was added row-level security may have been enabled, or the right to read the rows revoked.
CREATE OR REPLACE FUNCTION pgvmig.gate_privacy(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    leaks boolean := v.layout = 'table' AND (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = v.relation)
                     AND NOT (SELECT c.relrowsecurity FROM pg_class c WHERE c.oid = v.vector_relation);
    readers text := (
        SELECT string_agg(CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END, ', ' ORDER BY e.grantee)
        FROM (SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) AS a
              WHERE c.oid = v.vector_relation AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
              EXCEPT
              SELECT a.grantee FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
              WHERE c.oid = v.relation AND a.privilege_type = 'SELECT') AS e
        WHERE v.layout = 'table');
BEGIN
    RETURN ('privacy', NOT leaks AND readers IS NULL,
            CASE WHEN readers IS NOT NULL THEN format('%s may read %s, and not %s', readers, v.vector_relation, v.relation)
                 WHEN leaks THEN format('row-level security hides rows of %s, and not their vectors in %s', v.relation, v.vector_relation)
                 ELSE 'who may not see a row may not see its vector' END,
            'vectors are shown to nobody who may not read their rows',
            format('SELECT pgvmig.refresh_views(%L%s)', v.relation::text,
                   CASE WHEN v.slot <> 'embedding' THEN format(', slot => %L', v.slot) END),
            '{}'::jsonb)::pgvmig.gate_result;
END
$$;

-- Failed rows: each was looked at and accepted, or there are none.
CREATE OR REPLACE FUNCTION pgvmig.gate_failed(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s pgvmig.slot;
    same_key text;
    failed bigint;
BEGIN
    SELECT x.* INTO STRICT s FROM pgvmig.slot x WHERE x.relation = v.relation AND x.slot = v.slot;
    SELECT string_agg(format('o.%I = d.%I', u.queue, u.source), ' AND ') INTO same_key
    FROM unnest(s.queue_columns, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers)) AS u (queue, source);
    EXECUTE format('SELECT count(*) FROM pgvmig.%I AS o JOIN %s AS d ON %s '
                   'WHERE o.kind = ''failed'' AND o.accepted_at IS NULL '
                   'AND o.source_hash = pgvmig.source_hash(pgvmig.%I(d.*))',
                   pgvmig.fit(v.object_name || '_outcome'), v.relation, same_key, pgvmig.fit(v.object_name || '_input'))
    INTO failed;
    RETURN ('failed', failed = 0,
            CASE WHEN failed = 0 THEN 'no row failed without having been accepted'
                 WHEN failed = 1 THEN '1 row failed and was not accepted'
                 ELSE format('%s rows failed and were not accepted', pgvmig.figure(failed)) END,
            'every failed row is accepted, with a reason',
            format('pgvmig failed list %s %s', pgvmig.label(v.relation, v.slot), v.version),
            jsonb_build_object('failed', failed))::pgvmig.gate_result;
END
$$;

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
    IF others IS NULL AND v.adopted THEN
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

-- The index that a nearest-neighbour search through the version's view is planned with, NULL when none.
CREATE OR REPLACE FUNCTION pgvmig.serving_index(v pgvmig.version, contract jsonb) RETURNS regclass
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
        v.view, v.slot, pgvmig.vector_schema(), pgvmig.metric_operator(contract ->> 'metric'),
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

-- How a version is searched: settings that active_space() hands to services and that switch with it.

-- Raise for a setting that nobody knows or a value that pgvector would refuse: services would find out one by one.
CREATE OR REPLACE FUNCTION pgvmig.require_search(search jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong text;
BEGIN
    IF jsonb_typeof(search) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'search settings are an object, not %', coalesce(search::text, 'nothing')
            USING ERRCODE = 'PV010', HINT = 'such as {"ef_search": 100}';
    END IF;
    SELECT string_agg(format('%s %s', s.key, s.value), ', ' ORDER BY s.key) INTO wrong FROM jsonb_each(search) AS s
    WHERE NOT CASE s.key
        WHEN 'ef_search' THEN pgvmig.is_within(s.value, 1, 1000)
        WHEN 'probes' THEN pgvmig.is_within(s.value, 1, 32768)
        WHEN 'max_scan_tuples' THEN pgvmig.is_within(s.value, 1, 2147483647)
        WHEN 'max_probes' THEN pgvmig.is_within(s.value, 1, 32768)
        WHEN 'oversample' THEN pgvmig.is_within(s.value, 1, 100)
        WHEN 'iterative_scan' THEN s.value IN ('"off"', '"strict_order"', '"relaxed_order"')
        WHEN 'filters' THEN true
        WHEN 'hybrid' THEN true
        WHEN 'reranker' THEN true
        ELSE false END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'search settings that cannot be: %', wrong
            USING ERRCODE = 'PV010',
                  HINT = 'ef_search 1 to 1000, probes and max_probes 1 to 32768, max_scan_tuples from 1, oversample 1 to 100, '
                         || 'iterative_scan off, strict_order or relaxed_order; quantize is what the index is; filters, hybrid and reranker are the services'' own and may be anything';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.is_within(value jsonb, lowest bigint, highest bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN jsonb_typeof(value) = 'number' THEN value::numeric BETWEEN lowest AND highest AND value::numeric % 1 = 0
           ELSE false END
$$;

-- How a version is to be searched: its settings, and what its index asks for. `method`, where it is not HNSW; `quantize`: in
-- which form a search must be ordered for the index to serve it; `oversample`: how many candidates for each result a binary
-- index is asked for, to be ranked again by the vectors; `probes`, unless set: the square root of the lists, as pgvector's
-- README advises. Asked of the catalog, so that it is right from the moment on in which an index takes another's place.
CREATE OR REPLACE FUNCTION pgvmig.search_settings(v pgvmig.version) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i record;
BEGIN
    -- Most tables have plain HNSW indexes only. Every search asks: this answers in a third of the time.
    IF NOT EXISTS (SELECT FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam
                   WHERE x.indrelid = v.vector_relation
                     AND (m.amname = 'ivfflat' OR m.amname = 'hnsw' AND x.indkey[0] = 0)) THEN
        RETURN v.search;
    END IF;
    SELECT x.* INTO i FROM pgvmig.searched_index(v) AS x;
    IF i.quantize IS NULL AND i.method IS DISTINCT FROM 'ivfflat' THEN
        RETURN v.search;
    END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object(
               'oversample', CASE WHEN i.quantize = 'binary' THEN 10 END,
               'probes', CASE WHEN i.method = 'ivfflat' THEN ceil(sqrt(coalesce((i.options ->> 'lists')::integer, 100))) END))
           || v.search
           || jsonb_strip_nulls(jsonb_build_object(
               'quantize', i.quantize, 'method', CASE WHEN i.method = 'ivfflat' THEN i.method END));
END
$$;

-- Replace a version's search settings; returns whether they changed. Services that listen for switches are told when the
-- version is active.
CREATE OR REPLACE FUNCTION pgvmig.set_search(
    relation regclass, version text, search jsonb, slot text DEFAULT 'embedding', reason text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
BEGIN
    PERFORM pgvmig.require_search(search);
    PERFORM pgvmig.lock_slot($1, $4);
    v := pgvmig.find_version($1, $2, $4);
    IF v.search = set_search.search THEN
        RETURN false;
    END IF;
    UPDATE pgvmig.version x SET search = set_search.search WHERE x.version_id = v.version_id;
    PERFORM pgvmig.record_event(v, 'tune', reason, jsonb_build_object('before', v.search, 'after', set_search.search));
    IF v.state = 'active' THEN
        PERFORM pg_notify('pgvmig_switch', format('%s %s', pgvmig.label($1, $4), v.version));
    END IF;
    RETURN true;
END
$$;

REVOKE ALL ON FUNCTION pgvmig.set_search FROM PUBLIC;

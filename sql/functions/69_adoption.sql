-- What `pgvmig adopt` found about a column before it became a version: a provider was asked, which no revision does.

CREATE OR REPLACE FUNCTION pgvmig.record_adoption_look(
    relation regclass, column_name text, fingerprint text, passed boolean, checks jsonb, reason text, measured_at timestamptz
) RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pgvmig.adoption_look (relation, column_number, fingerprint, passed, checks, reason, measured_at)
    SELECT $1, a.attnum, $3, $4, $5, $6, $7 FROM pg_attribute a
    WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped
    RETURNING look_id
$$;

-- The newest look at a column under a contract, NULL when nobody has looked.
CREATE OR REPLACE FUNCTION pgvmig.adoption_look(relation regclass, column_name text, fingerprint text)
RETURNS pgvmig.adoption_look
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l FROM pgvmig.adoption_look l
    JOIN pg_attribute a ON a.attrelid = l.relation AND a.attnum = l.column_number AND NOT a.attisdropped
    WHERE l.relation = $1 AND a.attname = $2 AND l.fingerprint = $3
    ORDER BY l.look_id DESC LIMIT 1
$$;

-- What was found wrong stays a reason not to adopt, also for a revision that cannot ask the provider itself.
CREATE OR REPLACE FUNCTION pgvmig.require_passed_look(
    relation regclass, slot text, version text, column_name text, look pgvmig.adoption_look
) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong jsonb := (SELECT c FROM jsonb_array_elements(look.checks) WITH ORDINALITY AS u (c, i)
                    WHERE NOT (c ->> 'passed')::boolean AND NOT (c ->> 'skipped')::boolean ORDER BY i LIMIT 1);
BEGIN
    IF look.look_id IS NOT NULL AND NOT look.passed THEN
        RAISE EXCEPTION '% % is not adopted: % (%, % ago)', pgvmig.label(relation, slot), version, wrong ->> 'found',
            wrong ->> 'check', pgvmig.span(clock_timestamp() - look.measured_at)
            USING ERRCODE = 'PV002',
                  HINT = concat_ws('; then ', wrong ->> 'next',
                                   format('pgvmig adopt %s --version %s%s --check looks again', pgvmig.label(relation, slot),
                                          version, CASE WHEN column_name <> slot THEN ' --column ' || column_name END));
    END IF;
END
$$;

-- What the event of an adoption keeps of the look.
CREATE OR REPLACE FUNCTION pgvmig.look_detail(look pgvmig.adoption_look) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN look.look_id IS NULL THEN '{}' ELSE
        jsonb_build_object('looked_at', look.measured_at,
                           'checks', (SELECT jsonb_object_agg(c ->> 'check', c ->> 'found')
                                      FROM jsonb_array_elements(look.checks) AS c),
                           'skipped', (SELECT coalesce(jsonb_agg(c ->> 'check'), '[]')
                                       FROM jsonb_array_elements(look.checks) AS c WHERE (c ->> 'skipped')::boolean)) END
$$;

-- The adopted version's evidence that its provider makes these vectors.
CREATE OR REPLACE FUNCTION pgvmig.keep_look(version_id integer, look pgvmig.adoption_look) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pgvmig.record_evidence(v.version_id, 'identity', true, c ->> 'found', c ->> 'wanted', NULL, c -> 'measured',
                                  pgvmig.evidence_about(v, 'identity'), look.measured_at)
    FROM pgvmig.version v, jsonb_array_elements(look.checks) AS c
    WHERE v.version_id = $1 AND c ->> 'check' = 'identity' AND (c ->> 'passed')::boolean
$$;

REVOKE ALL ON FUNCTION pgvmig.record_adoption_look FROM PUBLIC;

-- The text that LlamaIndex embeds of a row of its tables (data_*): the node's metadata as its templates write them, then
-- its content. The column text has the content alone. What it keeps in _node_content has the keys in their order, in
-- jsonb as well. Values that are lists or objects are written as JSON, where Python writes its own notation. The trigger
-- calls it for every row that the application writes: what is no node's has its content, and raises nothing.
CREATE OR REPLACE FUNCTION pgvmig.llamaindex_text(metadata json, content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN coalesce(m.written, '') = '' THEN $2
           ELSE btrim(replace(replace(coalesce(n.node ->> 'text_template', E'{metadata_str}\n\n{content}'),
                                      '{metadata_str}', m.written), '{content}', coalesce($2, '')), E' \n\r\t\f\v') END
    FROM (SELECT CASE WHEN pg_input_is_valid($1 ->> '_node_content', 'json') THEN ($1 ->> '_node_content')::json END AS node) AS n
    CROSS JOIN LATERAL (
        SELECT btrim(string_agg(
                   replace(replace(coalesce(n.node ->> 'metadata_template', '{key}: {value}'), '{key}', e.key), '{value}',
                           CASE json_typeof(e.value) WHEN 'null' THEN 'None' WHEN 'boolean' THEN initcap(e.value #>> '{}')
                                ELSE e.value #>> '{}' END),
                   coalesce(n.node ->> 'metadata_seperator', n.node ->> 'metadata_separator', E'\n') ORDER BY e.i),
                   E' \n\r\t\f\v') AS written
        FROM json_each(CASE json_typeof(n.node -> 'metadata') WHEN 'object' THEN n.node -> 'metadata' END) WITH ORDINALITY AS e (key, value, i)
        WHERE e.key NOT IN (
            SELECT json_array_elements_text(CASE json_typeof(n.node -> 'excluded_embed_metadata_keys')
                                            WHEN 'array' THEN n.node -> 'excluded_embed_metadata_keys' END))
    ) AS m
$$;

CREATE OR REPLACE FUNCTION pgvmig.llamaindex_text(metadata jsonb, content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pgvmig.llamaindex_text($1::json, $2)
$$;

-- name: space
-- Which version to search, and all that a search through its own view must know. A named version, else the one that the
-- key is routed to, else the active one.
SELECT v.version, v.state, v.slot, k.definition, pgvmig.search_settings(v) AS search, v.view::oid::bigint AS view,
       n.nspname AS view_schema, w.relname AS view_name, s.key_columns,
       pgvmig.label(v.relation, v.slot) AS label,
       pgvmig.vector_schema() AS vector_schema,
       pgvmig.metric_operator(k.definition ->> 'metric') AS operator,
       (SELECT string_to_array(e.extversion, '.')::integer[] >= ARRAY[0, 8]
        FROM pg_extension e WHERE e.extname = 'vector') AS can_iterate
FROM pgvmig.version v
JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot
JOIN pgvmig.contract k ON k.fingerprint = v.fingerprint
LEFT JOIN pg_class w ON w.oid = v.view
LEFT JOIN pg_namespace n ON n.oid = w.relnamespace
WHERE v.relation = %(relation)s::oid AND v.slot = %(slot)s::text
  AND v.version = CASE
      WHEN %(version)s::text IS NOT NULL THEN %(version)s::text
      WHEN %(key)s::text IS NOT NULL THEN pgvmig.route(%(relation)s::oid::regclass, %(key)s::text, %(slot)s::text)
      ELSE (SELECT a.version FROM pgvmig.active_space(%(relation)s::oid::regclass, %(slot)s::text) AS a) END

-- name: search
-- The version's own view, so that vectors and query are of one space whatever is active by now. The first condition is
-- settled when the statement is planned: under this name there could by now be the view of another contract.
SELECT {columns}, w.{slot} OPERATOR({vector_schema}.{operator}) %(pgvmig_query)s::{vector_type} AS distance
FROM {view} AS w
WHERE {view_text}::regclass::oid = {view_oid}::oid AND ({condition})
ORDER BY distance
LIMIT %(pgvmig_limit)s

-- name: search_again
-- As above, where the index's order is not the last word: it holds smaller vectors, so that more candidates are asked for
-- than are wanted, or its scan goes on in a relaxed order. The zero has PostgreSQL sort, which takes the inner order for ours.
SELECT c.* FROM (
    SELECT {columns}, w.{slot} OPERATOR({vector_schema}.{operator}) %(pgvmig_query)s::{vector_type} AS distance
    FROM {view} AS w
    WHERE {view_text}::regclass::oid = {view_oid}::oid AND ({condition})
    ORDER BY {order}
    LIMIT %(pgvmig_limit)s::bigint * {oversample}
) AS c
ORDER BY c.distance + 0::float8
LIMIT %(pgvmig_limit)s

-- name: order
w.{slot} OPERATOR({vector_schema}.{operator}) %(pgvmig_query)s::{vector_type}

-- name: order_halfvec
w.{slot}::{halfvec}({dimensions}) OPERATOR({vector_schema}.{operator}) %(pgvmig_query)s::{halfvec}({dimensions})

-- name: order_binary
{binary_quantize}(w.{slot})::bit({dimensions}) OPERATOR({vector_schema}.<~>) {binary_quantize}(%(pgvmig_query)s::{vector_type})

-- name: is_there
-- Is it still the same view? PostgreSQL looks a name up in the catalog as it is now, whatever snapshot we read with.
SELECT coalesce(to_regclass({view_text})::oid = {view_oid}::oid, false)

-- name: may_report
-- Asked first, so that a service without the right leaves no error in the server's log.
SELECT NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::boolean
       AND has_function_privilege('pgvmig.record_outcome(regclass, text, text, float8, text)', 'EXECUTE')

-- name: report
SELECT pgvmig.record_outcome(%(relation)s::oid::regclass, u.version, 'served', u.searches, %(slot)s::text)
FROM unnest(%(versions)s::text[], %(searches)s::float8[]) AS u (version, searches)

-- name: set_local
-- For this transaction only; returns what they were before.
SELECT s.name, s.before, set_config(s.name, s.value, true)
FROM (SELECT u.name, u.value, current_setting(u.name, true) AS before
      FROM unnest(%(names)s::text[], %(values)s::text[]) AS u (name, value) OFFSET 0) AS s

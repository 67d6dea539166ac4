-- name: all_versions
-- Every version with its contract, its key columns under their present names, their types, and what compares them.
SELECT v.version_id, v.relation::oid::bigint AS relation, n.nspname AS table_schema, c.relname AS table_name, v.slot,
       v.version, v.state, v.writer, v.adopted, v.layout, k.definition,
       pgvmig.vector_schema() AS vector_schema,
       coalesce(hn.nspname, n.nspname) AS vector_table_schema, coalesce(h.relname, c.relname) AS vector_table_name,
       v.vector_column, v.version_id_column, v.source_hash_column, v.embedded_at_column, v.object_name,
       vn.nspname AS view_schema, vc.relname AS view_name,
       pgvmig.present_names(s.relation, s.key_columns, s.key_numbers) AS key_columns,
       ARRAY(SELECT format_type(a.atttypid, a.atttypmod)
             FROM unnest(pgvmig.present_names(s.relation, s.key_columns, s.key_numbers)) WITH ORDINALITY AS u (name, i)
             JOIN pg_attribute a ON a.attrelid = s.relation AND a.attname = u.name ORDER BY i) AS key_types,
       ARRAY(SELECT pgvmig.equality(s.relation, u.name)
             FROM unnest(pgvmig.present_names(s.relation, s.key_columns, s.key_numbers)) WITH ORDINALITY AS u (name, i)
             ORDER BY i) AS key_operators,
       -- who may read the whole row gives it to the input; columns are given by whoever may read only some
       CASE WHEN NOT has_table_privilege(v.relation, 'SELECT') THEN pgvmig.input_columns(v) END AS text_columns,
       pgvmig.shape(v) AS shape,
       s.queue_columns, v.activated_from, v.created_at, v.state_changed_at, v.unfinished
FROM pgvmig.version v
JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot
JOIN pgvmig.contract k ON k.fingerprint = v.fingerprint
JOIN pg_class c ON c.oid = v.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
-- gone when a version with a table of its own was retired
LEFT JOIN pg_class h ON h.oid = v.vector_relation
LEFT JOIN pg_namespace hn ON hn.oid = h.relnamespace
LEFT JOIN pg_class vc ON vc.oid = v.view
LEFT JOIN pg_namespace vn ON vn.oid = vc.relnamespace
ORDER BY v.relation::oid, v.slot, v.version_id

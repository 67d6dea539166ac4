-- What `pgvmig scaffold retire` writes down of a version before it goes, so that the way back can be read in the revision.

-- name: version_facts
-- Columns and key by the names that they have today.
SELECT pgvmig.present_names(s.relation, s.view_columns, s.view_numbers) AS columns,
       pgvmig.present_names(s.relation, s.key_columns, s.key_numbers) AS key,
       v.search, v.index_plan
FROM pgvmig.version v JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot
WHERE v.version_id = {version_id}

-- A change of a table that pgvmig's views and functions are in the way of, see sql/functions/87_table_change.sql.

-- name: begin
SELECT pgvmig.begin_table_change({relation})

-- name: end
SELECT pgvmig.end_table_change({relation}, key => {key}::text[])

-- The roles of this database.

-- name: create
SELECT pgvmig.create_roles(prefix => {prefix}, owner => {owner}, allow_superuser => {allow_superuser})

-- name: follow
-- A newer toolkit brings functions and tables that the roles of this database do not have yet.
SELECT pgvmig.keep_owner(), pgvmig.grant_roles()

-- name: drop
SELECT pgvmig.drop_roles()

-- name: lends
-- Whether we are to call the verb with the rights that pgvmig_operator is lent, having none of our own.
SELECT has_function_privilege(p.oid, 'EXECUTE') AND NOT pg_has_role(n.nspowner, 'USAGE') AS lends
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pgvmig' AND p.proname = 'operator_' || {verb}

-- name: rights
SELECT x.duty, r.name AS role, x.privilege, x.object, x.columns
FROM pgvmig.role r JOIN (
    SELECT c.duty, c.privilege, c.relation::text AS object, c.columns FROM pgvmig.control_rights() c
    UNION ALL
    SELECT v.duty, v.privilege, v.relation::text, v.columns
    FROM pgvmig.version w JOIN pg_class t ON t.oid = w.relation, pgvmig.version_rights(w) v WHERE w.state <> 'retired'
    UNION ALL
    SELECT f.duty, 'EXECUTE', f.function::text, NULL FROM pgvmig.function_rights() f
) AS x USING (duty)
ORDER BY array_position(ARRAY['reader', 'worker', 'operator', 'admin'], x.duty), x.object, x.privilege

-- The roles themselves. They belong to the whole cluster: another database may have made them, and may still need them.

-- Everything in the control schema belongs to the schema's owner, whoever ran a revision; but what follows a table must be able
-- to delete that table's vectors, so it stays where it is while the owner is no member of the table's owner.
CREATE OR REPLACE FUNCTION pgvmig.keep_owner() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner name := pgvmig.lender();
    stays text[] := ARRAY(SELECT pgvmig.fit(v.object_name || suffix) FROM pgvmig.foreign_tables(pgvmig.lender()) f
                          JOIN pgvmig.version v ON v.relation = f.relation,
                          unnest(ARRAY['_stale', '_outcome'] || pgvmig.capture_suffixes()) AS suffix);
    step text;
BEGIN
    IF NOT EXISTS (SELECT FROM pgvmig.role) THEN
        RETURN;
    END IF;
    FOR step IN
        SELECT format('ALTER %s %s OWNER TO %I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END,
                      c.oid::regclass, owner)
        FROM pg_class c
        WHERE c.relnamespace = 'pgvmig'::regnamespace AND c.relkind IN ('r', 'S', 'c')
          AND pg_get_userbyid(c.relowner) <> owner AND c.relname <> ALL (stays)
          -- an identity column's sequence goes with its table
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                            AND d.deptype IN ('a', 'i'))
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, owner)
        FROM pg_proc p
        WHERE p.pronamespace = 'pgvmig'::regnamespace AND pg_get_userbyid(p.proowner) <> owner AND p.proname <> ALL (stays)
    LOOP
        EXECUTE step;
    END LOOP;
END
$$;

-- Tables with live versions whose owners this role may not act for.
CREATE OR REPLACE FUNCTION pgvmig.foreign_tables(role_name name) RETURNS TABLE (relation regclass, owner regrole)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT c.oid::regclass, c.relowner::regrole
    FROM pgvmig.version v JOIN pg_class c ON c.oid = v.relation
    WHERE v.state <> 'retired' AND NOT pg_has_role(to_regrole(quote_ident(role_name)), c.relowner, 'USAGE')
$$;

-- Give the control schema to a role that the operator's functions may lend the rights of.
CREATE OR REPLACE FUNCTION pgvmig.hand_over(owner text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regrole(quote_ident(owner)) IS NULL THEN
        RAISE EXCEPTION 'there is no role %', quote_ident(owner)
            USING ERRCODE = 'PV003', HINT = format('CREATE ROLE %I NOLOGIN, and GRANT it the roles that own the tables', owner);
    END IF;
    EXECUTE format('ALTER SCHEMA pgvmig OWNER TO %I', owner);
END
$$;

-- Raise unless the control schema's owner may act for the owners of all tables with versions: a switch replaces their views.
CREATE OR REPLACE FUNCTION pgvmig.require_memberships() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lender name := pgvmig.lender();
    lacking text := (SELECT string_agg(format('%s of %s', f.relation, f.owner), ', ') FROM pgvmig.foreign_tables(lender) f);
BEGIN
    IF lacking IS NOT NULL THEN
        RAISE EXCEPTION '% owns the control schema, and is no member of the owners of %', lender, lacking
            USING ERRCODE = 'PV004', DETAIL = 'No operator could switch these tables: their views are their owners''.',
                  HINT = (SELECT string_agg(DISTINCT format('GRANT %s TO %I', f.owner, lender), '; ')
                          FROM pgvmig.foreign_tables(lender) f);
    END IF;
END
$$;

-- Create the roles of a prefix where they are not there yet, and grant what the duties need. Run again, it grants what is
-- missing. Returns {created, existed, warnings}.
CREATE OR REPLACE FUNCTION pgvmig.create_roles(
    prefix text DEFAULT 'pgvmig', owner text DEFAULT NULL, allow_superuser boolean DEFAULT false
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d text;
    created text[] := '{}';
    existed text[] := '{}';
    outcome jsonb;
    recorded text := (SELECT r.name FROM pgvmig.role r WHERE r.duty = 'reader');
BEGIN
    IF prefix = '' OR octet_length(prefix) > 54 THEN
        RAISE EXCEPTION 'a prefix of roles has 1 to 54 bytes' USING ERRCODE = 'PV010', HINT = 'take a shorter one';
    ELSIF recorded <> prefix || '_reader' THEN
        RAISE EXCEPTION 'this database''s roles begin with %, not with %', quote_ident(left(recorded, -7)), quote_ident(prefix)
            USING ERRCODE = 'PV004', DETAIL = 'Rights that were granted to them would be forgotten.',
                  HINT = 'op.drop_pgvmig_roles(), or pgvmig roles drop, then this again';
    END IF;
    IF owner IS NOT NULL THEN
        PERFORM pgvmig.hand_over(owner);
    END IF;
    FOREACH d IN ARRAY ARRAY['reader', 'worker', 'operator', 'admin'] LOOP
        IF pgvmig.create_role(prefix || '_' || d) THEN
            created := created || (prefix || '_' || d);
        ELSE
            existed := existed || (prefix || '_' || d);
        END IF;
        INSERT INTO pgvmig.role AS r (duty, name, as_superuser) VALUES (d, prefix || '_' || d, allow_superuser AND d = 'operator')
        ON CONFLICT ON CONSTRAINT role_pkey DO UPDATE SET as_superuser = excluded.as_superuser;
    END LOOP;
    PERFORM pgvmig.require_lendable(pgvmig.lender()), pgvmig.require_memberships(), pgvmig.keep_owner();
    PERFORM pgvmig.grant_roles();
    outcome := jsonb_build_object('created', created, 'existed', existed, 'warnings', to_jsonb(array_remove(
        ARRAY[pgvmig.join_role('admin', pgvmig.lender()), pgvmig.join_role('worker', 'pg_monitor'),
              pgvmig.join_role('operator', 'pg_monitor')], NULL)));
    PERFORM pgvmig.record_roles('create roles', outcome || jsonb_build_object('owner', pgvmig.lender(), 'as_superuser', allow_superuser));
    RETURN outcome;
END
$$;

-- For the diary: rights are no version's, so no trigger writes it.
CREATE OR REPLACE FUNCTION pgvmig.record_roles(verb text, detail jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pgvmig.event (source, verb, revision, detail)
    VALUES (coalesce(nullif(current_setting('pgvmig.source', true), ''), 'sql'), $1,
            nullif(current_setting('pgvmig.revision', true), ''), $2)
$$;

-- Whether it had to be created. A role that is there must be such a one as this would make.
CREATE OR REPLACE FUNCTION pgvmig.create_role(name text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    SELECT x.* INTO r FROM pg_roles x WHERE x.rolname = name;
    IF r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication THEN
        RAISE EXCEPTION 'role % is there already, and is more than a group of rights', quote_ident(name)
            USING ERRCODE = 'PV005',
                  DETAIL = 'It can log in, or is a superuser, or has BYPASSRLS, CREATEROLE, CREATEDB or REPLICATION.',
                  HINT = 'choose other names: op.create_pgvmig_roles(prefix="..."), or pgvmig roles create --prefix ...';
    ELSIF r.rolname IS NOT NULL THEN
        RETURN false;
    END IF;
    BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN  -- by another database, this very moment
        RETURN false;
    END;
    RETURN true;
END
$$;

-- Make a duty's role a member of another one. What could not be done, and who can, else NULL.
CREATE OR REPLACE FUNCTION pgvmig.join_role(duty text, other name) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    member text := pgvmig.role_of(duty);
    complaint text;
BEGIN
    IF duty = 'admin' AND pgvmig.too_mighty(other) IS NOT NULL THEN
        RETURN format('%s gets no rights: the control schema belongs to %I, %s', member, other, pgvmig.too_mighty(other));
    ELSIF NOT pg_has_role(to_regrole(member), other, 'MEMBER') THEN
        EXECUTE format('GRANT %I TO %s', other, member);
    END IF;
    RETURN NULL;
EXCEPTION WHEN insufficient_privilege OR invalid_grant_operation THEN
    GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT;
    RETURN format('%s is no member of %I (%s). Next: GRANT %2$I TO %1$s', member, other, complaint);
END
$$;

-- Everything that the duties need in this database, now. Nothing where it has no roles.
CREATE OR REPLACE FUNCTION pgvmig.grant_roles() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f record;
BEGIN
    PERFORM pgvmig.apply_right('GRANT', r.duty, r.relation, r.privilege, r.columns) FROM pgvmig.control_rights() r;
    FOR f IN SELECT x.function, pgvmig.role_of(x.duty) AS role_name FROM pgvmig.function_rights() x
             WHERE pgvmig.role_of(x.duty) IS NOT NULL LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f.function, f.role_name);
    END LOOP;
    IF pgvmig.role_of('worker') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SEQUENCE pgvmig.stale_entry TO %s', pgvmig.role_of('worker'));
    END IF;
    PERFORM pgvmig.grant_version(v) FROM pgvmig.version v JOIN pg_class c ON c.oid = v.relation WHERE v.state <> 'retired';
END
$$;

-- Take away what was granted in this database, and drop the roles that nothing else needs. Returns {dropped, kept: {role: why}}.
CREATE OR REPLACE FUNCTION pgvmig.drop_roles() RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    names text[] := ARRAY(SELECT r.name FROM pgvmig.role r WHERE pgvmig.role_of(r.duty) IS NOT NULL ORDER BY r.duty);
    dropped text[] := '{}';
    kept jsonb := '{}';
    why text;
    n text;
BEGIN
    PERFORM pgvmig.revoke_roles();
    DELETE FROM pgvmig.role r WHERE true;
    FOREACH n IN ARRAY names LOOP
        why := pgvmig.drop_role(n);
        IF why IS NULL THEN
            dropped := dropped || n;
        ELSE
            kept := kept || jsonb_build_object(n, why);
        END IF;
    END LOOP;
    PERFORM pgvmig.record_roles('drop roles', jsonb_build_object('dropped', dropped, 'kept', kept));
    RETURN jsonb_build_object('dropped', dropped, 'kept', kept);
END
$$;

-- The inverse of grant_roles.
CREATE OR REPLACE FUNCTION pgvmig.revoke_roles() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step text;
BEGIN
    PERFORM pgvmig.apply_right('REVOKE', r.duty, r.relation, r.privilege, r.columns) FROM pgvmig.control_rights() r;
    PERFORM pgvmig.apply_right('REVOKE', r.duty, r.relation, r.privilege, r.columns)
    FROM pgvmig.version v JOIN pg_class c ON c.oid = v.relation, pgvmig.version_rights(v) r WHERE v.state <> 'retired';
    FOR step IN
        SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM %s', x.function, pgvmig.role_of(x.duty))
        FROM pgvmig.function_rights() x WHERE pgvmig.role_of(x.duty) IS NOT NULL
        UNION ALL
        SELECT format('REVOKE USAGE ON SEQUENCE pgvmig.stale_entry FROM %s', pgvmig.role_of('worker'))
        WHERE pgvmig.role_of('worker') IS NOT NULL
        UNION ALL
        SELECT format('REVOKE USAGE ON SCHEMA %I FROM %s', n.nspname, pgvmig.role_of(r.duty))
        FROM pg_namespace n, aclexplode(n.nspacl) AS a, pgvmig.role r
        WHERE a.privilege_type = 'USAGE' AND a.grantee = to_regrole(pgvmig.role_of(r.duty))
    LOOP
        EXECUTE step;
    END LOOP;
END
$$;

-- Why a role stays; NULL when it is gone. Its members keep it, and whatever else depends on it, here or in another database.
CREATE OR REPLACE FUNCTION pgvmig.drop_role(name text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    members text := (
        SELECT string_agg(m.rolname, ', ' ORDER BY m.rolname)
        FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
        -- who creates a role may be its member ever after
        WHERE r.rolname = drop_role.name AND NOT a.admin_option);
    complaint text;
    dependents text;
BEGIN
    IF members IS NOT NULL THEN
        RETURN 'it has members: ' || members;
    END IF;
    EXECUTE format('DROP ROLE %I', name);
    RETURN NULL;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use THEN
    GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT, dependents = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(': ', complaint, nullif(replace(dependents, E'\n', '; '), ''));
END
$$;

REVOKE ALL ON FUNCTION
    pgvmig.keep_owner, pgvmig.hand_over, pgvmig.create_roles, pgvmig.create_role, pgvmig.join_role, pgvmig.grant_roles,
    pgvmig.drop_roles, pgvmig.revoke_roles, pgvmig.drop_role, pgvmig.record_roles
FROM PUBLIC;

-- A soak by taking away the right to read a version: whoever still reads it notices at once, and gets it back at once.

-- Who was granted SELECT on a relation or on a column of it, besides the owner. `depth`: of how many others' grant option
-- it lives; those are given back first, and taken away last. Roles by name: a role that is gone is missing, not another.
CREATE OR REPLACE FUNCTION pgvmig.select_grants(relation regclass)
RETURNS TABLE ("column" text, grantor text, grantee text, grantable boolean, depth integer)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE granted AS (
        SELECT NULL::text AS "column", a.grantor, a.grantee, a.is_grantable, c.relowner
        FROM pg_class c, aclexplode(c.relacl) AS a WHERE c.oid = $1 AND a.privilege_type = 'SELECT'
        UNION ALL
        SELECT t.attname::text, a.grantor, a.grantee, a.is_grantable, c.relowner
        FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped, aclexplode(t.attacl) AS a
        WHERE c.oid = $1 AND a.privilege_type = 'SELECT'
    ), chain AS (
        SELECT g.*, 0 AS depth FROM granted g WHERE g.grantor = g.relowner AND g.grantee <> g.relowner
        UNION
        SELECT g.*, c.depth + 1 FROM granted g JOIN chain c ON g.grantor = c.grantee AND c.is_grantable
          AND (c."column" IS NULL OR c."column" = g."column")
        WHERE g.grantor <> g.relowner AND g.grantee <> g.relowner AND c.depth < 100
    )
    SELECT c."column", pg_get_userbyid(c.grantor)::text,
           CASE WHEN c.grantee <> 0 THEN pg_get_userbyid(c.grantee)::text END, c.is_grantable, min(c.depth)
    FROM chain c GROUP BY 1, 2, 3, 4
$$;

-- A relation's privileges and its columns', in one order: those who were granted again stand elsewhere in the list.
CREATE OR REPLACE FUNCTION pgvmig.acl_of(relation regclass) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(each.item ORDER BY each.item) FROM (
        SELECT concat_ws(' ', a.grantor, a.grantee, a.privilege_type, a.is_grantable) AS item
        FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a WHERE c.oid = $1
        UNION ALL
        SELECT concat_ws(' ', t.attname, a.grantor, a.grantee, a.privilege_type, a.is_grantable)
        FROM pg_attribute t, aclexplode(t.attacl) AS a WHERE t.attrelid = $1 AND NOT t.attisdropped) AS each
$$;

-- What is taken away of a version: SELECT on its view, and on its table of vectors from those who do not write it, the
-- worker's roles.
CREATE OR REPLACE FUNCTION pgvmig.revocable_grants(v pgvmig.version) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'relation', format('%I.%I', n.nspname, c.relname), 'column', g."column", 'grantor', g.grantor,
               'grantee', g.grantee, 'grantable', g.grantable) ORDER BY g.depth, u.i), '[]')
    FROM unnest(ARRAY[v.view, CASE WHEN v.layout = 'table' THEN v.vector_relation END]) WITH ORDINALITY AS u (relation, i)
    JOIN pg_class c ON c.oid = u.relation
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL pgvmig.select_grants(u.relation) AS g
    WHERE u.i = 1 OR NOT EXISTS (
        SELECT FROM aclexplode(c.relacl) AS a
        WHERE a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE')
          AND CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END IS NOT DISTINCT FROM g.grantee)
$$;

-- GRANT in that order, or REVOKE in the opposite one: never with CASCADE. What a role gave on, that role gives again. Returns
-- those who are gone.
CREATE OR REPLACE FUNCTION pgvmig.apply_grants(grants jsonb, verb text) RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
    me text := current_setting('role');
    gone text[] := '{}';
    missing text;
BEGIN
    FOR g IN SELECT u.i, x.*, c.oid AS there, pg_get_userbyid(c.relowner) AS owner
             FROM jsonb_array_elements(grants) WITH ORDINALITY AS u (item, i),
                  jsonb_to_record(u.item) AS x (relation text, "column" text, grantor text, grantee text, grantable boolean),
                  pg_class c
             WHERE c.oid = to_regclass(x.relation)
             ORDER BY CASE verb WHEN 'GRANT' THEN u.i ELSE -u.i END
    LOOP
        missing := (SELECT string_agg(DISTINCT m, ', ') FROM unnest(ARRAY[g.grantor, g.grantee]) AS m
                    WHERE m IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = m));
        IF missing IS NOT NULL THEN
            gone := gone || missing;
            CONTINUE;
        END IF;
        IF g.grantor <> g.owner THEN
            EXECUTE format('SET LOCAL ROLE %I', g.grantor);
        END IF;
        EXECUTE format('%s SELECT%s ON %s %s %s%s', verb, '(' || quote_ident(g."column") || ')', g.relation,
                       CASE verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, coalesce(quote_ident(g.grantee), 'PUBLIC'),
                       CASE WHEN verb = 'GRANT' AND g.grantable THEN ' WITH GRANT OPTION' ELSE '' END);
        PERFORM set_config('role', me, true);
    END LOOP;
    RETURN gone;
END
$$;

-- Who can read a view whatever is granted: its owner, superusers, and members of roles that read all data.
CREATE OR REPLACE FUNCTION pgvmig.readers_left(view regclass) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(r.rolname::text ORDER BY r.rolname), '{}')
    FROM pg_roles r WHERE r.rolcanlogin AND has_table_privilege(r.oid, view, 'SELECT')
$$;

-- Take the right to read a version away from everybody but the owner. That it can be given back exactly is tried first.
CREATE OR REPLACE FUNCTION pgvmig.revoke_reading(
    relation regclass, version text, slot text DEFAULT 'embedding', reason text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
    grants jsonb;
    before text;
    complaint text;
    outcome jsonb;
BEGIN
    PERFORM pgvmig.lock_slot($1, $3);
    v := pgvmig.find_version($1, $2, $3);
    PERFORM pgvmig.require_left(v);
    IF v.state = 'retired' THEN
        RAISE EXCEPTION '% % is retired', pgvmig.label($1, $3), $2 USING ERRCODE = 'PV004', HINT = 'pgvmig status';
    ELSIF EXISTS (SELECT FROM pgvmig.revoked_view r WHERE r.version_id = v.version_id) THEN
        RETURN jsonb_build_object('changed', false, 'version', v.version);
    END IF;
    grants := pgvmig.revocable_grants(v);
    IF jsonb_array_length(grants) = 0 THEN
        RAISE EXCEPTION 'nobody was granted SELECT on %: there is no right to take away', v.view
            USING ERRCODE = 'PV004',
                  DETAIL = 'Its owner and superusers can read it anyway, so a soak of this kind would prove nothing',
                  HINT = format('pgvmig retire %s %s --check says what else could', pgvmig.label($1, $3), $2);
    END IF;
    BEGIN
        before := concat_ws(' ', pgvmig.acl_of(v.view), pgvmig.acl_of(v.vector_relation));
        PERFORM pgvmig.apply_grants(grants, 'REVOKE'), pgvmig.apply_grants(grants, 'GRANT');
        IF concat_ws(' ', pgvmig.acl_of(v.view), pgvmig.acl_of(v.vector_relation)) <> before THEN
            RAISE EXCEPTION 'privileges would not be what they are';
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'PVTRY', MESSAGE = 'it can be done';
    EXCEPTION
        WHEN SQLSTATE 'PVTRY' THEN
            NULL;  -- and everything is as it was
        WHEN insufficient_privilege OR raise_exception OR dependent_objects_still_exist THEN
            GET STACKED DIAGNOSTICS complaint = MESSAGE_TEXT;
            RAISE EXCEPTION 'what % was granted could not be given back by %: %', v.view, current_user, complaint
                USING ERRCODE = 'PV004',
                      DETAIL = 'What a role passed on with its grant option, only that role can pass on again.',
                      HINT = 'run this as a superuser, or as a member of every role that passed it on';
    END;
    PERFORM pgvmig.apply_grants(grants, 'REVOKE');
    INSERT INTO pgvmig.revoked_view (version_id, grants) VALUES (v.version_id, grants);
    PERFORM pgvmig.read_index_scans(v);
    outcome := jsonb_build_object(
        'changed', true, 'version', v.version, 'readers_left', pgvmig.readers_left(v.view),
        'revoked', (SELECT jsonb_agg(DISTINCT coalesce(g ->> 'grantee', 'PUBLIC')) FROM jsonb_array_elements(grants) AS g));
    PERFORM pgvmig.record_event(v, 'revoke reading', reason, outcome || jsonb_build_object('grants', grants));
    RETURN outcome;
END
$$;

-- Give it back; NULL when nothing was taken away. `gone`: roles that are no more. A switch to the version calls this first:
-- a rollback at night must not lead to a version that nobody may read.
CREATE OR REPLACE FUNCTION pgvmig.give_back(v pgvmig.version, reason text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r pgvmig.revoked_view;
    outcome jsonb;
BEGIN
    DELETE FROM pgvmig.revoked_view x WHERE x.version_id = v.version_id RETURNING x.* INTO r;
    IF r.version_id IS NULL THEN
        RETURN NULL;
    END IF;
    outcome := jsonb_build_object('changed', true, 'version', v.version,
                                  'gone', to_jsonb(pgvmig.apply_grants(r.grants, 'GRANT')),
                                  'restored', jsonb_array_length(r.grants));
    IF v.layout = 'table' AND NOT (pgvmig.gate_privacy(v, NULL)).passed THEN
        PERFORM pgvmig.dress_vectors(v);  -- the right to read the rows was taken away meanwhile
    END IF;
    PERFORM pgvmig.grant_version(v);  -- and columns that were added since
    PERFORM pgvmig.record_event(v, 'give back reading', reason, outcome);
    RETURN outcome;
END
$$;

-- The verb that undoes revoke_reading.
CREATE OR REPLACE FUNCTION pgvmig.restore_reading(
    relation regclass, version text, slot text DEFAULT 'embedding', reason text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
BEGIN
    PERFORM pgvmig.lock_slot($1, $3);
    v := pgvmig.find_version($1, $2, $3);
    RETURN coalesce(pgvmig.give_back(v, reason), jsonb_build_object('changed', false, 'version', v.version));
END
$$;

REVOKE ALL ON FUNCTION
    pgvmig.apply_grants, pgvmig.revoke_reading, pgvmig.give_back, pgvmig.restore_reading
FROM PUBLIC;

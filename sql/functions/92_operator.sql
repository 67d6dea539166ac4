-- What runs with the rights of the control schema's owner, for roles that own nothing.

-- Why it would be dangerous to lend this role's rights: NULL when it is not. The gates run the input's functions, which the
-- table's owner may replace at any time; what those may do must not be everything.
CREATE OR REPLACE FUNCTION pgvmig.too_mighty(role_name name) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN r.rolsuper THEN 'a superuser' ELSE (
        SELECT 'a member of ' || string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_roles m
        WHERE (m.rolsuper OR m.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files'))
          AND pg_has_role(r.oid, m.oid, 'MEMBER')) END
    FROM pg_roles r WHERE r.rolname = $1
$$;

-- Whose rights the operator's functions lend.
CREATE OR REPLACE FUNCTION pgvmig.lender() RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = 'pgvmig'
$$;

-- Raise unless rights may be lent by that role.
CREATE OR REPLACE FUNCTION pgvmig.require_lendable(role_name name) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    why text := pgvmig.too_mighty(role_name);
BEGIN
    IF why IS NOT NULL AND NOT EXISTS (SELECT FROM pgvmig.role r WHERE r.duty = 'operator' AND r.as_superuser) THEN
        RAISE EXCEPTION 'operators would act with the rights of %, which is %', role_name, why
            USING ERRCODE = 'PV011',
                  DETAIL = 'A cutover runs the functions that the input calls. Whoever owns those could become superuser when '
                           || 'an operator switches.',
                  HINT = 'give the control schema to a role that is a member of the tables'' owners and no more: '
                         || 'op.create_pgvmig_roles(owner="..."), or pgvmig roles create --owner ...';
    END IF;
END
$$;

-- The verbs for members of pgvmig_operator. What they do is in 60_switch.sql and 85_route.sql; the gates are asked as ever.
CREATE OR REPLACE FUNCTION pgvmig.operator_cut_over(
    relation regclass, version text, slot text DEFAULT 'embedding', max_stale_age interval DEFAULT '60 s',
    skip text[] DEFAULT '{}', reason text DEFAULT NULL, max_evidence_age interval DEFAULT '24 h'
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_lendable(current_user);
    RETURN pgvmig.cut_over($1, $2, $3, $4, $5, $6, $7);
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.operator_roll_back(
    relation regclass, version text DEFAULT NULL, slot text DEFAULT 'embedding', max_stale_age interval DEFAULT '60 s',
    skip text[] DEFAULT '{}', reason text DEFAULT NULL, max_evidence_age interval DEFAULT '24 h'
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_lendable(current_user);
    RETURN pgvmig.roll_back($1, $2, $3, $4, $5, $6, $7);
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.operator_set_route(
    relation regclass, version text, percent numeric DEFAULT NULL, slot text DEFAULT 'embedding',
    add_keys text[] DEFAULT '{}', remove_keys text[] DEFAULT '{}', max_stale_age interval DEFAULT '60 s',
    skip text[] DEFAULT '{}', reason text DEFAULT NULL, max_evidence_age interval DEFAULT '24 h'
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_lendable(current_user);
    RETURN pgvmig.set_route($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
END
$$;

CREATE OR REPLACE FUNCTION pgvmig.operator_unroute(
    relation regclass, version text DEFAULT NULL, slot text DEFAULT 'embedding', reason text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_lendable(current_user);
    RETURN pgvmig.unroute($1, $2, $3, $4);
END
$$;

-- The gates of a switch, without switching.
CREATE OR REPLACE FUNCTION pgvmig.operator_check_gates(version_id integer, terms pgvmig.gate_terms)
RETURNS SETOF pgvmig.gate_result
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_lendable(current_user);
    RETURN QUERY SELECT * FROM pgvmig.check_gates($1, $2);
END
$$;

-- How far a version is, as figures.
CREATE OR REPLACE FUNCTION pgvmig.operator_coverage(
    version_id integer, max_stale_age interval DEFAULT '60 s',
    OUT total bigint, OUT embedded bigint, OUT missing bigint, OUT missing_recent bigint,
    OUT outdated bigint, OUT outdated_recent bigint, OUT empty bigint, OUT failed bigint, OUT accepted bigint
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_lendable(current_user);
    SELECT c.* INTO total, embedded, missing, missing_recent, outdated, outdated_recent, empty, failed, accepted
    FROM pgvmig.coverage($1, $2) AS c;
END
$$;

-- Whether a table that has versions has rows: what guards a switch depends on it. Runs nothing of anybody's.
CREATE OR REPLACE FUNCTION pgvmig.has_rows(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    answer boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM pgvmig.slot s WHERE s.relation = $1) THEN
        RAISE EXCEPTION '% has no versions', $1 USING ERRCODE = 'PV003', HINT = 'op.add_embedding adds one';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', $1) INTO answer;
    RETURN answer;
END
$$;

-- The only steps of the lifecycle that are a worker's own. They run nothing of the user's, whoever's rights they are.
CREATE OR REPLACE FUNCTION pgvmig.begin_backfill(version_id integer) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT set_config('pgvmig.source', 'worker', true), set_config('pgvmig.verb', 'backfill', true);
    UPDATE pgvmig.version v SET state = 'backfilling' WHERE v.version_id = $1 AND v.state = 'added'
$$;

CREATE OR REPLACE FUNCTION pgvmig.become_ready(version_id integer) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT set_config('pgvmig.source', 'worker', true), set_config('pgvmig.verb', 'backfill', true);
    UPDATE pgvmig.version v SET state = 'ready'
    WHERE v.version_id = $1 AND v.state IN ('added', 'backfilling')
      AND EXISTS (SELECT FROM pgvmig.backfill b WHERE b.version_id = v.version_id AND b.walked)
$$;

-- Who throttles is whoever is connected, whatever is written.
CREATE OR REPLACE FUNCTION pgvmig.sign_throttle() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    NEW.changed_by := session_user;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER signed BEFORE INSERT OR UPDATE ON pgvmig.throttle
    FOR EACH ROW EXECUTE FUNCTION pgvmig.sign_throttle();

REVOKE ALL ON FUNCTION
    pgvmig.operator_cut_over, pgvmig.operator_roll_back, pgvmig.operator_set_route, pgvmig.operator_unroute,
    pgvmig.operator_check_gates, pgvmig.operator_coverage, pgvmig.has_rows, pgvmig.begin_backfill, pgvmig.become_ready
FROM PUBLIC;

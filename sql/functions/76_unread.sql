-- Proof that nobody reads a version any more: how often its vector indexes had been scanned, on the primary and on the
-- standbys, less our own scans; and where that says nothing, the calls that pg_stat_statements counted.

-- What matches the version's view where a text names it.
CREATE OR REPLACE FUNCTION pgvmig.view_pattern(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '(^|[^[:alnum:]_$])' || regexp_replace(c.relname, '([^[:alnum:]_])', '\\\1', 'g') || '($|[^[:alnum:]_$])'
    FROM pg_class c WHERE c.oid = v.view
$$;

-- How often queries that name the version's view were called, and the most frequent one of them; NULL where
-- pg_stat_statements is not there, is not loaded, or shows this role only its own queries.
CREATE OR REPLACE FUNCTION pgvmig.view_calls(v pgvmig.version, OUT calls bigint, OUT query text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    statements text := (
        -- the extension's own view, and no other that somebody called so
        SELECT format('%I.%I', n.nspname, c.relname) FROM pg_extension e
        JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relname = 'pg_stat_statements'
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE e.extname = 'pg_stat_statements');
BEGIN
    IF statements IS NULL OR NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN
        RETURN;
    END IF;
    EXECUTE format($query$
        SELECT coalesce(sum(s.calls), 0)::bigint,
               (array_agg(regexp_replace(left(s.query, 100), '\s+', ' ', 'g') ORDER BY s.calls DESC))[1]
        FROM %s AS s
        WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
          AND s.query ~ $1
          -- DDL names the view as well, and EXPLAIN reads nothing
          AND s.query ~* '^\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*[(]?\s*(select|with|declare|copy|table|execute)\M'
        $query$, statements)
    INTO calls, query USING pgvmig.view_pattern(v);
EXCEPTION WHEN object_not_in_prerequisite_state THEN  -- not in shared_preload_libraries
    RETURN;
END
$$;

-- Who reads the version's view in this moment, and who may have: sessions that hold a lock on it in a transaction, and
-- those whose last query names it. Of a superuser's or pg_read_all_stats' sight.
CREATE OR REPLACE FUNCTION pgvmig.view_sessions(v pgvmig.version, OUT readers text, OUT suspects text)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    WITH session AS (
        SELECT format('session %s (%s)', a.pid,
                      concat_ws(', ', a.usename, nullif(a.application_name, ''), a.client_addr)) AS name,
               EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
                         AND l.database = a.datid AND l.relation = v.view) AS reads,
               a.query ~ pgvmig.view_pattern(v) AND a.application_name NOT LIKE 'pgvmig%' AS named_it, a.pid
        FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.leader_pid IS NULL
    )
    SELECT string_agg(s.name, ', ' ORDER BY s.pid) FILTER (WHERE s.reads),
           string_agg(s.name, ', ' ORDER BY s.pid) FILTER (WHERE s.named_it)
    FROM session s
$$;

-- A reading of the server that this runs on, a standby as well. `last_scan` is PostgreSQL 16's: NULL before that, and
-- -infinity where nobody ever scanned. `counted_since` differs whenever the counting began anew, be it by a reset, a
-- crash, or because another server answers: a crash sets all of the fixed times anew, a reset of one of them only that one.
CREATE OR REPLACE FUNCTION pgvmig.index_scans(
    version_id integer,
    OUT indexes oid[], OUT scans bigint, OUT last_scan timestamptz, OUT calls bigint, OUT counted_since timestamptz,
    OUT readers text, OUT suspects text
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v pgvmig.version;
    query text;
BEGIN
    PERFORM pg_stat_clear_snapshot();  -- what this transaction has looked at before must not be what it sees now
    SELECT x.* INTO STRICT v FROM pgvmig.version x WHERE x.version_id = $1;
    SELECT coalesce(array_agg(s.indexrelid ORDER BY s.indexrelid), '{}'), coalesce(sum(s.idx_scan), 0),
           max(CASE WHEN to_jsonb(s) ? 'last_idx_scan'
                    THEN coalesce((to_jsonb(s) ->> 'last_idx_scan')::timestamptz, '-infinity') END)
    INTO indexes, scans, last_scan
    FROM pg_stat_all_indexes s WHERE s.indexrelid IN (SELECT pgvmig.leaves(i.index) FROM pgvmig.vector_indexes(v) i);
    SELECT greatest(least(b.stats_reset, a.stats_reset, w.stats_reset), d.stats_reset) INTO counted_since
    FROM pg_stat_bgwriter b, pg_stat_archiver a, pg_stat_wal w, pg_stat_database d
    WHERE d.datname = current_database();
    SELECT c.calls, c.query INTO calls, query FROM pgvmig.view_calls(v) c;
    SELECT x.readers, x.suspects INTO readers, suspects FROM pgvmig.view_sessions(v) x;
    suspects := nullif(concat_ws(', ', suspects, 'pg_stat_statements: ' || query), '');
END
$$;

-- The reading of a standby was made there, and is kept here; so is why there is none.
CREATE OR REPLACE FUNCTION pgvmig.record_reading(
    version_id integer, server text, indexes oid[], scans bigint, last_scan timestamptz, calls bigint,
    counted_since timestamptz, readers text, suspects text, problem text DEFAULT NULL
) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pgvmig.index_reading
        (version_id, server, indexes, scans, own_scans, last_scan, calls, counted_since, readers, suspects, problem)
    VALUES ($1, $2, $3, $4,
            -- we search on the primary only
            CASE WHEN $2 = 'primary' THEN (SELECT coalesce(sum(o.scans), 0) FROM pgvmig.own_index_scan o
                                           WHERE o.version_id = $1) ELSE 0 END,
            $5, $6, $7, $8, $9, $10)
$$;

-- Read the primary, in whose transaction this runs. A switch does it for the version that it leaves: there the soak begins.
-- No statistics are worth a rollback that fails: what goes wrong is the reading's problem.
CREATE OR REPLACE FUNCTION pgvmig.read_index_scans(v pgvmig.version) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.record_reading(v.version_id, 'primary', r.indexes, r.scans, r.last_scan, r.calls, r.counted_since,
                                  r.readers, r.suspects)
    FROM pgvmig.index_scans(v.version_id) AS r;
EXCEPTION WHEN OTHERS THEN
    PERFORM pgvmig.record_reading(v.version_id, 'primary', NULL, NULL, NULL, NULL, NULL, NULL, NULL, SQLERRM);
END
$$;

-- Since when, by a server's readings, nobody but us has scanned the indexes (`what` is scans) or called a query that names
-- the view (calls): the earliest of those readings that show what the latest shows, without one between them that
-- does not. `number` more than at `seen_from` were counted until then. `void`: the counting began anew before that.
CREATE OR REPLACE FUNCTION pgvmig.unread_since(
    latest pgvmig.index_reading, what text, not_before timestamptz,
    OUT since timestamptz, OUT number bigint, OUT seen_from timestamptz, OUT void boolean
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r pgvmig.index_reading;
    more bigint;
BEGIN
    since := latest.read_at;
    void := false;
    FOR r IN SELECT x.* FROM pgvmig.index_reading x
             WHERE x.version_id = latest.version_id AND x.server = latest.server AND x.problem IS NULL
               AND x.read_at <= latest.read_at AND x.read_at >= not_before AND (what = 'scans' OR x.calls IS NOT NULL)
             ORDER BY x.read_at DESC, x.reading_id DESC
    LOOP
        void := CASE what
            -- an index that was made since, as a new partition's is, counts from nothing; of one that is gone nobody knows
            WHEN 'scans' THEN r.counted_since IS DISTINCT FROM latest.counted_since OR NOT r.indexes <@ latest.indexes
                              OR r.scans > latest.scans
            ELSE r.calls > latest.calls END;
        more := CASE what WHEN 'scans' THEN latest.scans - latest.own_scans - (r.scans - r.own_scans)
                          ELSE latest.calls - r.calls END;
        IF void THEN
            seen_from := r.read_at;
            EXIT;
        ELSIF more > 0 THEN
            number := more;
            seen_from := r.read_at;
            EXIT;
        END IF;
        since := r.read_at;
    END LOOP;
    IF what = 'scans' AND latest.last_scan IS NOT NULL THEN
        -- PostgreSQL's own word, which needs no reading of ours; of indexes that were replaced it says nothing
        since := least(since, greatest(latest.last_scan, latest.counted_since, CASE WHEN void THEN seen_from END));
    END IF;
END
$$;

-- What a server's latest reading shows: `quiet` (nobody read it for the soak time), `read`, `unproven` (too short a time is
-- covered) or `untold` (this server cannot say). Only the two last ones may be made up for by taking the right to read.
CREATE OR REPLACE FUNCTION pgvmig.judge_reading(
    v pgvmig.version, latest pgvmig.index_reading, soak interval,
    OUT verdict text, OUT said text, OUT since timestamptz
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    beginning timestamptz := clock_timestamp() - soak;
    indexed boolean := cardinality(latest.indexes) > 0;
    s record;
    c record;
    ours boolean;
BEGIN
    IF latest.readers IS NOT NULL THEN
        verdict := 'read';
        said := format('%s: %s reads %s now', latest.server, latest.readers, v.view);
        RETURN;
    END IF;
    -- a search that was under way when it was left is no reader: pg_stat_statements counts it, and an index's last scan tells
    SELECT * INTO c FROM pgvmig.unread_since(latest, 'calls', v.state_changed_at
                                             + CASE WHEN indexed THEN interval '1 min' ELSE '0' END);
    -- and verify and evaluate search as services do: where they did, the index must tell
    IF latest.calls IS NOT NULL AND c.number > 0 AND c.since > beginning AND NOT (indexed AND EXISTS (
        SELECT FROM pgvmig.own_index_scan o WHERE o.version_id = v.version_id AND o.at >= c.seen_from))
    THEN
        verdict := 'read';
        since := c.since;
        said := format('%s: queries that name %s were called %s times since %s', latest.server, v.view,
                        pgvmig.figure(c.number), pgvmig.moment(c.seen_from));
        RETURN;
    ELSIF NOT indexed AND latest.calls IS NULL THEN
        verdict := 'untold';
        said := format('%s: %s has no vector index whose scans would be counted, and pg_stat_statements is not there to '
                        'count queries', latest.server, v.version);
        RETURN;
    ELSIF NOT indexed THEN
        since := c.since;
        verdict := CASE WHEN since <= beginning THEN 'quiet' ELSE 'unproven' END;
        said := format('%s: no query named %s since %s', latest.server, v.view, pgvmig.moment(since));
        RETURN;
    END IF;
    SELECT * INTO s FROM pgvmig.unread_since(latest, 'scans', v.state_changed_at);
    since := s.since;
    ours := latest.server = 'primary' AND EXISTS (
        SELECT FROM pgvmig.own_index_scan o WHERE o.version_id = v.version_id AND o.at >= latest.last_scan - interval '1 min');
    IF since <= beginning THEN
        verdict := 'quiet';
        said := format('%s: no index scan since %s', latest.server, pgvmig.moment(since));
    ELSIF s.number > 0 OR latest.last_scan > beginning AND NOT ours THEN
        verdict := 'read';
        said := format('%s: %s', latest.server, CASE
            WHEN s.number > 0 THEN format('its index was scanned %s times since %s%s', pgvmig.figure(s.number),
                pgvmig.moment(s.seen_from), ', the last time at ' || pgvmig.moment(nullif(latest.last_scan, '-infinity')))
            ELSE 'its index was last scanned at ' || pgvmig.moment(latest.last_scan) END);
    ELSE
        verdict := 'unproven';
        said := format('%s: %s', latest.server, CASE
            WHEN s.void THEN format('the counting began anew after %s (a reset, a crash, a failover, another index): '
                                    'a new baseline was taken at %s', pgvmig.moment(s.seen_from), pgvmig.moment(since))
            ELSE format('nobody but pgvmig scanned its index since %s, and that is as far as it is known', pgvmig.moment(since))
            END);
    END IF;
END
$$;

-- A time as messages say it.
CREATE OR REPLACE FUNCTION pgvmig.moment(at timestamptz) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN to_char(at, 'YYYY-MM-DD HH24:MI:SS');

-- Every server's judgement: the primary as it is now, standbys as they were read a moment ago, and those that cannot be.
CREATE OR REPLACE FUNCTION pgvmig.judge_servers(v pgvmig.version, soak interval)
RETURNS TABLE (server text, verdict text, said text, since timestamptz, suspects text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    declared record;
    latest pgvmig.index_reading;
BEGIN
    PERFORM pgvmig.read_index_scans(v);
    FOR declared IN SELECT 'primary' AS name, '' AS dsn, 0 AS place
                    UNION ALL SELECT s.name, s.dsn, 1 FROM pgvmig.standby s ORDER BY place, name LOOP
        SELECT r.* INTO latest FROM pgvmig.index_reading r
        WHERE r.version_id = v.version_id AND r.server = declared.name ORDER BY r.read_at DESC, r.reading_id DESC LIMIT 1;
        server := declared.name;
        suspects := latest.suspects;
        IF declared.dsn IS NULL THEN
            verdict := 'untold';
            said := format('%s has no DSN, nobody can ask it', server);
        ELSIF latest.problem IS NOT NULL THEN
            verdict := 'untold';
            said := format('%s: %s', server, latest.problem);
        ELSIF latest.read_at IS NULL OR latest.read_at < clock_timestamp() - interval '10 min' THEN
            verdict := 'untold';
            said := format('%s was %s', server,
                            coalesce('last read at ' || pgvmig.moment(latest.read_at), 'never read'));
        ELSE
            SELECT j.verdict, j.said, j.since INTO verdict, said, since FROM pgvmig.judge_reading(v, latest, soak) j;
        END IF;
        RETURN NEXT;
    END LOOP;
    verdict := 'untold';
    since := NULL;
    suspects := NULL;
    FOR server IN SELECT DISTINCT r.application_name FROM pg_stat_replication r
                  WHERE r.replay_lsn IS NOT NULL AND r.application_name NOT IN (SELECT s.name FROM pgvmig.standby s)
                    AND NOT EXISTS (SELECT FROM pg_replication_slots l
                                    WHERE l.active_pid = r.pid AND l.slot_type = 'logical') LOOP
        said := format('%s streams from here and is not declared', server);
        RETURN NEXT;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pgvmig.standby) AND NOT (SELECT i.no_standbys FROM pgvmig.installation i) THEN
        server := NULL;
        said := 'nobody has declared whether there are standbys';
        RETURN NEXT;
    END IF;
END
$$;

-- Soak: it was left long enough ago that what came of it has shown.
CREATE OR REPLACE FUNCTION pgvmig.retire_gate_soak(v pgvmig.version, soak interval) RETURNS pgvmig.gate_result
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'soak', clock_timestamp() >= v.state_changed_at + soak,
           format('it was left %s ago, at %s', pgvmig.span(clock_timestamp() - v.state_changed_at),
                  pgvmig.moment(v.state_changed_at)),
           'left at least ' || pgvmig.span(soak) || ' ago',
           format('run this again after %s, or say a shorter soak: %s', pgvmig.moment(v.state_changed_at + soak),
                  CASE WHEN current_setting('pgvmig.source', true) = 'alembic'
                       THEN format('alembic -x pgvmig_soak=%s.%s:1h upgrade ...', pgvmig.label(v.relation, v.slot), v.version)
                       ELSE format('pgvmig retire %s %s --soak 1h', pgvmig.label(v.relation, v.slot), v.version) END),
           jsonb_build_object('left_at', v.state_changed_at, 'soak_seconds', extract(epoch FROM soak))
$$;

-- Unused: for the soak time nobody but us has read it, on any server; or nobody could, and nobody missed it.
CREATE OR REPLACE FUNCTION pgvmig.retire_gate_unused(v pgvmig.version, soak interval) RETURNS pgvmig.gate_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    command text := format('pgvmig retire %s %s', pgvmig.label(v.relation, v.slot), v.version);
    revoked_at timestamptz := (SELECT r.revoked_at FROM pgvmig.revoked_view r WHERE r.version_id = v.version_id);
    revoked boolean := coalesce(revoked_at <= clock_timestamp() - soak, false);
    functions text := (
        SELECT string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid) FROM pg_proc p
        WHERE p.prosrc ~ pgvmig.view_pattern(v)
          AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'pgvmig'::regnamespace));
    judged jsonb;
    reading text;
    lacking text;
    suspects text;
    proven_at timestamptz;
BEGIN
    IF soak <= interval '0' THEN
        RETURN ('unused', true, 'no proof is asked for', 'none', NULL, '{}'::jsonb)::pgvmig.gate_result;
    END IF;
    SELECT jsonb_agg(to_jsonb(j) - 'suspects'), string_agg(j.said, '; ') FILTER (WHERE j.verdict = 'read'),
           string_agg(j.said, '; ') FILTER (WHERE j.verdict IN ('unproven', 'untold')),
           string_agg(j.suspects, ', ') FILTER (WHERE j.verdict = 'read'),
           max(j.since) FILTER (WHERE j.verdict IN ('unproven', 'quiet')) + soak
    INTO judged, reading, lacking, suspects, proven_at FROM pgvmig.judge_servers(v, soak) j;
    reading := concat_ws('; ', reading, 'the text of ' || functions || ' names ' || v.view);
    RETURN ('unused', reading = '' AND (lacking IS NULL OR revoked),
            CASE WHEN reading <> '' THEN reading
                 WHEN lacking IS NOT NULL AND NOT revoked THEN lacking
                 WHEN lacking IS NOT NULL THEN format('the right to read it was taken away %s ago and nobody had it given back',
                                                      pgvmig.span(clock_timestamp() - revoked_at))
                 ELSE (SELECT string_agg(j.said, '; ') FROM jsonb_to_recordset(judged) AS j (said text)) END,
            format('nobody but pgvmig has read it for %s, on the primary and on every standby', pgvmig.span(soak)),
            CASE WHEN reading <> '' THEN
                     format('find who reads it%s, point them at the current view, then run this again: the time begins anew',
                            coalesce(' (' || suspects || ')', ''))
                 WHEN revoked_at IS NOT NULL THEN
                     format('the right to read it is taken away since %s; run this again after %s', pgvmig.moment(revoked_at),
                            pgvmig.moment(revoked_at + soak))
                 WHEN judged @> '[{"verdict": "untold"}]' THEN
                     format('%s, or see who misses it: %s --revoke; or %s --skip unused --reason ''...''',
                            CASE WHEN judged @> '[{"server": null}]'
                                 THEN 'pgvmig standby add NAME --standby-dsn ..., or pgvmig standby none'
                                 WHEN judged @> '[{"server": "primary", "verdict": "untold"}]'
                                 THEN 'CREATE EXTENSION pg_stat_statements'
                                 ELSE 'pgvmig standby add NAME --standby-dsn ... for each, then ' || command || ' --check' END,
                            command, command)
                 ELSE 'run this again after ' || pgvmig.moment(proven_at) END,
            jsonb_build_object('servers', judged, 'revoked_at', revoked_at))::pgvmig.gate_result;
END
$$;

-- What must hold before a version that served is retired, as the active one or a share of the keys; none for others, and
-- none while the table is empty. The time begins when it was left, or when its route was last changed.
CREATE OR REPLACE FUNCTION pgvmig.check_retire_gates(version_id integer, soak interval) RETURNS SETOF pgvmig.gate_result
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version;
    has_rows boolean;
    routed_at timestamptz;
BEGIN
    SELECT x.* INTO STRICT v FROM pgvmig.version x WHERE x.version_id = $1;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', v.relation) INTO has_rows;
    SELECT max(e.at) FILTER (WHERE e.verb = 'route') INTO routed_at FROM pgvmig.event e
    WHERE e.relation = pgvmig.label(v.relation, 'embedding') AND e.slot = v.slot AND e.version = v.version
      AND NOT EXISTS (SELECT FROM pgvmig.event a  -- of an earlier life
                      WHERE (a.relation, a.slot, a.version, a.to_state) = (e.relation, e.slot, e.version, 'added')
                        AND a.event_id > e.event_id);
    IF has_rows AND (v.state = 'retained' OR routed_at IS NOT NULL) THEN
        v.state_changed_at := greatest(v.state_changed_at, routed_at);
        RETURN NEXT pgvmig.retire_gate_soak(v, soak);
        RETURN NEXT pgvmig.retire_gate_unused(v, soak);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION pgvmig.record_reading, pgvmig.read_index_scans FROM PUBLIC;

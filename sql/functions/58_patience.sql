-- Run one DDL statement under a short lock_timeout, again and again with a random pause in between: a lock that waits
-- makes everybody behind it wait as well. Kills nobody; raises lock_not_available when the attempts are used up.
-- Names in the statement are read with the caller's search_path: a default is evaluated there.
CREATE OR REPLACE FUNCTION pgvmig.execute_patiently(
    statement text, lock_timeout interval DEFAULT '100 ms', attempts integer DEFAULT 50,
    path text DEFAULT pg_catalog.current_setting('search_path')
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    milliseconds text := (extract(epoch FROM execute_patiently.lock_timeout) * 1000)::integer::text;
    before text := current_setting('lock_timeout');
BEGIN
    FOR attempt IN 1..attempts LOOP
        BEGIN
            PERFORM set_config('lock_timeout', milliseconds, true), set_config('search_path', path, true);
            EXECUTE statement;
            PERFORM pg_catalog.set_config('lock_timeout', before, true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF attempt = attempts THEN
                RAISE EXCEPTION 'no lock in % attempts of % ms each', attempts, milliseconds
                    USING ERRCODE = 'lock_not_available', DETAIL = statement,
                          HINT = 'find who holds it (pg_blocking_pids, pg_stat_activity.xact_start), then run this again; '
                                 || 'nothing was changed';
            END IF;
        END;
        PERFORM pg_sleep(0.05 + random() * 0.2);
    END LOOP;
END
$$;

-- Every verb begins with this: one of them at a time changes what a slot's searches find. Writes the row, so that in a
-- REPEATABLE READ or SERIALIZABLE transaction that began before another verb ended it raises 40001: what such a one still
-- sees as active is not any more. Nobody waits for it who only names the slot (a pause, a throttle). Whether it is there.
CREATE OR REPLACE FUNCTION pgvmig.lock_slot(relation regclass, slot text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pgvmig.require_home();
    UPDATE pgvmig.slot s SET current_view = s.current_view WHERE s.relation = $1 AND s.slot = $2;
    RETURN FOUND;
END
$$;

-- What the events of this transaction are about. The caller may have set pgvmig.source and pgvmig.revision.
CREATE OR REPLACE FUNCTION pgvmig.begin_verb(verb text, reason text, detail jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT set_config('pgvmig.verb', verb, true),
           set_config('pgvmig.reason', coalesce(reason, ''), true),
           set_config('pgvmig.detail', coalesce(detail, '{}')::text, true)
$$;

CREATE OR REPLACE FUNCTION pgvmig.end_verb() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT set_config('pgvmig.verb', '', true), set_config('pgvmig.reason', '', true), set_config('pgvmig.detail', '', true)
$$;

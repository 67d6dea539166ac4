-- name: limit_reading
-- The reading that takes too long is worth nothing; SET LOCAL, with a value that is a parameter. Compiling the statement
-- would take longer than it does.
SELECT set_config('statement_timeout', %(milliseconds)s::text, true), set_config('jit', 'off', true)

-- name: primary
-- Where WAL is now, read before the standbys' positions, so that a position at or past it is proof of having caught up.
-- A primary that failed over and came back as a standby has none, and on Aurora there is no such function.
SELECT CASE WHEN NOT pg_is_in_recovery() AND to_regprocedure('aurora_replica_status()') IS NULL
            THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END AS lsn,
       pg_is_in_recovery() AS in_recovery,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid,
       to_regprocedure('aurora_replica_status()') IS NOT NULL AS aurora,
       current_user::text AS role,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_figures,
       current_setting('archive_mode') AS archive_mode,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       coalesce((SELECT no_standbys FROM pgvmig.installation), false) AS no_standbys

-- name: aurora
-- Amazon Aurora's own view of its replicas. Numbers that may be decimal there are made whole.
SELECT server_id, session_id, durable_lsn::bigint AS durable_lsn, replica_lag_in_msec::float8 AS replica_lag_in_msec,
       extract(epoch FROM clock_timestamp() - last_update_timestamp)::float8 AS age
FROM aurora_replica_status()

-- name: system_identifier
-- What a primary has in common with its standbys, and with no other cluster.
SELECT system_identifier FROM pg_control_system()

-- name: standby_position
-- Asked of a standby itself: what a reader there sees.
SELECT pg_is_in_recovery() AS in_recovery,
       pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS replay_lsn,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier

-- name: readers
-- Whose transactions hold locks on these relations for longer than that. The locks show everybody's, the activity only
-- what the role may see; a prepared transaction has no process.
SELECT k.pid, a.usename, a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age
FROM (SELECT DISTINCT l.pid FROM pg_locks AS l
      WHERE l.locktype = 'relation' AND l.granted AND l.database = {database}::bigint::oid
        AND l.relation = ANY ({relations}::bigint[]::oid[]) AND l.pid IS DISTINCT FROM pg_backend_pid()) AS k
LEFT JOIN pg_stat_activity AS a ON a.pid = k.pid
WHERE k.pid IS NULL OR (a.pid IS NOT NULL AND (a.xact_start IS NULL OR clock_timestamp() - a.xact_start > {max_age}))
ORDER BY a.xact_start

-- What the signals ask, without parameters: the blocks that are due become columns of one statement, in which `activity`
-- stands for the sessions, read once.

-- name: activity
-- The sessions of this database, and those of none: the senders of WAL. Without pg_read_all_stats most of it is NULL.
SELECT pid, datname, usename, application_name, backend_type, state, wait_event_type, wait_event, query, query_start,
       xact_start, backend_xid, backend_xmin
FROM pg_stat_activity
WHERE datname = current_database() OR backend_type = 'walsender' OR wait_event = 'SyncRep'

-- name: slots
-- On Aurora the function for the WAL's position does not exist; columns that came with 17 and 18 are asked for by way of
-- JSON, where a missing one is NULL.
SELECT s.slot_name, s.slot_type, s.active, s.wal_status, s.safe_wal_size,
       to_jsonb(s) ->> 'invalidation_reason' AS invalidated,
       CASE WHEN NOT pg_is_in_recovery() AND to_regprocedure('aurora_replica_status()') IS NULL
            THEN pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint END AS retains
FROM pg_replication_slots AS s
ORDER BY s.slot_name

-- name: synchronous
-- A session that waits has sent its COMMIT at query_start; where a long statement commits by itself, somewhat later.
SELECT (SELECT count(*) FROM pg_stat_replication
        WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')) AS connected,
       (SELECT jsonb_agg(jsonb_build_object(
                   'pid', pid, 'usename', usename, 'application_name', application_name,
                   'waited', extract(epoch FROM clock_timestamp() - query_start)::float8))
        FROM activity WHERE wait_event = 'SyncRep') AS waiting

-- name: archiving
SELECT coalesce(a.last_failed_time > coalesce(a.last_archived_time, '-infinity'), false) AS failing, a.last_failed_wal,
       (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') AS ready
FROM pg_stat_archiver AS a

-- name: index_builds
-- CLUSTER and VACUUM FULL build every index of the table anew.
SELECT p.pid, coalesce(pg_partition_root(p.relid)::oid, p.relid)::bigint AS relation, pgvmig.label(p.relid, 'embedding') AS target, p.command, p.phase,
       a.usename, a.application_name
FROM (SELECT pid, datname, relid, command, phase FROM pg_stat_progress_create_index
      UNION ALL
      SELECT pid, datname, relid, command, phase FROM pg_stat_progress_cluster) AS p
LEFT JOIN activity AS a USING (pid)
WHERE p.datname = current_database()

-- name: vacuums
-- Every table that we write, with the vacuum that runs on it or on its TOAST table. The age of what is no table is that
-- of no transaction, which reads as two billion.
SELECT v.relation::oid::bigint AS relation, pgvmig.label(c.oid, 'embedding') AS target,
       greatest(CASE WHEN c.relfrozenxid <> '0' THEN age(c.relfrozenxid) ELSE 0 END,
                CASE WHEN t.relfrozenxid <> '0' THEN age(t.relfrozenxid) ELSE 0 END) AS xids,
       current_setting('autovacuum_freeze_max_age')::integer AS freeze_max_age,
       current_setting('vacuum_failsafe_age')::integer AS failsafe_age,
       p.pid, p.phase, a.query
FROM (SELECT relation FROM pgvmig.version UNION SELECT vector_relation FROM pgvmig.version) AS v
CROSS JOIN LATERAL pgvmig.leaves(v.relation) AS l
JOIN pg_class AS c ON c.oid = l
LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
LEFT JOIN pg_stat_progress_vacuum AS p ON p.relid IN (c.oid, t.oid) AND p.datname = current_database()
LEFT JOIN activity AS a ON a.pid = p.pid

-- name: blocked
-- The sessions that have waited longest. pg_locks and pg_blocking_pids() lock the lock table, so they are asked about
-- these few only.
SELECT w.pid, w.usename, w.application_name, left(w.query, 60) AS query, b.blockers,
       extract(epoch FROM clock_timestamp()
               - (SELECT min(l.waitstart) FROM pg_locks AS l WHERE l.pid = w.pid AND NOT l.granted))::float8 AS waited
FROM (SELECT * FROM activity WHERE wait_event_type = 'Lock' ORDER BY query_start LIMIT 20) AS w
CROSS JOIN LATERAL (SELECT pg_blocking_pids(w.pid) AS pids OFFSET 0) AS k
CROSS JOIN LATERAL (SELECT jsonb_agg(jsonb_build_object('pid', a.pid, 'application_name', a.application_name)) AS blockers
                    FROM activity AS a WHERE a.pid = ANY (k.pids)) AS b

-- name: horizon
-- Whoever holds an xmin (or, with an xid, makes everybody else hold it) that matters to tables of this database: the
-- oldest of each kind. `held` is for how long, at least: a statement under READ COMMITTED gives its snapshot back, so an
-- active session has held one since its statement began. A lazy vacuum holds nothing back, and a slot's catalog_xmin
-- only the catalogs. How long a slot has been inactive is known from 17 on.
(SELECT 'session' AS kind, a.pid, a.usename, a.application_name, a.backend_type, a.state, left(a.query, 60) AS query,
        NULL AS gid, NULL AS slot_name, NULL::boolean AS active,
        greatest(age(a.backend_xmin), age(a.backend_xid)) AS xids,
        extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS open,
        extract(epoch FROM clock_timestamp() - CASE WHEN a.state = 'active' AND a.backend_xid IS NULL THEN a.query_start
                                                    ELSE a.xact_start END)::float8 AS held
 FROM activity AS a
 WHERE num_nonnulls(a.backend_xmin, a.backend_xid) > 0 AND a.pid <> pg_backend_pid()
   AND (a.datname = current_database() OR a.backend_type = 'walsender')
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS v WHERE v.pid = a.pid)
 ORDER BY a.xact_start NULLS FIRST LIMIT 50)
UNION ALL
(SELECT 'prepared', NULL, p.owner, NULL, NULL, NULL, NULL, p.gid, NULL, NULL, age(p.transaction), NULL,
        extract(epoch FROM clock_timestamp() - p.prepared)::float8
 FROM pg_prepared_xacts AS p WHERE p.database = current_database() ORDER BY p.prepared LIMIT 5)
UNION ALL
SELECT 'slot', NULL, NULL, NULL, NULL, NULL, NULL, NULL, s.slot_name, s.active, age(s.xmin), NULL,
       extract(epoch FROM clock_timestamp() - (to_jsonb(s) ->> 'inactive_since')::timestamptz)::float8
FROM pg_replication_slots AS s WHERE s.xmin IS NOT NULL

-- name: pg_wal_size
SELECT sum(size)::bigint AS bytes FROM pg_ls_waldir()

-- name: database_size
SELECT pg_database_size(current_database()) AS bytes

-- name: pause
SELECT relation::oid::bigint AS relation, pgvmig.label(relation, slot) AS target, slot, version, paused_by, reason
FROM pgvmig.all_pauses()

-- name: throttle
SELECT relation::oid::bigint AS relation, pgvmig.label(relation, 'embedding') AS target, slot, settings FROM pgvmig.throttle

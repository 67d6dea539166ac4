-- name: standbys
-- Declared standbys, and whatever else replays our WAL: one row for each connection, one without figures for a declared
-- standby that has none. A role without pg_read_all_stats sees the rows and none of their figures.
WITH sender AS (
    SELECT r.pid, r.application_name, r.state, r.replay_lsn, r.replay_lag,
           -- A logical subscriber, or a program that copies WAL (pg_receivewal): it reports what it wrote and never a
           -- replay position, which a standby reports from its first reply on.
           l.slot_name IS NOT NULL OR (r.write_lsn IS NOT NULL AND r.replay_lsn IS NULL) AS is_other
    FROM pg_stat_replication r
    LEFT JOIN pg_replication_slots l ON l.active_pid = r.pid AND l.slot_type = 'logical'
    WHERE r.state IS DISTINCT FROM 'backup'
), here AS MATERIALIZED (
    SELECT CASE WHEN NOT pg_is_in_recovery() AND to_regprocedure('aurora_replica_status()') IS NULL THEN pg_current_wal_lsn()
           END AS lsn
)
SELECT coalesce(s.name, r.application_name) AS name, s.name IS NOT NULL AS declared, s.dsn, s.added_at, s.added_by,
       r.pid, r.state, r.replay_lag,
       pg_wal_lsn_diff(r.replay_lsn, '0/0')::bigint AS replay_lsn,
       -- greatest() takes NULL for nothing at all, and what is not known for 0.
       CASE WHEN r.replay_lsn IS NOT NULL THEN greatest(pg_wal_lsn_diff(h.lsn, r.replay_lsn), 0)::bigint END AS lag_bytes,
       p.slot_name, p.active AS slot_active, p.wal_status AS slot_wal_status,
       CASE WHEN p.restart_lsn IS NOT NULL THEN greatest(pg_wal_lsn_diff(h.lsn, p.restart_lsn), 0)::bigint
       END AS slot_retains
FROM pgvmig.standby s
FULL JOIN sender r ON r.application_name = s.name
CROSS JOIN here h
-- A slot's name has fewer characters to choose from than an application_name.
LEFT JOIN pg_replication_slots p
       ON p.slot_type = 'physical' AND p.slot_name = regexp_replace(lower(s.name), '[^a-z0-9_]', '_', 'g')
WHERE s.name IS NOT NULL OR NOT r.is_other
ORDER BY s.name IS NULL, name, r.pid

-- name: declaration
SELECT no_standbys FROM pgvmig.installation

-- name: lock_declaration
-- Declarations one after the other: "none" must not pass an "add" that has yet to commit.
SELECT no_standbys FROM pgvmig.installation FOR UPDATE

-- name: declared
SELECT name, dsn FROM pgvmig.standby ORDER BY name

-- name: declare
INSERT INTO pgvmig.standby (name, dsn) VALUES (%(name)s, %(dsn)s)
ON CONFLICT (name) DO UPDATE SET dsn = excluded.dsn

-- name: remove
DELETE FROM pgvmig.standby WHERE name = %(name)s

-- name: set_no_standbys
UPDATE pgvmig.installation SET no_standbys = %(none)s

-- name: record
INSERT INTO pgvmig.event (source, verb, detail)
VALUES ('cli', 'declare standby', jsonb_build_object('action', %(action)s::text, 'name', %(name)s::text,
                                                     'dsn', %(dsn)s::text))

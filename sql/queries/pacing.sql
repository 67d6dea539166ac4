-- name: limit_reading
-- The reading that takes too long is worth nothing; SET LOCAL, with a value that is a parameter.
SELECT set_config('statement_timeout', %(milliseconds)s::text, true)

-- name: primary
-- Where WAL is now, read before the standbys' positions, so that a position at or past it is proof of having caught up.
-- A primary that failed over and came back as a standby has none.
SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END AS lsn,
       current_user::text AS role,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_figures,
       coalesce((SELECT no_standbys FROM pgvmig.installation), false) AS no_standbys

-- name: system_identifier
-- What a primary has in common with its standbys, and with no other cluster.
SELECT system_identifier FROM pg_control_system()

-- name: standby_position
-- Asked of a standby itself: what a reader there sees.
SELECT pg_is_in_recovery() AS in_recovery,
       pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS replay_lsn,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier

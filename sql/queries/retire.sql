-- name: begin
-- The point of no return: everything is checked, then the version's view and triggers go.
SELECT pgvmig.begin_retire({relation}, {version}, slot => {slot}, soak => {soak}, skip => {skip}::text[],
                           reason => {reason})

-- name: finish
-- Its columns, or its table of vectors.
SELECT pgvmig.finish_retire({relation}, {version}, slot => {slot})

-- name: check_gates
SELECT g.gate, g.passed, g.found, g.wanted, g.next, g.measured
FROM pgvmig.version v, pgvmig.check_retire_gates(v.version_id, {soak}) AS g
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version}

-- name: require_retirable
SELECT pgvmig.require_retirable(v) FROM pgvmig.version v
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version}

-- name: facts
-- What must be known before anything is done, and what asking for a confirmation has to say.
SELECT v.version_id, v.state, v.unfinished, (SELECT s.version FROM pgvmig.version s
                                             WHERE s.activated_from = v.version_id AND s.state = 'active') AS way_back_of,
       (SELECT x.system_identifier FROM pg_control_system() x) AS system_identifier
FROM pgvmig.version v
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version}

-- name: read_primary
SELECT pgvmig.read_index_scans(v) FROM pgvmig.version v WHERE v.version_id = {version_id}

-- name: read_standby
-- Asked of a standby itself. Times as text: -infinity is none to Python.
SELECT pg_is_in_recovery() AS in_recovery, (SELECT x.system_identifier FROM pg_control_system() x) AS system_identifier,
       s.indexes::bigint[] AS indexes, s.scans, s.last_scan::text AS last_scan, s.calls,
       s.counted_since::text AS counted_since, s.readers, s.suspects
FROM pgvmig.index_scans(%(version_id)s) AS s

-- name: record_reading
SELECT pgvmig.record_reading({version_id}, {server}, {indexes}::bigint[]::oid[], {scans}, {last_scan}::timestamptz, {calls},
                             {counted_since}::timestamptz, {readers}, {suspects}, {problem})

-- name: revoke
SELECT pgvmig.revoke_reading({relation}, {version}, slot => {slot}, reason => {reason})

-- name: restore
SELECT pgvmig.restore_reading({relation}, {version}, slot => {slot}, reason => {reason})

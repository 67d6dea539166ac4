-- name: cut_over
SELECT {function}({relation}, {version}, slot => {slot}, max_stale_age => {max_stale_age},
                  skip => {skip}::text[], reason => {reason}, max_evidence_age => {max_evidence_age})

-- name: roll_back
SELECT {function}({relation}, {version}, slot => {slot}, max_stale_age => {max_stale_age},
                  skip => {skip}::text[], reason => {reason}, max_evidence_age => {max_evidence_age})

-- name: expected
-- What a switch to the version, or from it to the one before, would find: whether there is anything to do and to guard,
-- which views it would lock, and whether it changes the vector's type.
SELECT CASE WHEN {way_back} THEN v.state = 'active' ELSE v.state NOT IN ('active', 'retired') END AS changes,
       pgvmig.has_rows(v.relation) AS has_rows, v.relation::oid::bigint AS relation, v.slot,
       c.oid::regclass::text AS view, (SELECT d.oid::bigint FROM pg_database d WHERE d.datname = current_database()) AS database,
       ARRAY(SELECT u::oid::bigint FROM unnest(CASE WHEN r.retyping IS NULL THEN ARRAY[c.oid::regclass]
                                                   ELSE pgvmig.view_tower(c.oid) END) AS u) AS relations,
       r.retyping
FROM pgvmig.version v
JOIN pgvmig.slot s ON s.relation = v.relation AND s.slot = v.slot
LEFT JOIN pg_class c ON c.oid = s.current_view
LEFT JOIN pgvmig.version t ON t.version_id = CASE WHEN {way_back} THEN v.activated_from ELSE v.version_id END
CROSS JOIN LATERAL (SELECT CASE WHEN t.view IS NOT NULL THEN pgvmig.retyping(t) END AS retyping) AS r
WHERE v.relation = {relation}::regclass AND v.slot = {slot} AND v.version = {version}

-- name: check_gates
SELECT g.gate, g.passed, g.found, g.wanted, g.next, g.measured
FROM {function}({version_id}, ROW({max_stale_age}, {max_evidence_age}, {way_back})::pgvmig.gate_terms) AS g

-- name: set_context
-- Who acts, for the events of this transaction.
SELECT set_config('pgvmig.source', {source}, true), set_config('pgvmig.revision', {revision}, true)

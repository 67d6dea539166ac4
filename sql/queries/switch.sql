-- name: cut_over
SELECT pgvmig.cut_over({relation}, {version}, slot => {slot}, max_stale_age => {max_stale_age},
                       skip => {skip}::text[], reason => {reason}, max_evidence_age => {max_evidence_age})

-- name: roll_back
SELECT pgvmig.roll_back({relation}, {version}, slot => {slot}, max_stale_age => {max_stale_age},
                        skip => {skip}::text[], reason => {reason}, max_evidence_age => {max_evidence_age})

-- name: retire
SELECT pgvmig.retire({relation}, {version}, slot => {slot}, reason => {reason}, index_bytes => {index_bytes})

-- name: require_retirable
SELECT pgvmig.require_retirable({relation}, {version}, slot => {slot})

-- name: check_gates
SELECT g.gate, g.passed, g.found, g.wanted, g.next, g.measured
FROM pgvmig.check_gates({version_id}, ROW({max_stale_age}, {max_evidence_age}, {way_back})::pgvmig.gate_terms) AS g

-- name: set_context
-- Who acts, for the events of this transaction.
SELECT set_config('pgvmig.source', {source}, true), set_config('pgvmig.revision', {revision}, true)

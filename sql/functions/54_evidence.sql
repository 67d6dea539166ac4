-- Evidence: what `pgvmig verify` found by the gates that take minutes or a provider. It is stored with what it was about,
-- and a switch asks whether it is still good: fresh, passed, and about what is there now.

-- What evidence of a gate is about, besides the version's contract. Whoever measures asks for it before it begins: what
-- changes meanwhile is a change. The column's number tells vectors that were made anew after the version was retired.
CREATE OR REPLACE FUNCTION pgvmig.evidence_about(v pgvmig.version, gate text) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    about jsonb := (SELECT jsonb_build_object('vectors', format('%s.%s', a.attrelid, a.attnum))
                    FROM pg_attribute a WHERE a.attrelid = v.vector_relation AND a.attname = v.vector_column);
BEGIN
    IF gate = 'recall' THEN
        about := about || jsonb_build_object(
            'search', v.search,
            'indexes', (SELECT coalesce(jsonb_agg(i.index::oid || ' ' || pg_get_indexdef(i.index) ORDER BY i.index::oid), '[]')
                        FROM pgvmig.vector_indexes(v) AS i WHERE i.valid));
    ELSIF gate = 'visibility' THEN
        about := about || jsonb_build_object(
            'policies', (SELECT jsonb_agg(concat_ws(' ', c.oid, c.relrowsecurity, c.relforcerowsecurity, p.polname, p.polcmd,
                                                    p.polpermissive, p.polroles, pg_get_expr(p.polqual, p.polrelid))
                                          ORDER BY c.oid, p.polname)
                         FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid
                         WHERE c.oid IN (v.relation, v.vector_relation)));
    END IF;
    RETURN about;
END
$$;

-- Store what was found. `measured_at` is when the measuring began.
CREATE OR REPLACE FUNCTION pgvmig.record_evidence(
    version_id integer, gate text, passed boolean, found text, wanted text, next text, measured jsonb, about jsonb,
    measured_at timestamptz
) RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pgvmig.evidence (version_id, gate, passed, found, wanted, next, measured, about, fingerprint, measured_at)
    SELECT v.version_id, $2, $3, $4, $5, $6, $7, $8, v.fingerprint, $9
    FROM pgvmig.version v WHERE v.version_id = $1
    RETURNING evidence_id
$$;

-- Which share of the vectors was written after that moment. Of a big table a sample of pages says it, always the same
-- ones, so that two who ask are told the same.
CREATE OR REPLACE FUNCTION pgvmig.share_embedded_since(v pgvmig.version, since timestamptz) RETURNS double precision
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pages double precision := pgvmig.pages(v.vector_relation);
    share double precision;
BEGIN
    EXECUTE format('SELECT avg((coalesce(x.%I > $1, false))::integer) FROM %s AS x TABLESAMPLE SYSTEM (%s) REPEATABLE (0) '
                   'WHERE x.%I IS NOT NULL',
                   v.embedded_at_column, v.vector_relation, least(100, 100 * 2000 / greatest(pages, 1)), v.vector_column)
    INTO share USING since;
    RETURN coalesce(share, 0);
END
$$;

-- A time span as people say it: 40 s, 12 min, 30 h, 3 days.
CREATE OR REPLACE FUNCTION pgvmig.span(span interval) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s < 120 THEN greatest(round(s), 0) || ' s' WHEN s < 7200 THEN round(s / 60) || ' min'
                WHEN s < 172800 THEN round(s / 3600) || ' h' ELSE round(s / 86400) || ' days' END
    FROM (SELECT extract(epoch FROM span)) AS seconds (s)
$$;

-- Why evidence is no longer about what is there, NULL while it is.
CREATE OR REPLACE FUNCTION pgvmig.evidence_outdated(v pgvmig.version, e pgvmig.evidence) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    about jsonb := pgvmig.evidence_about(v, e.gate);
    share double precision;
BEGIN
    IF e.fingerprint <> v.fingerprint THEN
        RETURN 'was about vectors of another contract';
    ELSIF e.about -> 'vectors' IS DISTINCT FROM about -> 'vectors' THEN
        RETURN 'was about vectors that are gone: these were made since';
    ELSIF e.about -> 'indexes' IS DISTINCT FROM about -> 'indexes' THEN
        RETURN 'was about another index: it was built, rebuilt or dropped since';
    ELSIF e.about -> 'search' IS DISTINCT FROM about -> 'search' THEN
        RETURN format('was about other search settings: %s then, %s now', e.about -> 'search', about -> 'search');
    ELSIF e.about -> 'policies' IS DISTINCT FROM about -> 'policies' THEN
        RETURN 'was about other row-level security: it was changed since';
    END IF;
    share := pgvmig.share_embedded_since(v, e.measured_at);
    IF share > 0.1 THEN
        RETURN format('was about other vectors: %s %% of them were written since', round(100 * share));
    END IF;
    RETURN NULL;
END
$$;

-- What a gate says whose evidence `pgvmig verify` stores. On the way back evidence may be old or absent, because that
-- version has served before; what was found wrong with it and still is there stops a rollback as well.
CREATE OR REPLACE FUNCTION pgvmig.evidence_gate(v pgvmig.version, gate text, terms pgvmig.gate_terms)
RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    what text := CASE gate WHEN 'hashes' THEN 'that the vectors are of their rows'' texts'
                           WHEN 'health' THEN 'that the vectors are sound'
                           WHEN 'recall' THEN 'the recall of the index'
                           WHEN 'identity' THEN 'that the provider still makes these vectors'
                           WHEN 'visibility' THEN 'that readers see the same rows'
                           ELSE gate END;
    allowed interval := coalesce(terms.max_evidence_age, '24 h');
    wanted text := format('verified within %s', pgvmig.span(allowed));
    next text := format('pgvmig verify %s %s', pgvmig.label(v.relation, v.slot), v.version);
    e pgvmig.evidence;
    age interval;
    measured jsonb := '{}';
    problem text;
BEGIN
    SELECT x.* INTO e FROM pgvmig.evidence x WHERE x.version_id = v.version_id AND x.gate = $2
    ORDER BY x.measured_at DESC, x.evidence_id DESC LIMIT 1;
    IF e.evidence_id IS NULL THEN
        problem := format('nobody has verified %s yet', what);
    ELSE
        age := clock_timestamp() - e.measured_at;
        measured := e.measured || jsonb_build_object('evidence_id', e.evidence_id, 'measured_at', e.measured_at);
        problem := pgvmig.evidence_outdated(v, e);
        IF problem IS NOT NULL THEN
            problem := format('what was found %s ago %s', pgvmig.span(age), problem);
        ELSIF NOT e.passed THEN
            RETURN ($2, false, format('%s (%s ago)', e.found, pgvmig.span(age)), e.wanted, coalesce(e.next, next),
                    measured)::pgvmig.gate_result;
        ELSIF age > allowed THEN
            problem := format('what was found is %s old', pgvmig.span(age));
        END IF;
    END IF;
    IF problem IS NULL THEN
        RETURN ($2, true, format('%s (%s ago)', e.found, pgvmig.span(age)), format('%s; %s', e.wanted, wanted), next,
                measured)::pgvmig.gate_result;
    ELSIF terms.way_back AND v.state = 'retained' THEN  -- not a retired one that was added again, whose vectors never served
        RETURN ($2, true, problem || '; enough for the way back, it has served before', 'not found wrong', next,
                measured)::pgvmig.gate_result;
    END IF;
    IF e.evidence_id IS NOT NULL THEN
        problem := format('nobody has verified %s lately: %s', what, problem);
    END IF;
    RETURN ($2, false, problem, coalesce(e.wanted || '; ', '') || wanted, next, measured)::pgvmig.gate_result;
END
$$;

-- Queue every row whose vector is not of its present text and which is in no queue: it changed past the triggers. Rows that
-- lost their vector as well, once the worker's walk is over; until then they are not lost, but to come. Reads the whole
-- table. Returns how many; the worker does the rest.
CREATE OR REPLACE FUNCTION pgvmig.queue_outdated(relation regclass, version text, slot text DEFAULT 'embedding')
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version := pgvmig.find_version($1, $2, $3);
    queued bigint;
BEGIN
    EXECUTE format($query$
        INSERT INTO pgvmig.%1$I (%2$s) SELECT %3$s FROM %4$s
        WHERE CASE WHEN %5$s.%6$I IS NULL THEN %14$L ELSE NOT %7$s AND NOT (%5$s.%8$I IS NULL AND %9$L) END
          AND NOT EXISTS (SELECT FROM pgvmig.%1$I AS q WHERE %10$s)
          AND NOT EXISTS (SELECT FROM pgvmig.%11$I AS o WHERE %12$s AND o.source_hash = pgvmig.source_hash(pgvmig.%13$I(d.*)))
        $query$,
        pgvmig.fit(v.object_name || '_stale'),
        (SELECT string_agg(format('%I', k), ', ' ORDER BY i) FROM pgvmig.slot s, unnest(s.queue_columns) WITH ORDINALITY AS u (k, i)
         WHERE s.relation = $1 AND s.slot = $3),
        (SELECT string_agg(format('d.%I', k), ', ' ORDER BY i) FROM pgvmig.slot s,
                unnest(pgvmig.present_names(s.relation, s.key_columns, s.key_numbers)) WITH ORDINALITY AS u (k, i)
         WHERE s.relation = $1 AND s.slot = $3),
        pgvmig.rows_from(v, 'LEFT JOIN'), pgvmig.vector_alias(v), v.vector_column, pgvmig.is_fresh(v), v.source_hash_column,
        v.adopted,
        pgvmig.of_row(v, 'q'), pgvmig.fit(v.object_name || '_outcome'), pgvmig.of_row(v, 'o'),
        pgvmig.fit(v.object_name || '_input'), v.writer = 'worker' AND pgvmig.is_walked(v));
    GET DIAGNOSTICS queued = ROW_COUNT;
    RETURN queued;
END
$$;

-- Hashes: every vector is of its row's present text, recomputed by the database, or the row waits for the worker.
CREATE OR REPLACE FUNCTION pgvmig.gate_hashes(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN pgvmig.evidence_gate(v, 'hashes', terms);

-- Health: every vector has the contract's dimensions and length, and is finite and not zero.
CREATE OR REPLACE FUNCTION pgvmig.gate_health(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN pgvmig.evidence_gate(v, 'health', terms);

-- Recall: the index finds what exact search finds.
CREATE OR REPLACE FUNCTION pgvmig.gate_recall(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN pgvmig.evidence_gate(v, 'recall', terms);

-- Identity: the provider makes of a sample's texts the vectors that are stored.
CREATE OR REPLACE FUNCTION pgvmig.gate_identity(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN pgvmig.evidence_gate(v, 'identity', terms);

-- Visibility: whoever reads the current view sees the same rows through the version's.
CREATE OR REPLACE FUNCTION pgvmig.gate_visibility(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN pgvmig.evidence_gate(v, 'visibility', terms);

REVOKE ALL ON FUNCTION pgvmig.record_evidence, pgvmig.queue_outdated FROM PUBLIC;

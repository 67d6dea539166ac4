-- Gates: what must hold before a verb runs. Each is a function gate_<name>(version, terms) that returns one gate_result
-- and changes nothing; check_gates (56_check_gates.sql) lists them, docs/gates.md explains them. Here are those about the
-- rows and their vectors, with what each of them reads.

-- What a worker is told to do next about a version's rows. Where the application writes the vectors, no worker may.
CREATE OR REPLACE FUNCTION pgvmig.next_backfill(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE v.writer WHEN 'worker' THEN concat_ws(', then ', pgvmig.resume_command(v),
                                                      format('pgvmig backfill %s %s', pgvmig.label(v.relation, v.slot), v.version))
           ELSE 'have its application embed these rows, or cut over to another version' END
$$;

-- Whether the worker's walk over the table is over: from then on it only takes what is in the stale log. A partition that
-- came or went since begins another look.
CREATE OR REPLACE FUNCTION pgvmig.is_walked(v pgvmig.version) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pgvmig.backfill b WHERE b.version_id = v.version_id AND b.walked
                     AND b.partitions = pgvmig.partition_marks(v.relation))
$$;

-- The same for rows that the worker does not know of: a vector that was taken away past the triggers.
CREATE OR REPLACE FUNCTION pgvmig.next_queue(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE v.writer WHEN 'worker' THEN
               format('SELECT pgvmig.queue_outdated(%L, %L%s), then ', v.relation::text, v.version,
                      CASE WHEN v.slot <> 'embedding' THEN format(', slot => %L', v.slot) END) END
           || pgvmig.next_backfill(v)
$$;

-- How many vectors in a table of their own are of rows that went with their partition, past every trigger: searches find
-- them in the index and drop them afterwards, and so find less. The worker's next look over the table takes them away.
-- Counted only where a partition is gone since its last one.
CREATE OR REPLACE FUNCTION pgvmig.orphaned_vectors(v pgvmig.version) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    orphans bigint := 0;
BEGIN
    IF v.layout = 'table' AND NOT EXISTS (SELECT FROM pgvmig.backfill b WHERE b.version_id = v.version_id
                                            AND b.partitions <@ pgvmig.partition_marks(v.relation)) THEN
        EXECUTE format('SELECT count(*) FROM (SELECT d.tableoid FROM %s WHERE d.tableoid IS NULL) AS gone',
                       pgvmig.rows_from(v, 'RIGHT JOIN')) INTO orphans;
    END IF;
    RETURN orphans;
END
$$;

-- Coverage: every row has a vector, or a recorded reason why not. Rows that were written a moment ago are freshness's.
-- One pass over the table and its vectors.
CREATE OR REPLACE FUNCTION pgvmig.gate_coverage(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    age text := pgvmig.span(terms.max_stale_age);
    c record;
    need record;
    found text;
    unknown boolean;
    orphans bigint := pgvmig.orphaned_vectors(v);
BEGIN
    SELECT * INTO c FROM pgvmig.coverage(v.version_id, terms.max_stale_age);
    unknown := c.missing > 0 AND pgvmig.is_walked(v)
               AND NOT EXISTS (SELECT FROM pgvmig.stale_row q WHERE q.version_id = v.version_id);
    SELECT * INTO need FROM pgvmig.catching_up(v.version_id, c.missing);
    found := CASE WHEN c.missing > 0 THEN
                 format('%s of %s rows have no vector%s', pgvmig.figure(c.missing), pgvmig.figure(c.total), need.words)
             WHEN orphans > 0 THEN
                 format('%s of rows that went with their partition: searches find them, drop them, and return too few',
                        pgvmig.counted(orphans, 'vector'))
             ELSE format('%s rows, %s of them to be embedded still, none for longer than %s', pgvmig.figure(c.total),
                         pgvmig.figure(c.missing_recent), age) END;
    RETURN ('coverage', c.missing = 0 AND orphans = 0, found,
            format('every row that was there %s ago has a vector, or a recorded reason why not', age),
            coalesce(CASE WHEN unknown THEN pgvmig.next_queue(v) END, pgvmig.next_backfill(v)), to_jsonb(c) || coalesce(need.figures, '{}'))::pgvmig.gate_result;
END
$$;

-- That a row's vector is of its present text, in a query over pgvmig.rows_from(). Hashes the text: ask it of few rows.
CREATE OR REPLACE FUNCTION pgvmig.is_fresh(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('coalesce(%1$s.%2$I IS NOT NULL AND %1$s.%3$I = %4$s AND %1$s.%5$I = pgvmig.source_hash(pgvmig.%6$I(d.*)), false)',
                  pgvmig.vector_alias(v), v.vector_column, v.version_id_column, v.version_id, v.source_hash_column,
                  pgvmig.fit(v.object_name || '_input'))
$$;

-- The rows that really wait in a version's stale log: not those that were deleted, whose vector is right already, or
-- whose present text has an outcome. `outdated` have a vector of an older text, for `oldest` at most. Reads the log, and of
-- the table the `looked_at` rows that are in it for longest; what is in it beyond those is taken to wait.
CREATE OR REPLACE FUNCTION pgvmig.waiting_rows(
    v pgvmig.version, looked_at integer DEFAULT 100000, OUT entries bigint, OUT waiting bigint, OUT outdated bigint, OUT oldest interval
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    key_there text := (SELECT format('d.%I IS NOT NULL', k[1]) FROM pgvmig.slot s,
                              pgvmig.present_names(s.relation, s.key_columns, s.key_numbers) AS k
                       WHERE s.relation = v.relation AND s.slot = v.slot);
BEGIN
    EXECUTE format($query$
        SELECT coalesce(max(all_entries), 0),
               count(*) FILTER (WHERE waits) + coalesce(max(keys), 0) - count(*),
               count(*) FILTER (WHERE waits AND has_vector),
               clock_timestamp() - min(oldest) FILTER (WHERE waits AND has_vector)
        FROM (SELECT w.oldest, w.keys, w.all_entries, %1$s.%2$I IS NOT NULL AS has_vector,
                     %3$s AND NOT %4$s
                     AND (o.kind IS NULL OR o.source_hash <> pgvmig.source_hash(pgvmig.%5$I(d.*))) AS waits
              FROM %7$s
              RIGHT JOIN (SELECT k.*, count(*) OVER () AS keys, sum(k.entries) OVER () AS all_entries
                          FROM (%6$s) AS k ORDER BY k.oldest LIMIT %11$s) AS w ON %8$s
              LEFT JOIN pgvmig.%9$I AS o ON %10$s) AS each_key
        $query$,
        pgvmig.vector_alias(v), v.vector_column, key_there, pgvmig.is_fresh(v), pgvmig.fit(v.object_name || '_input'),
        pgvmig.waiting_keys(v), pgvmig.rows_from(v, 'LEFT JOIN'), pgvmig.of_row(v, 'w'),
        pgvmig.fit(v.object_name || '_outcome'), pgvmig.of_row(v, 'o'), looked_at)
    INTO entries, waiting, outdated, oldest;
END
$$;

-- Freshness: the worker keeps up. No vector is of a text that was replaced long ago, and what changed a moment ago is no
-- more than the worker clears in that time; after a bulk load a switch would hide the rows, or show them as they were.
CREATE OR REPLACE FUNCTION pgvmig.gate_freshness(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    age text := pgvmig.span(terms.max_stale_age);
    half bigint := greatest(pgvmig.rows_about(v.relation) / 2, 1);
    cleared bigint := ceil(pgvmig.measured_speed(v.version_id) * extract(epoch FROM terms.max_stale_age));
    most bigint := least(half, cleared);
    rows record;
    need record;
    late boolean;
BEGIN
    SELECT * INTO rows FROM pgvmig.waiting_rows(v);
    SELECT * INTO need FROM pgvmig.catching_up(v.version_id, rows.waiting);
    late := coalesce(rows.oldest >= terms.max_stale_age, false);
    RETURN ('freshness', NOT late AND rows.waiting <= most,
            CASE WHEN rows.waiting = 0 THEN 'no row waits for the worker'
                 WHEN late THEN format('%s of an older text, for up to %s%s', pgvmig.counted(rows.outdated, 'vector'),
                                       pgvmig.span(rows.oldest), need.words)
                 ELSE format('%s waiting for the worker%s', pgvmig.counted(rows.waiting, 'row'), need.words) END,
            format('no vector is of a text that was replaced %s ago, and at most %s rows wait: %s', age, pgvmig.figure(most),
                   CASE WHEN cleared < half THEN format('what a worker clears in %s, by its last runs', age)
                        ELSE 'half of the table' END),
            pgvmig.next_backfill(v),
            jsonb_build_object('entries', rows.entries, 'waiting', rows.waiting, 'outdated', rows.outdated,
                               'oldest_seconds', round(extract(epoch FROM rows.oldest)), 'most_waiting', most)
            || coalesce(need.figures, '{}'))::pgvmig.gate_result;
END
$$;

-- Provenance: every vector is this version's only. Vectors that were there before their adoption have no provenance; the
-- adoption answers for them, and whatever was written since has some. One pass over what holds the vectors, none of which
-- it fetches.
CREATE OR REPLACE FUNCTION pgvmig.gate_provenance(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    wrong text := format('x.%1$I IS NOT NULL AND (x.%2$I <> %3$s%4$s)', v.vector_column, v.version_id_column, v.version_id,
                         CASE WHEN NOT v.adopted THEN format(' OR x.%I IS NULL', v.version_id_column) END);
    counted jsonb;
    strangers bigint;
    whose text;
    keys text;
BEGIN
    EXECUTE format('SELECT coalesce(jsonb_object_agg(coalesce(id::text, ''''), n), ''{}'') FROM ('
                   'SELECT x.%1$I AS id, count(*) AS n FROM %2$s AS x WHERE x.%3$I IS NOT NULL GROUP BY x.%1$I) AS each',
                   v.version_id_column, v.vector_relation, v.vector_column) INTO counted;
    SELECT sum(c.n::bigint), string_agg(pgvmig.figure(c.n::bigint) || CASE
               WHEN c.id = '' THEN ' without provenance'
               WHEN o.version IS NULL THEN ' of a version that is unknown (' || c.id || ')'
               WHEN (o.relation, o.slot) = (v.relation, v.slot) THEN ' of ' || o.version
               ELSE ' of ' || pgvmig.label(o.relation, o.slot) || ' ' || o.version END, ', ' ORDER BY c.id)
    INTO strangers, whose
    FROM jsonb_each_text(counted) AS c (id, n) LEFT JOIN pgvmig.version o ON o.version_id::text = c.id
    WHERE c.id <> v.version_id::text AND NOT (c.id = '' AND v.adopted);
    IF strangers > 0 THEN
        EXECUTE format('SELECT string_agg(k, '', '') FROM (SELECT %s AS k FROM %s AS x WHERE %s LIMIT 3) AS few',
                       pgvmig.vector_key(v, 'x'), v.vector_relation, wrong) INTO keys;
    END IF;
    RETURN ('provenance', strangers IS NULL,
            CASE WHEN strangers > 0 THEN format('%s not of %s, but %s; in %s, such as for %s', pgvmig.counted(strangers, 'vector'),
                                                v.version, whose, v.vector_relation, keys)
                 WHEN counted ? '' THEN format('all vectors are of %s, %s of them from before its adoption', v.version,
                                               pgvmig.figure((counted ->> '')::bigint))
                 ELSE format('all %s vectors are of %s', pgvmig.figure(coalesce(counted ->> v.version_id::text, '0')::bigint), v.version) END,
            format('every vector is of %s; only those from before an adoption may have no provenance', v.version),
            CASE WHEN strangers IS NULL THEN NULL
                 WHEN v.layout = 'table' THEN
                     format('DELETE FROM %s AS x WHERE %s; then ', v.vector_relation, wrong) || pgvmig.next_queue(v)
                 WHEN v.writer = 'worker' THEN format(
                     'UPDATE %s AS x SET (%I, %I, %I, %I) = (NULL, NULL, NULL, NULL) WHERE %s; then ', v.vector_relation,
                     v.vector_column, v.version_id_column, v.source_hash_column, v.embedded_at_column, wrong)
                     || pgvmig.next_backfill(v)
                 ELSE format('SELECT * FROM %s AS x WHERE %s; ', v.vector_relation, wrong) || pgvmig.next_backfill(v) END,
            jsonb_build_object('strangers', coalesce(strangers, 0), 'vectors', counted))::pgvmig.gate_result;
END
$$;

-- The key of a vector's row as text, from what holds the vectors.
CREATE OR REPLACE FUNCTION pgvmig.vector_key(v pgvmig.version, alias text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN cardinality(k.names) = 1 THEN format('%I.%I::text', alias, k.names[1])
           ELSE (SELECT format('ROW(%s)::text', string_agg(format('%I.%I', alias, n), ', ' ORDER BY i))
                 FROM unnest(k.names) WITH ORDINALITY AS u (n, i)) END
    FROM pgvmig.slot s, LATERAL (
        SELECT CASE v.layout WHEN 'table' THEN s.queue_columns
               ELSE pgvmig.present_names(s.relation, s.key_columns, s.key_numbers) END AS names) AS k
    WHERE s.relation = v.relation AND s.slot = v.slot
$$;

-- Failed rows: each was looked at and accepted, or there are none. Reads the outcomes, and of the table the rows that have one.
CREATE OR REPLACE FUNCTION pgvmig.gate_failed(v pgvmig.version, terms pgvmig.gate_terms) RETURNS pgvmig.gate_result
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    failed bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM pgvmig.%I AS o JOIN %s AS d ON %s '
                   'WHERE o.kind = ''failed'' AND o.accepted_at IS NULL '
                   'AND o.source_hash = pgvmig.source_hash(pgvmig.%I(d.*))',
                   pgvmig.fit(v.object_name || '_outcome'), v.relation, pgvmig.of_row(v, 'o'),
                   pgvmig.fit(v.object_name || '_input'))
    INTO failed;
    RETURN ('failed', failed = 0,
            CASE WHEN failed = 0 THEN 'no row failed without having been accepted'
                 WHEN failed = 1 THEN '1 row failed and was not accepted'
                 ELSE format('%s rows failed and were not accepted', pgvmig.figure(failed)) END,
            'every failed row is accepted, with a reason',
            format('pgvmig failed list %s %s', pgvmig.label(v.relation, v.slot), v.version),
            jsonb_build_object('failed', failed))::pgvmig.gate_result;
END
$$;

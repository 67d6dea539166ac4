-- That an entry of a version's queue (the stale log, the outcomes) is of the row d: a condition for a query.
CREATE OR REPLACE FUNCTION pgvmig.of_row(v pgvmig.version, queue text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(format('%I.%I %s d.%I', $2, u.queue, pgvmig.equality(s.relation, u.source), u.source), ' AND ' ORDER BY i)
    FROM pgvmig.slot s, unnest(s.queue_columns, pgvmig.present_names(s.relation, s.key_columns, s.key_numbers))
         WITH ORDINALITY AS u (queue, source, i)
    WHERE s.relation = v.relation AND s.slot = v.slot
$$;

-- The keys that wait in a version's stale log with the age of their oldest entry, as a query.
CREATE OR REPLACE FUNCTION pgvmig.waiting_keys(v pgvmig.version) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT %1$s, min(q.queued_at) AS oldest, count(*) AS entries FROM pgvmig.%2$I AS q GROUP BY %1$s',
                  (SELECT string_agg(format('q.%I', k), ', ' ORDER BY i) FROM unnest(s.queue_columns) WITH ORDINALITY AS u (k, i)),
                  pgvmig.fit(v.object_name || '_stale'))
    FROM pgvmig.slot s WHERE s.relation = v.relation AND s.slot = v.slot
$$;

-- How far a version's vectors follow its table, counted now. Rows stale for less than `max_stale_age` are counted
-- apart: a live table always has some. A row in the log counts as outdated, whether or not its vector is right by chance:
-- that would take hashing it. Hidden rows must be an error and not a false 100 %, hence row_security. Before
-- a whole walk was done nobody knows since when a row has had no vector: its first entry may be of an update just now.
CREATE OR REPLACE FUNCTION pgvmig.coverage(
    version_id integer, max_stale_age interval DEFAULT '60 s',
    OUT total bigint, OUT embedded bigint, OUT missing bigint, OUT missing_recent bigint,
    OUT outdated bigint, OUT outdated_recent bigint, OUT empty bigint, OUT failed bigint, OUT accepted bigint
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    v pgvmig.version;
    walked boolean;
BEGIN
    SELECT x.* INTO STRICT v FROM pgvmig.version x WHERE x.version_id = $1;
    walked := v.adopted OR EXISTS (SELECT FROM pgvmig.backfill b WHERE b.version_id = $1 AND b.walked_at IS NOT NULL);
    EXECUTE format($query$
        SELECT count(*), count(*) FILTER (WHERE has_vector),
               count(*) FILTER (WHERE NOT has_vector AND kind IS NULL AND NOT (recent AND $2)),
               count(*) FILTER (WHERE NOT has_vector AND kind IS NULL AND recent AND $2),
               count(*) FILTER (WHERE has_vector AND kind IS NULL AND queued AND NOT recent),
               count(*) FILTER (WHERE has_vector AND kind IS NULL AND queued AND recent),
               count(*) FILTER (WHERE kind = 'empty'),
               count(*) FILTER (WHERE kind = 'failed' AND NOT accepted),
               count(*) FILTER (WHERE kind = 'failed' AND accepted)
        FROM (SELECT %1$s.%2$I IS NOT NULL AS has_vector,
                     CASE WHEN o.kind IS NOT NULL AND o.source_hash = pgvmig.source_hash(pgvmig.%3$I(d.*)) THEN o.kind END AS kind,
                     o.accepted_at IS NOT NULL AS accepted,
                     w.oldest IS NOT NULL AS queued,
                     coalesce(w.oldest > clock_timestamp() - $1, false) AS recent
              FROM %4$s
              LEFT JOIN (%5$s) AS w ON %6$s
              LEFT JOIN pgvmig.%7$I AS o ON %8$s) AS each_row
        $query$,
        pgvmig.vector_alias(v), v.vector_column, pgvmig.fit(v.object_name || '_input'),
        pgvmig.rows_from(v, 'LEFT JOIN'), pgvmig.waiting_keys(v), pgvmig.of_row(v, 'w'),
        pgvmig.fit(v.object_name || '_outcome'), pgvmig.of_row(v, 'o'))
    INTO total, embedded, missing, missing_recent, outdated, outdated_recent, empty, failed, accepted
    USING max_stale_age, walked;
END
$$;

-- How many rows a table has: the planner's figure, scaled with the table's size; counted where it has none yet.
CREATE OR REPLACE FUNCTION pgvmig.rows_about(relation regclass) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    n bigint := pgvmig.rows_estimated(relation);
BEGIN
    IF n IS NULL THEN
        EXECUTE format('SELECT count(*) FROM %s', relation) INTO n;
    END IF;
    RETURN n;
END
$$;

-- How fast a worker writes this version, in rows a second: the speed at which half of the rows of its last runs were
-- written, so that hours in which a worker had next to nothing to do weigh next to nothing. NULL: nothing was measured.
CREATE OR REPLACE FUNCTION pgvmig.measured_speed(version_id integer) RETURNS double precision
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH run AS (
        SELECT r.run_id, r.started_at, r.seen_at, r.rows_written FROM pgvmig.backfill_run r
        WHERE r.version_id = $1 AND r.rows_written > 0 ORDER BY r.started_at DESC LIMIT 1000
    ), point AS (
        SELECT run_id, started_at AS at, 0 AS rows_written FROM run
        UNION ALL
        SELECT s.run_id, s.at, s.rows_written FROM pgvmig.backfill_sample s JOIN run USING (run_id) WHERE s.version_id = $1
        UNION ALL
        SELECT run_id, seen_at, rows_written FROM run
    ), step AS (
        SELECT p.rows_written - lag(p.rows_written) OVER each_run AS rows,
               extract(epoch FROM p.at - lag(p.at) OVER each_run)::double precision AS seconds
        FROM point p WINDOW each_run AS (PARTITION BY p.run_id ORDER BY p.at, p.rows_written)
    ), ranked AS (
        SELECT rows / seconds AS speed, sum(rows) OVER (ORDER BY rows / seconds) AS so_far, sum(rows) OVER () AS total
        FROM step WHERE rows > 0 AND seconds > 0
    )
    SELECT min(speed) FROM ranked WHERE so_far >= total / 2
$$;

-- How long a worker needs for so many rows: in words, to be appended to what a gate found, and as figures. All NULL when
-- nothing was measured.
CREATE OR REPLACE FUNCTION pgvmig.catching_up(version_id integer, n bigint, OUT words text, OUT figures jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    speed double precision := pgvmig.measured_speed(version_id);
BEGIN
    IF n > 0 AND speed > 0 THEN
        words := format('; a worker needs about %s for that (%s rows/s in its last runs)', pgvmig.span(make_interval(secs => n / speed)),
                        CASE WHEN speed < 10 THEN trim(to_char(speed, '90.9')) ELSE pgvmig.figure(speed::bigint) END);
        figures := jsonb_build_object('rows_per_second', round(speed::numeric, 1),
                                      'catching_up_seconds', ceil(n / speed)::bigint);
    END IF;
END
$$;

-- A number as people read it: 1,000.
CREATE OR REPLACE FUNCTION pgvmig.figure(n bigint) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN trim(to_char(n, '999,999,999,999,999'));

-- So many of something: 1 row is, 1,000 rows are.
CREATE OR REPLACE FUNCTION pgvmig.counted(n bigint, noun text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN n = 1 THEN '1 ' || noun || ' is' ELSE trim(to_char(n, '999,999,999,999,999')) || ' ' || noun || 's are' END;

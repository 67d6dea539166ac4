-- The control schema: what pgvmig knows about a database. Run once; frozen after release, changes come as 0002 and on.

CREATE SCHEMA pgvmig;

COMMENT ON SCHEMA pgvmig IS 'pgvmig: embedding model changes as schema migrations';

-- Services call active_space() and require_space(); what they may read is granted below, table by table.
GRANT USAGE ON SCHEMA pgvmig TO PUBLIC;

-- One row: which control schema this is, and whether the cluster was declared to have no standbys.
CREATE TABLE pgvmig.installation (
    singleton       boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    schema_version  integer NOT NULL,
    toolkit_version text NOT NULL,
    installed_at    timestamptz NOT NULL DEFAULT now(),
    upgraded_at     timestamptz,
    no_standbys     boolean NOT NULL DEFAULT false,
    home            text
);

COMMENT ON COLUMN pgvmig.installation.home IS
    'where the versions were added, see pgvmig.whereabouts(); a restored or cloned database is somewhere else';

COMMENT ON COLUMN pgvmig.installation.no_standbys IS
    'declared with "pgvmig standby none"; having no standbys is never inferred, a lost standby looks the same';

-- The roles that this database grants rights to, by name: they belong to the cluster, and a dump does not bring them.
CREATE TABLE pgvmig.role (
    duty         text PRIMARY KEY CHECK (duty IN ('reader', 'worker', 'operator', 'admin')),
    name         text NOT NULL UNIQUE,
    as_superuser boolean NOT NULL DEFAULT false
);

COMMENT ON COLUMN pgvmig.role.as_superuser IS
    'somebody allowed operators to act with a superuser''s rights: the control schema''s owner is one';

-- Contracts are frozen: a changed contract is another fingerprint, so another row.
CREATE TABLE pgvmig.contract (
    fingerprint text PRIMARY KEY,
    canonical   text NOT NULL,
    definition  jsonb NOT NULL GENERATED ALWAYS AS (canonical::jsonb) STORED,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fingerprint_is_of_the_canonical_form
        CHECK (fingerprint = encode(sha256(convert_to(canonical, 'UTF8')), 'hex'))
);

-- Which embedding of which table. Columns are kept by name and by number: the number follows a rename; after a dump and
-- restore, which give new numbers, pgvmig.settle_copy() puts it right.
CREATE TABLE pgvmig.slot (
    relation         regclass NOT NULL,
    slot             text NOT NULL,
    key_columns      text[] NOT NULL CHECK (cardinality(key_columns) > 0),
    key_numbers      smallint[] NOT NULL,
    queue_columns    text[] NOT NULL,
    view_columns     text[] NOT NULL,
    view_numbers     smallint[] NOT NULL,
    left_out         text[] NOT NULL DEFAULT '{}',
    left_out_numbers smallint[] NOT NULL DEFAULT '{}',
    current_view     regclass,
    current_dress    jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation, slot),
    CHECK (cardinality(key_columns) = cardinality(key_numbers)),
    CHECK (cardinality(key_columns) = cardinality(queue_columns)),
    CHECK (cardinality(view_columns) = cardinality(view_numbers))
);

COMMENT ON COLUMN pgvmig.slot.current_dress IS
    'owner, grants, comments, options and triggers that the current view had when a rollback took it away; for the next one';

COMMENT ON COLUMN pgvmig.slot.queue_columns IS 'what the key columns are called in the stale and outcome tables';

COMMENT ON COLUMN pgvmig.slot.left_out IS
    'columns that the table had when the slot was made and the views do not show: refreshing them does not show them either';

COMMENT ON COLUMN pgvmig.slot.view_columns IS
    'the views'' columns in their order, append-only; the slot''s own name (number 0) stands for the vector and its provenance';

CREATE TABLE pgvmig.version (
    version_id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation           regclass NOT NULL,
    slot               text NOT NULL,
    version            text NOT NULL CHECK (version ~ '^v[1-9][0-9]*$'),
    state              text NOT NULL,
    writer             text NOT NULL CHECK (writer IN ('worker', 'application')),
    adopted            boolean NOT NULL DEFAULT false,
    layout             text NOT NULL CHECK (layout IN ('column', 'table')),
    fingerprint        text NOT NULL REFERENCES pgvmig.contract,
    vector_relation    regclass NOT NULL,
    vector_column      text NOT NULL,
    version_id_column  text NOT NULL,
    source_hash_column text NOT NULL,
    embedded_at_column text NOT NULL,
    view               regclass,
    object_name        text NOT NULL UNIQUE,
    search             jsonb NOT NULL DEFAULT '{}',
    thresholds         jsonb CHECK (jsonb_typeof(thresholds) = 'object'),
    index_plan         jsonb CHECK (jsonb_typeof(index_plan) = 'object'),
    input_names        text[],
    input_numbers      smallint[],
    activated_from     integer REFERENCES pgvmig.version ON DELETE SET NULL,
    unfinished         boolean NOT NULL DEFAULT false,
    created_at         timestamptz NOT NULL DEFAULT now(),
    state_changed_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (relation, slot, version),
    FOREIGN KEY (relation, slot) REFERENCES pgvmig.slot,
    CHECK (writer = 'worker' OR adopted),
    CHECK (state = 'retired' OR NOT unfinished)
);

COMMENT ON COLUMN pgvmig.version.object_name IS
    'begins the names of the version''s own tables and functions in this schema: <object_name>_stale, _outcome, _input';

COMMENT ON COLUMN pgvmig.version.search IS 'how it is searched: ef_search, probes, iterative_scan and what services add; switched with it';

COMMENT ON COLUMN pgvmig.version.thresholds IS
    'what an evaluation must show before a switch to it, as "pgvmig evaluate" takes them; NULL: none is required';

COMMENT ON COLUMN pgvmig.version.index_plan IS
    'the index that it is to have: {"method", "options", "quantize"}; "pgvmig index" builds it after the backfill';

COMMENT ON COLUMN pgvmig.version.input_names IS 'the columns that its input reads, as the contract calls them; their numbers follow renames';

COMMENT ON COLUMN pgvmig.version.activated_from IS 'the version that was active before this one: where a rollback goes';

COMMENT ON COLUMN pgvmig.version.unfinished IS
    'retired, but its indexes, and its columns or table, are still to be dropped: "pgvmig retire" goes on';

-- At most one version of a slot is active, whoever writes here.
CREATE UNIQUE INDEX version_one_active ON pgvmig.version (relation, slot) WHERE state = 'active';

-- The legal steps; pgvmig/lifecycle.py has the same, and a test compares them. NULL: a version's beginning.
CREATE TABLE pgvmig.transition (
    from_state text,
    to_state   text NOT NULL,
    UNIQUE NULLS NOT DISTINCT (from_state, to_state)
);

INSERT INTO pgvmig.transition (from_state, to_state) VALUES
    (NULL, 'added'), (NULL, 'active'),
    ('added', 'backfilling'), ('added', 'ready'), ('added', 'retired'),
    ('backfilling', 'ready'), ('backfilling', 'retired'),
    ('ready', 'backfilling'), ('ready', 'active'), ('ready', 'retired'),
    ('active', 'ready'), ('active', 'retained'),
    ('retained', 'active'), ('retained', 'retired'),
    ('retired', 'added');

-- Where a service's queries go: to the active version, and a share of the keys to at most one candidate beside it.
CREATE TABLE pgvmig.route (
    relation   regclass NOT NULL,
    slot       text NOT NULL,
    version_id integer NOT NULL REFERENCES pgvmig.version,
    percent    numeric(5, 2) NOT NULL CHECK (percent BETWEEN 0 AND 100),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (relation, slot, version_id),
    FOREIGN KEY (relation, slot) REFERENCES pgvmig.slot
);

COMMENT ON COLUMN pgvmig.route.percent IS
    'of a version that is not active: the share of keys that it serves; the active one serves the others, and has 100 here';

CREATE UNIQUE INDEX route_one_active ON pgvmig.route (relation, slot) WHERE percent = 100;

CREATE UNIQUE INDEX route_one_candidate ON pgvmig.route (relation, slot) WHERE percent < 100;

-- Keys that the candidate serves whatever its share is: internal users, testers. They go with its route.
CREATE TABLE pgvmig.route_key (
    relation   regclass NOT NULL,
    slot       text NOT NULL,
    key        text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 1000),
    version_id integer NOT NULL,
    PRIMARY KEY (relation, slot, key),
    FOREIGN KEY (relation, slot, version_id) REFERENCES pgvmig.route ON DELETE CASCADE
);

CREATE SEQUENCE pgvmig.stale_entry;

-- Rows whose vector is missing or outdated. A log that is only appended to and deleted from: an upsert would fail the
-- application's REPEATABLE READ transactions. Each version has a child table with the key in the row's own types.
CREATE TABLE pgvmig.stale_row (
    entry      bigint NOT NULL DEFAULT nextval('pgvmig.stale_entry'),
    version_id integer NOT NULL,
    queued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (false) NO INHERIT
);

-- Rows that got no vector, and why. Child tables as above.
CREATE TABLE pgvmig.outcome (
    version_id    integer NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('empty', 'failed')),
    source_hash   bytea NOT NULL,
    error         text,
    attempts      integer NOT NULL DEFAULT 1,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_at   timestamptz,
    accepted_by   text,
    accept_reason text,
    CHECK (false) NO INHERIT,
    CONSTRAINT acceptance_is_whole CHECK (num_nulls(accepted_at, accepted_by, accept_reason) IN (0, 3))
);

-- Where the walk over a version's table stands. Pass 1 takes what was there before the trigger; a later pass sweeps up
-- rows that moved past the walk.
CREATE TABLE pgvmig.backfill (
    version_id     integer PRIMARY KEY REFERENCES pgvmig.version ON DELETE CASCADE,
    pass           integer NOT NULL DEFAULT 0,
    next_block     bigint NOT NULL DEFAULT 0,
    end_block      bigint NOT NULL DEFAULT 0,
    found_in_pass  bigint NOT NULL DEFAULT 0,
    walked         boolean NOT NULL DEFAULT false,
    walked_at      timestamptz,
    partitions     text[] NOT NULL DEFAULT '{}'
);

COMMENT ON COLUMN pgvmig.backfill.walked IS 'a whole pass found nothing left; only stale rows come in from now on';

COMMENT ON COLUMN pgvmig.backfill.partitions IS
    'pgvmig.partition_marks() of the table when the last whole look began: where it has others by now, it is looked over again';

-- Until when a worker listens for new rows. NOTIFY takes a lock that all commits share, so nobody notifies without a
-- listener. A table of its own: every write of the application reads it, and claims would fill it with dead rows.
CREATE TABLE pgvmig.follower (
    version_id integer PRIMARY KEY REFERENCES pgvmig.version ON DELETE CASCADE,
    until      timestamptz NOT NULL DEFAULT '-infinity'
);

-- What workers hold at the moment: a range of blocks, or entries of the stale log.
CREATE TABLE pgvmig.lease (
    lease_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version_id  integer NOT NULL REFERENCES pgvmig.version ON DELETE CASCADE,
    run_id      uuid NOT NULL,
    first_block bigint,
    last_block  bigint,
    entries     bigint[],
    taken_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    until       timestamptz NOT NULL,
    CHECK (num_nulls(first_block, entries) = 1),
    CHECK ((first_block IS NULL) = (last_block IS NULL))
);

CREATE INDEX lease_version ON pgvmig.lease (version_id);

-- One row for each worker process and version that it worked on: counters that nobody else writes.
CREATE TABLE pgvmig.backfill_run (
    run_id         uuid NOT NULL,
    version_id     integer NOT NULL REFERENCES pgvmig.version ON DELETE CASCADE,
    host           text NOT NULL,
    pid            integer NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at       timestamptz,
    ended_why      text,
    batches        bigint NOT NULL DEFAULT 0,
    rows_written   bigint NOT NULL DEFAULT 0,
    rows_empty     bigint NOT NULL DEFAULT 0,
    rows_failed    bigint NOT NULL DEFAULT 0,
    rows_outrun    bigint NOT NULL DEFAULT 0,
    rows_updated   bigint,
    rows_hot       bigint,
    waiting        text,
    waited         interval NOT NULL DEFAULT '0',
    batch_size     integer,
    speed          real,
    limits         jsonb NOT NULL DEFAULT '{}',
    peak_lag       interval,
    peak_lag_bytes bigint,
    PRIMARY KEY (run_id, version_id)
);

COMMENT ON COLUMN pgvmig.backfill_run.rows_outrun IS 'embedded, but the text had changed or the row was locked by then';

COMMENT ON COLUMN pgvmig.backfill_run.rows_hot IS
    'so many of rows_updated stayed on their page, and cost the other indexes nothing; NULL where the table is not written';

COMMENT ON COLUMN pgvmig.backfill_run.waiting IS 'what the worker waits for, NULL when it works';

COMMENT ON COLUMN pgvmig.backfill_run.speed IS 'the share of full speed: less for a while after a stop, and while a signal asks for it';

COMMENT ON COLUMN pgvmig.backfill_run.limits IS 'the limits that it was started with, where they are not the defaults';

-- What an operator changed while the worker runs; it wins over configuration and command line. Read with every look at
-- the signals.
CREATE TABLE pgvmig.throttle (
    relation   regclass NOT NULL,
    slot       text NOT NULL,
    settings   jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (relation, slot),
    FOREIGN KEY (relation, slot) REFERENCES pgvmig.slot ON DELETE CASCADE
);

COMMENT ON COLUMN pgvmig.throttle.settings IS 'limits by name, as "pgvmig throttle" writes them; what is not in it is not overridden';

-- What an operator has paused. Nothing is written while a row fits.
CREATE TABLE pgvmig.pause (
    relation  regclass,
    slot      text,
    version   text,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by text NOT NULL DEFAULT session_user,
    reason    text,
    UNIQUE NULLS NOT DISTINCT (relation, slot, version),
    CHECK ((relation IS NULL) = (slot IS NULL)),
    CHECK (version IS NULL OR slot IS NOT NULL),
    FOREIGN KEY (relation, slot) REFERENCES pgvmig.slot ON DELETE CASCADE
);

COMMENT ON TABLE pgvmig.pause IS
    'relation NULL pauses everything in this database, version NULL every version of the slot; a rollback pauses the version that it leaves';

-- It has no primary key, and where FOR ALL TABLES publishes it nobody could delete a row.
ALTER TABLE pgvmig.pause REPLICA IDENTITY FULL;

-- Every change of a worker's pace, and why; the last one says how it is now. The newest of each run are kept.
CREATE TABLE pgvmig.pacing_log (
    entry      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id     uuid NOT NULL,
    version_id integer NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    state      text NOT NULL,
    signal     text,
    reason     text,
    next       text,
    FOREIGN KEY (run_id, version_id) REFERENCES pgvmig.backfill_run ON DELETE CASCADE
);

COMMENT ON COLUMN pgvmig.pacing_log.state IS
    'running, holding, stopped, unknown, paused, hibernating or failed; see docs/pacing.md';

CREATE INDEX pacing_log_run ON pgvmig.pacing_log (run_id, version_id, entry);

-- Throughput and lag over time, a row every few seconds of a run. Of each version so many are kept, old ones thinned out.
CREATE TABLE pgvmig.backfill_sample (
    version_id   integer NOT NULL,
    run_id       uuid NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    rows_written bigint NOT NULL,
    batch_size   integer NOT NULL,
    state        text NOT NULL,
    lag          interval,
    lag_bytes    bigint,
    wal_rate     bigint,
    PRIMARY KEY (version_id, at, run_id),
    FOREIGN KEY (run_id, version_id) REFERENCES pgvmig.backfill_run ON DELETE CASCADE
);

COMMENT ON COLUMN pgvmig.backfill_sample.rows_written IS 'since the run began';

COMMENT ON COLUMN pgvmig.backfill_sample.wal_rate IS 'bytes a second that the whole cluster writes, NULL where it was not read';

-- What a table change took away, between its begin and its end. Never committed with a row.
CREATE TABLE pgvmig.table_change (
    relation regclass PRIMARY KEY,
    views    jsonb NOT NULL,
    columns  jsonb NOT NULL,
    rights   jsonb
);

CREATE TABLE pgvmig.standby (
    name     text PRIMARY KEY CHECK (name <> ''),
    dsn      text CHECK (dsn !~* 'password\s*=' AND dsn !~ '://[^/@]*:[^/@]*@'),
    added_at timestamptz NOT NULL DEFAULT now(),
    added_by text NOT NULL DEFAULT session_user
);

COMMENT ON COLUMN pgvmig.standby.name IS 'its application_name in pg_stat_replication';

COMMENT ON COLUMN pgvmig.standby.dsn IS 'without a password: that belongs into a password file';

-- Who did what, when and why. Written by the trigger on pgvmig.version, so no step can forget it.
CREATE TABLE pgvmig.event (
    event_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    who        text NOT NULL DEFAULT session_user,
    source     text NOT NULL,
    verb       text NOT NULL,
    relation   text,
    slot       text,
    version    text,
    from_state text,
    to_state   text,
    reason     text,
    revision   text,
    detail     jsonb NOT NULL DEFAULT '{}'
);

COMMENT ON COLUMN pgvmig.event.source IS 'alembic, cli, worker, watch or sql';

COMMENT ON COLUMN pgvmig.event.revision IS 'the Alembic revision that did it';

-- A gate's answer: what it measured in words and figures, its limit in words, and what to do when it did not pass.
CREATE TYPE pgvmig.gate_result AS (
    gate     text,
    passed   boolean,
    found    text,
    wanted   text,
    next     text,
    measured jsonb
);

-- How strict gates are. `max_stale_age`: rows that changed less than this ago do not count. `max_evidence_age`: how old
-- what `pgvmig verify` found may be. `way_back`: the switch is a rollback.
CREATE TYPE pgvmig.gate_terms AS (
    max_stale_age    interval,
    max_evidence_age interval,
    way_back         boolean
);

-- What `pgvmig verify` found about a version by the gates that take minutes or a provider. Every run is kept; a switch
-- asks for the newest of each gate.
CREATE TABLE pgvmig.evidence (
    evidence_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version_id  integer NOT NULL REFERENCES pgvmig.version ON DELETE CASCADE,
    gate        text NOT NULL,
    passed      boolean NOT NULL,
    found       text NOT NULL,
    wanted      text NOT NULL,
    next        text,
    measured    jsonb NOT NULL DEFAULT '{}',
    about       jsonb NOT NULL DEFAULT '{}',
    fingerprint text NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    measured_by text NOT NULL DEFAULT session_user
);

COMMENT ON COLUMN pgvmig.evidence.about IS
    'what it depended on, see pgvmig.evidence_about(): the index and how it is searched, row-level security';

COMMENT ON COLUMN pgvmig.evidence.fingerprint IS 'of the contract whose vectors were looked at';

CREATE INDEX evidence_newest ON pgvmig.evidence (version_id, gate, measured_at DESC);

-- What `pgvmig adopt` found about a column that is no version yet. Every look is kept; an adoption under the same contract,
-- also by a revision, asks for the newest.
CREATE TABLE pgvmig.adoption_look (
    look_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation      regclass NOT NULL,
    column_number smallint NOT NULL,
    fingerprint   text NOT NULL,
    passed        boolean NOT NULL,
    checks        jsonb NOT NULL CHECK (jsonb_typeof(checks) = 'array'),
    reason        text,
    measured_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    measured_by   text NOT NULL DEFAULT session_user
);

COMMENT ON COLUMN pgvmig.adoption_look.passed IS 'every check passed, or was skipped for the reason given';

COMMENT ON COLUMN pgvmig.adoption_look.checks IS '[{"check", "passed", "skipped", "found", "wanted", "next", "measured"}]';

CREATE INDEX adoption_look_newest ON pgvmig.adoption_look (relation, column_number, fingerprint, look_id DESC);

-- Queries with the rows that answer them, as somebody judged them. Frozen: another content is another hash.
CREATE TABLE pgvmig.judged_set (
    judged_set_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation      regclass NOT NULL,
    slot          text NOT NULL,
    hash          text NOT NULL,
    name          text NOT NULL,
    owner         text NOT NULL DEFAULT session_user,
    judged_on     date NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    queries       jsonb NOT NULL,
    judgements    jsonb NOT NULL,
    UNIQUE (relation, slot, hash),
    FOREIGN KEY (relation, slot) REFERENCES pgvmig.slot ON DELETE CASCADE
);

COMMENT ON COLUMN pgvmig.judged_set.queries IS '[{"id", "text", "group", "sql"}]';

COMMENT ON COLUMN pgvmig.judged_set.judgements IS '{query id: {row key: grade}}; empty when nobody judged';

-- Two versions compared on the same queries. Every one is kept, so that quality can be plotted over migrations.
CREATE TABLE pgvmig.evaluation (
    evaluation_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    old_version_id integer REFERENCES pgvmig.version ON DELETE CASCADE,
    new_version_id integer NOT NULL REFERENCES pgvmig.version ON DELETE CASCADE,
    judged_set_id  integer NOT NULL REFERENCES pgvmig.judged_set ON DELETE CASCADE,
    evaluated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    evaluated_by   text NOT NULL DEFAULT session_user,
    verdict        text CHECK (verdict IN ('GO', 'NO-GO', 'INCONCLUSIVE')),
    reason         text NOT NULL,
    pilot          boolean NOT NULL,
    thresholds     jsonb NOT NULL,
    figures        jsonb NOT NULL,
    queries        jsonb NOT NULL
);

COMMENT ON COLUMN pgvmig.evaluation.verdict IS 'NULL: without judgements there is none';

COMMENT ON COLUMN pgvmig.evaluation.pilot IS 'the backfill was not complete: only judged rows that had both vectors were compared';

COMMENT ON COLUMN pgvmig.evaluation.queries IS 'each query''s figures and what both versions answered';

CREATE INDEX evaluation_newest ON pgvmig.evaluation (new_version_id, evaluated_at DESC);

-- Searches that must work whatever is active: run after a rollback, at 3 a.m.
CREATE TABLE pgvmig.smoke_query (
    relation   regclass NOT NULL,
    slot       text NOT NULL,
    text       text NOT NULL,
    expect_key text,
    added_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    added_by   text NOT NULL DEFAULT session_user,
    PRIMARY KEY (relation, slot, text),
    FOREIGN KEY (relation, slot) REFERENCES pgvmig.slot ON DELETE CASCADE
);

COMMENT ON COLUMN pgvmig.smoke_query.expect_key IS 'the key, as text, of a row that must be among the first ten; NULL: any answer will do';

-- What services say of a version in production: clicks, errors, p95. Written by pgvmig.record_outcome() only, and only
-- appended to until "pgvmig watch --keep" prunes it.
CREATE TABLE pgvmig.production_metric (
    version_id integer NOT NULL REFERENCES pgvmig.version ON DELETE CASCADE,
    metric     text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    value      double precision NOT NULL
);

COMMENT ON COLUMN pgvmig.production_metric.metric IS
    'a service''s own word; "served" is the number of searches that a version answered since the last report';

-- As pgvmig.pause: without a primary key nobody could delete a row where FOR ALL TABLES publishes it.
ALTER TABLE pgvmig.production_metric REPLICA IDENTITY FULL;

CREATE INDEX production_metric_newest ON pgvmig.production_metric (version_id, metric, at DESC);

-- When to go back: declared beforehand, checked by `pgvmig watch`.
CREATE TABLE pgvmig.rollback_trigger (
    relation    regclass NOT NULL,
    slot        text NOT NULL,
    metric      text NOT NULL,
    comparison  text NOT NULL CHECK (comparison IN ('above', 'below')),
    bound       double precision NOT NULL CHECK (bound > '-Infinity' AND bound < 'Infinity'),
    relative    boolean NOT NULL DEFAULT false,
    statistic   text NOT NULL DEFAULT 'mean' CHECK (statistic IN ('mean', 'p95')),
    over        interval NOT NULL DEFAULT '5 min' CHECK (over > '0'),
    min_values  integer NOT NULL DEFAULT 50 CHECK (min_values > 0),
    declared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    declared_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (relation, slot, metric, comparison),
    FOREIGN KEY (relation, slot) REFERENCES pgvmig.slot ON DELETE CASCADE
);

COMMENT ON COLUMN pgvmig.rollback_trigger.relative IS
    'the bound is a multiple of what the version before had over as long a time before it was left';

-- How often a version's indexes had been scanned, on the primary and on standbys. Two readings a soak time apart that
-- differ by our own scans only are the proof that nobody reads it.
CREATE TABLE pgvmig.index_reading (
    reading_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version_id    integer NOT NULL REFERENCES pgvmig.version ON DELETE CASCADE,
    server        text NOT NULL,
    read_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    indexes       oid[],
    scans         bigint,
    own_scans     bigint NOT NULL,
    last_scan     timestamptz,
    calls         bigint,
    counted_since timestamptz,
    readers       text,
    suspects      text,
    problem       text,
    CHECK (problem IS NOT NULL OR num_nulls(indexes, scans, counted_since) = 0)
);

COMMENT ON COLUMN pgvmig.index_reading.server IS 'primary, or the standby''s name';

COMMENT ON COLUMN pgvmig.index_reading.own_scans IS 'how many of all scans had been pgvmig''s own by then';

COMMENT ON COLUMN pgvmig.index_reading.last_scan IS 'of anybody, -infinity: never; NULL where the server does not keep it (PostgreSQL 15)';

COMMENT ON COLUMN pgvmig.index_reading.calls IS
    'of queries that name the version''s view, by pg_stat_statements; NULL where that is not there';

COMMENT ON COLUMN pgvmig.index_reading.counted_since IS
    'when that server''s statistics began: after a reset, a crash or a failover it is another moment';

COMMENT ON COLUMN pgvmig.index_reading.readers IS 'sessions that held a lock on the version''s view';

COMMENT ON COLUMN pgvmig.index_reading.suspects IS 'sessions and statements that named it, for whoever looks for readers';

COMMENT ON COLUMN pgvmig.index_reading.problem IS 'why the server could not be read';

CREATE INDEX index_reading_newest ON pgvmig.index_reading (version_id, server, read_at DESC);

-- Index scans that pgvmig itself made: verify, evaluate, smoke queries. Only appended to.
CREATE TABLE pgvmig.own_index_scan (
    version_id integer NOT NULL REFERENCES pgvmig.version ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    scans      bigint NOT NULL
);

-- As pgvmig.pause: without a primary key nobody could delete a row where FOR ALL TABLES publishes it.
ALTER TABLE pgvmig.own_index_scan REPLICA IDENTITY FULL;

-- The right to read a version, taken away for a soak time; whoever misses it says so, and gets it back.
CREATE TABLE pgvmig.revoked_view (
    version_id integer PRIMARY KEY REFERENCES pgvmig.version ON DELETE CASCADE,
    grants     jsonb NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_by text NOT NULL DEFAULT session_user
);

COMMENT ON COLUMN pgvmig.revoked_view.grants IS
    'what is to be given back, in this order: [{"relation", "column", "grantor", "grantee", "grantable"}], no grantee is PUBLIC';

GRANT SELECT ON pgvmig.installation, pgvmig.contract, pgvmig.slot, pgvmig.version, pgvmig.route, pgvmig.route_key TO PUBLIC;

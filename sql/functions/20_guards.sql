-- What may never change, whoever asks.
CREATE OR REPLACE FUNCTION pgvmig.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a contract is frozen: the vectors made under it would no longer be what it says'
        USING ERRCODE = 'PV004', HINT = 'add another version with the changed contract';
END
$$;

-- Views are read-only: they show one version, and a write would not say which.
CREATE OR REPLACE FUNCTION pgvmig.refuse_view_write() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'view %.% is read-only', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'PV005', HINT = 'write to the table; the worker writes the vectors';
END
$$;

-- Stored column lists only grow: CREATE OR REPLACE VIEW can append columns and nothing else. A table change makes the views
-- anew.
CREATE OR REPLACE FUNCTION pgvmig.keep_view_columns() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.view_columns[1:cardinality(OLD.view_columns)] IS DISTINCT FROM OLD.view_columns
        AND NOT EXISTS (SELECT FROM pgvmig.table_change c WHERE c.relation = OLD.relation) THEN
        RAISE EXCEPTION 'the column list of the views of % can only be appended to', pgvmig.label(OLD.relation, OLD.slot)
            USING ERRCODE = 'PV004';
    END IF;
    RETURN NEW;
END
$$;

-- The lifecycle, and its diary. The verb, its source, reason and revision come from settings of this transaction.
CREATE OR REPLACE FUNCTION pgvmig.enforce_lifecycle() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text := CASE WHEN TG_OP <> 'INSERT' THEN OLD.state END;
    after text := CASE WHEN TG_OP <> 'DELETE' THEN NEW.state END;
    subject pgvmig.version := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.version_id, NEW.relation, NEW.slot, NEW.version, NEW.fingerprint)
                            <> (OLD.version_id, OLD.relation, OLD.slot, OLD.version, OLD.fingerprint) THEN
        RAISE EXCEPTION '% % stays what it is: its table, slot, name and contract say which vectors these are',
            pgvmig.label(OLD.relation, OLD.slot), OLD.version
            USING ERRCODE = 'PV004', HINT = 'add another version';
    ELSIF TG_OP = 'UPDATE' AND before = after THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND before IN ('active', 'retained')
        OR TG_OP = 'INSERT' AND after = 'active' AND NOT NEW.adopted
        OR TG_OP <> 'DELETE' AND NOT EXISTS (
            SELECT FROM pgvmig.transition t WHERE t.from_state IS NOT DISTINCT FROM before AND t.to_state = after)
    THEN
        RAISE EXCEPTION '% % cannot go from % to %', pgvmig.label(subject.relation, subject.slot), subject.version,
            coalesce(before, 'nothing'), coalesce(after, 'nothing')
            USING ERRCODE = 'PV004',
                  HINT = coalesce((SELECT 'from ' || before || ' it can go to ' || string_agg(t.to_state, ', ')
                                   FROM pgvmig.transition t WHERE t.from_state = before),
                                  'a version begins as added, or as active when it is adopted');
    END IF;
    INSERT INTO pgvmig.event (source, verb, relation, slot, version, from_state, to_state, reason, revision, detail)
    VALUES (coalesce(nullif(current_setting('pgvmig.source', true), ''), 'sql'),
            coalesce(nullif(current_setting('pgvmig.verb', true), ''), 'change state'),
            pgvmig.label(subject.relation, 'embedding'), subject.slot, subject.version, before, after,
            nullif(current_setting('pgvmig.reason', true), ''),
            nullif(current_setting('pgvmig.revision', true), ''),
            coalesce(nullif(current_setting('pgvmig.detail', true), ''), '{}')::jsonb);
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    NEW.state_changed_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- An event of what changes no state, so that the lifecycle's diary does not see it.
CREATE OR REPLACE FUNCTION pgvmig.record_event(v pgvmig.version, verb text, reason text, detail jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO pgvmig.event (source, verb, relation, slot, version, reason, revision, detail)
    VALUES (coalesce(nullif(current_setting('pgvmig.source', true), ''), 'sql'), $2,
            pgvmig.label(v.relation, 'embedding'), v.slot, v.version, $3,
            nullif(current_setting('pgvmig.revision', true), ''), $4)
$$;

REVOKE ALL ON FUNCTION pgvmig.record_event FROM PUBLIC;

CREATE OR REPLACE TRIGGER frozen BEFORE UPDATE OR DELETE ON pgvmig.contract
    FOR EACH ROW EXECUTE FUNCTION pgvmig.refuse_change();

CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE ON pgvmig.slot
    FOR EACH ROW EXECUTE FUNCTION pgvmig.keep_view_columns();

CREATE OR REPLACE TRIGGER lifecycle BEFORE INSERT OR UPDATE OR DELETE ON pgvmig.version
    FOR EACH ROW EXECUTE FUNCTION pgvmig.enforce_lifecycle();

"""The control schema: installed, upgraded, and what it refuses whoever asks."""

from itertools import product

import psycopg
import pytest
from lifecycle import CONTRACT, add_version, install
from psycopg import errors as pg
from psycopg.types.json import Jsonb

from pgvmig.catalog import schema
from pgvmig.catalog.connection import translate
from pgvmig.catalog.schema import Step
from pgvmig.contract import Contract
from pgvmig.errors import DestructionRefusedError, IllegalTransitionError, SchemaVersionError
from pgvmig.lifecycle import INITIAL, State, is_legal
from pgvmig.names import fit
from pgvmig.runner import ConnectionRunner

pytestmark = pytest.mark.majors(18, 16)


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection)


def objects(connection):
    """Everything in schema pgvmig, with its definition where it has one."""
    return connection.execute(
        """SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid) FROM pg_proc p
           WHERE p.pronamespace = 'pgvmig'::regnamespace
           UNION ALL SELECT 'relation', c.oid::regclass::text, c.relkind::text FROM pg_class c
           WHERE c.relnamespace = 'pgvmig'::regnamespace
           UNION ALL SELECT 'trigger', t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t
           JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'pgvmig'::regnamespace AND NOT t.tgisinternal
           ORDER BY 1, 2, 3"""
    ).fetchall()


def installation(connection):
    return connection.execute("SELECT schema_version, toolkit_version, upgraded_at FROM pgvmig.installation").fetchone()


def test_installing_twice_changes_nothing(connection, run):
    before = objects(connection), installation(connection)
    assert schema.install(run) is False
    assert (objects(connection), installation(connection)) == before
    assert installation(connection) == (schema.newest(), "0.1.0", None)


def test_uninstalling_leaves_nothing_and_installing_begins_anew(connection, run):
    before = objects(connection)
    assert schema.uninstall(run) is True
    assert schema.installed(run) is None
    assert connection.execute("SELECT FROM pg_namespace WHERE nspname = 'pgvmig'").fetchall() == []
    assert schema.uninstall(run) is False
    assert schema.install(run) is True
    assert objects(connection) == before


def test_uninstalling_is_refused_while_there_are_versions(connection, run):
    add_version(connection, "documents", "v1")
    with pytest.raises(DestructionRefusedError) as error:
        schema.uninstall(run)
    assert str(error.value) == (
        "pgvmig still looks after documents v1. Without the control schema nobody knows which vectors are of which "
        "model. Next: downgrade the revisions that added them first"
    )
    connection.execute("DROP TABLE documents CASCADE")
    assert schema.uninstall(run) is True


@pytest.mark.bare
def test_a_database_without_it_says_so(database):
    with pytest.raises(SchemaVersionError) as error:
        schema.require(ConnectionRunner(database.connect()))
    assert str(error.value) == (
        "this database has no control schema (pgvmig). Next: pgvmig init, or op.install_pgvmig() in a revision"
    )


def test_an_older_control_schema_says_so_and_stops(connection, run):
    connection.execute("UPDATE pgvmig.installation SET schema_version = 0")
    with pytest.raises(SchemaVersionError) as error:
        schema.require(run)
    assert str(error.value) == (
        "the control schema is version 0, this pgvmig needs 1. Next: pgvmig init, or op.upgrade_pgvmig(1) in a revision"
    )


def test_a_newer_control_schema_says_so_and_stops(connection, run):
    connection.execute("UPDATE pgvmig.installation SET schema_version = 2")
    before = objects(connection)
    for verb in (schema.require, schema.install):
        with pytest.raises(SchemaVersionError) as error:
            verb(run)
        assert str(error.value) == (
            "the control schema is version 2, this pgvmig knows 1. "
            "Next: install a newer pgvmig: pip install --upgrade pgvmig"
        )
    assert objects(connection) == before


def test_a_toolkit_that_is_too_old_for_a_revision_says_so(run):
    with pytest.raises(SchemaVersionError) as error:
        schema.install(run, at_least=2)
    assert str(error.value) == (
        "this pgvmig brings control schema version 1, 2 is asked for. Next: pip install --upgrade pgvmig"
    )


def test_upgrading_runs_what_is_missing_and_keeps_what_is_there(connection, run, monkeypatch):
    add_version(connection, "documents", "v1")
    newer = [*schema.steps(), Step(2, ["ALTER TABLE pgvmig.version ADD COLUMN later text"])]
    monkeypatch.setattr(schema, "steps", lambda: newer)
    with pytest.raises(SchemaVersionError, match=r"version 1, this pgvmig needs 2\. Next: pgvmig init"):
        schema.require(run)
    assert schema.install(run) is True
    schema.require(run)
    assert connection.execute("SELECT version, later FROM pgvmig.version").fetchall() == [("v1", None)]
    version, _, upgraded_at = installation(connection)
    assert (version, upgraded_at is not None) == (2, True)


def test_names_are_cut_as_python_cuts_them(connection):
    names = ["short", "x" * 63, "x" * 64, "x" + "ü" * 40, "ü" * 40, "€" * 30, "𝄞" * 20, "documents_" + "é" * 60 + "_v1"]
    for name in names:
        assert connection.execute("SELECT pgvmig.fit(%s)", [name]).fetchone() == (fit(name),)


STATES = [None, *State]


def test_the_database_knows_the_same_steps(connection):
    """Each pair of states, tried on a row that got to its state without the trigger."""
    add_version(connection, "documents", "v1")
    for before, after in product(STATES, STATES):
        # None after a state: deleted, by the downgrade of add
        legal = before not in (State.ACTIVE, State.RETAINED) if after is None else is_legal(before, after)
        assert refusal(connection, before, after) == (None if legal else "PV004"), (before, after)


def refusal(connection, before, after):
    """The SQLSTATE with which the database refuses the step, None when it does not; the version is put back."""
    with connection.transaction(force_rollback=True):
        set_state(connection, before)
        try:
            go(connection, before, after)
        except psycopg.Error as error:
            return error.sqlstate
    return None


def set_state(connection, state):
    connection.execute("ALTER TABLE pgvmig.version DISABLE TRIGGER lifecycle")
    if state is None:
        connection.execute("DELETE FROM pgvmig.version")
    else:
        connection.execute("UPDATE pgvmig.version SET state = %s", [state])
    connection.execute("ALTER TABLE pgvmig.version ENABLE TRIGGER lifecycle")


def go(connection, before, after):
    if before is None and after is not None:
        insert(connection, "v1", after)
    elif after is None:
        connection.execute("DELETE FROM pgvmig.version")
    else:
        connection.execute("UPDATE pgvmig.version SET state = %s", [after])


def insert(connection, version, state, *, adopted=True):
    connection.execute(
        """INSERT INTO pgvmig.version (relation, slot, version, state, writer, adopted, layout, fingerprint,
               vector_relation, vector_column, version_id_column, source_hash_column, embedded_at_column, object_name)
           SELECT relation, slot, %(version)s, %(state)s, 'worker', %(adopted)s, 'column',
               (SELECT min(fingerprint) FROM pgvmig.contract), relation, 'a', 'b', 'c', 'd', 'documents_' || %(version)s
           FROM pgvmig.slot""",
        {"version": version, "state": state, "adopted": adopted},
    )


def test_a_refused_step_says_where_it_can_go(connection):
    add_version(connection, "documents", "v1")
    with pytest.raises(psycopg.Error) as error:
        connection.execute("UPDATE pgvmig.version SET state = 'active'")
    translated = translate(error.value)
    assert isinstance(translated, IllegalTransitionError)
    assert str(translated) == (
        "documents v1 cannot go from added to active. Next: from added it can go to backfilling, ready, retired"
    )


@pytest.mark.parametrize("state", ["ready", "nonsense"])
def test_a_version_begins_where_versions_begin(connection, state):
    assert state not in INITIAL
    add_version(connection, "documents", "v1")
    with pytest.raises(psycopg.Error) as error:
        insert(connection, "v2", state)
    assert str(translate(error.value)) == (
        f"documents v2 cannot go from nothing to {state}. Next: a version begins as added, or as active when it is "
        "adopted"
    )


def test_only_an_adopted_version_begins_as_active(connection):
    add_version(connection, "documents", "v1")
    with pytest.raises(psycopg.Error) as error:
        insert(connection, "v2", "active", adopted=False)
    assert str(translate(error.value)) == (
        "documents v2 cannot go from nothing to active. Next: a version begins as added, or as active when it is "
        "adopted"
    )


def test_one_version_of_a_slot_is_active(connection):
    for version in ("v1", "v2"):
        add_version(connection, "documents", version)
    connection.execute("UPDATE pgvmig.version SET state = 'ready'")
    connection.execute("UPDATE pgvmig.version SET state = 'active' WHERE version = 'v1'")
    with pytest.raises(pg.UniqueViolation, match="version_one_active"):
        connection.execute("UPDATE pgvmig.version SET state = 'active' WHERE version = 'v2'")
    add_version(connection, "documents", "v1", slot="title")
    connection.execute("UPDATE pgvmig.version SET state = 'ready' WHERE slot = 'title'")
    connection.execute("UPDATE pgvmig.version SET state = 'active' WHERE slot = 'title'")


@pytest.mark.parametrize(
    "change", ["UPDATE pgvmig.contract SET canonical = '{}'", "UPDATE pgvmig.contract SET created_at = now()"]
)
def test_contracts_are_frozen(connection, change):
    add_version(connection, "documents", "v1")
    for statement in (change, "DELETE FROM pgvmig.contract"):
        with pytest.raises(psycopg.Error) as error:
            connection.execute(statement)
        assert str(translate(error.value)) == (
            "a contract is frozen: the vectors made under it would no longer be what it says. "
            "Next: add another version with the changed contract"
        )


def test_a_version_stays_on_its_contract_and_table(connection):
    add_version(connection, "documents", "v1")
    add_version(connection, "documents", "v2", {"model": "other"})
    for change in ("fingerprint = (SELECT fingerprint FROM pgvmig.version WHERE version = 'v2')", "version = 'v3'"):
        with pytest.raises(psycopg.Error) as error:
            connection.execute(f"UPDATE pgvmig.version SET {change} WHERE version = 'v1'")
        assert str(translate(error.value)) == (
            "documents v1 stays what it is: its table, slot, name and contract say which vectors these are. "
            "Next: add another version"
        )


def test_a_fingerprint_is_of_the_canonical_form(connection):
    contract = Contract.of(CONTRACT)
    insert = "INSERT INTO pgvmig.contract (fingerprint, canonical) VALUES (%s, %s)"
    with pytest.raises(pg.CheckViolation, match="fingerprint_is_of_the_canonical_form"):
        connection.execute(insert, [contract.fingerprint, contract.canonical().replace("8", "9")])
    connection.execute(insert, [contract.fingerprint, contract.canonical()])
    assert connection.execute("SELECT definition FROM pgvmig.contract").fetchone() == (contract.as_dict(),)


@pytest.mark.parametrize("columns", ["'{body,id,embedding}'", "'{id}'", "'{}'"])
def test_view_columns_are_only_appended_to(connection, columns):
    add_version(connection, "documents", "v1")
    with pytest.raises(psycopg.Error) as error:
        connection.execute(f"UPDATE pgvmig.slot SET view_columns = {columns}")
    assert str(translate(error.value)) == "the column list of the views of documents can only be appended to"
    connection.execute(
        "UPDATE pgvmig.slot SET view_columns = view_columns || 'more'::text, view_numbers = view_numbers || 9::int2"
    )


@pytest.mark.parametrize(
    "dsn",
    ["host=a password=b", "host=a Password = 'b'", "postgresql://u:secret@host/db", "postgresql://h/d?password=x"],
)
def test_a_standby_is_declared_without_its_password(connection, dsn):
    with pytest.raises(pg.CheckViolation, match="standby_dsn_check"):
        connection.execute("INSERT INTO pgvmig.standby (name, dsn) VALUES ('s1', %s)", [dsn])


@pytest.mark.parametrize("dsn", [None, "host=a user=b passfile=/etc/pass", "postgresql://u@host:5433/db"])
def test_other_standbys_are_taken(connection, dsn):
    connection.execute("INSERT INTO pgvmig.standby (name, dsn) VALUES ('s1', %s)", [dsn])
    assert connection.execute("SELECT name, dsn, added_by = session_user FROM pgvmig.standby").fetchone() == (
        "s1",
        dsn,
        True,
    )


def test_every_change_of_state_is_an_event(connection):
    add_version(connection, "documents", "v1")
    with connection.transaction():
        connection.execute(
            "SELECT set_config('pgvmig.source', 'cli', true), set_config('pgvmig.verb', 'give up', true), "
            "set_config('pgvmig.reason', 'too dear', true), set_config('pgvmig.revision', 'abc', true), "
            """set_config('pgvmig.detail', '{"rows": 3}', true)"""
        )
        connection.execute("UPDATE pgvmig.version SET state = 'retired'")
    connection.execute("DELETE FROM pgvmig.version")
    added, retired, deleted = connection.execute(
        "SELECT who, source, verb, relation, slot, version, from_state, to_state, reason, revision, detail "
        "FROM pgvmig.event ORDER BY event_id"
    ).fetchall()
    user = connection.info.user
    fingerprint = Contract.of(CONTRACT).fingerprint
    common = ("documents", "embedding", "v1")
    assert added == (user, "sql", "add", *common, None, "added", None, None, {"fingerprint": fingerprint})
    assert retired == (user, "cli", "give up", *common, "added", "retired", "too dear", "abc", {"rows": 3})
    assert deleted == (user, "sql", "change state", *common, "retired", None, None, None, {})


def test_an_update_of_something_else_is_no_event(connection):
    add_version(connection, "documents", "v1")
    connection.execute("UPDATE pgvmig.version SET search = %s", [Jsonb({"ef_search": 100})])
    assert connection.execute("SELECT count(*) FROM pgvmig.event").fetchone() == (1,)


def test_parents_of_the_queues_hold_no_rows_themselves(connection):
    for table in ("stale_row (version_id)", "outcome (version_id, kind, source_hash)"):
        columns = "1" if table.startswith("stale") else "1, 'empty', ''"
        with pytest.raises(pg.CheckViolation):
            connection.execute(f"INSERT INTO pgvmig.{table} VALUES ({columns})")


def test_what_everybody_may_do(connection):
    """Services read what they need to search; nobody but the owner writes, or runs a verb."""
    add_version(connection, "documents", "v1")
    role = f"{connection.info.dbname}_anybody"
    connection.execute(f"CREATE ROLE {role}")
    try:
        connection.execute(f"SET ROLE {role}")
        for table in ("installation", "contract", "slot", "version", "route"):
            connection.execute(f"SELECT FROM pgvmig.{table}")
            with pytest.raises(pg.InsufficientPrivilege):
                connection.execute(f"DELETE FROM pgvmig.{table}")
        for call in ("cut_over('documents', 'v1')", "retire('documents', 'v1')", "drop_version('documents', 'v1')"):
            with pytest.raises(pg.InsufficientPrivilege):
                connection.execute(f"SELECT pgvmig.{call}")
        assert connection.execute("SELECT version FROM pgvmig.active_space('documents')").fetchall() == []
        assert connection.execute("SELECT pgvmig.route('documents', '1')").fetchone() == (None,)
        connection.execute("SELECT pgvmig.require_schema(1)")
    finally:
        connection.execute("RESET ROLE")
        connection.execute(f"DROP ROLE {role}")

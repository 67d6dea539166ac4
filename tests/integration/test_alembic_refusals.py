"""What the operations refuse, and that a refusal leaves nothing behind."""

import threading

import psycopg
import pytest
from lifecycle import CONTRACT, add_version, adopt_version, cut_over, embed, find, install, prove
from migrating import OwnProject

from pgvmig import adding, errors, indexing
from pgvmig.address import address
from pgvmig.runner import ConnectionRunner

V1, V2 = address("documents", "v1"), address("documents", "v2")


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text, vec vector(8))")
    connection.execute("INSERT INTO documents (id, body) SELECT i, 'text ' || i FROM generate_series(1, 10) AS i")
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection)


@pytest.fixture
def project(database, tmp_path, connection):
    return OwnProject(database.url, tmp_path / "migrations")


def everything(connection):
    relations = """SELECT relname, relnatts, relchecks, relhastriggers FROM pg_class
                   WHERE relnamespace IN ('public'::regnamespace, 'pgvmig'::regnamespace)
                   AND relname NOT LIKE 'my_revisions%' ORDER BY 1"""
    return (
        connection.execute(relations).fetchall(),
        connection.execute("SELECT version, state FROM pgvmig.version").fetchall(),
        connection.execute("SELECT count(*) FROM pgvmig.slot").fetchall(),
        connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'pgvmig'::regnamespace ORDER BY 1"
        ).fetchall(),
    )


def refusal(project, connection, kind, operation, *told):
    """Run a revision that must fail, and return what it says."""
    before = everything(connection)
    project.revision(operation)
    with pytest.raises(kind) as error:
        project.upgrade("head", *told)
    assert everything(connection) == before
    assert project.done(connection) == []
    return str(error.value)


def test_the_same_version_with_another_contract_shows_the_difference(project, connection):
    v1 = add_version(connection, "documents", "v1")
    message = refusal(
        project,
        connection,
        errors.ConflictError,
        'op.add_embedding("documents", "v1", {**CONTRACT, "model": "other", "query_prefix": "query: "})',
    )
    assert message.startswith(
        "documents v1 exists with another contract:\n"
        "model         'hash' -> 'other'\n"
        "query_prefix  '' -> 'query: '\n"
        f"another space: {v1.contract.fingerprint[:12]} -> "
    )
    assert message.endswith(
        "every row is embedded again. Its vectors were made under the first; a contract is frozen. "
        "Next: add the changed contract as the next version; where two branches each added v1, give the revision that "
        "was run nowhere another number"
    )
    with pytest.raises(psycopg.Error, match="documents v1 exists with another contract"):
        connection.execute(
            "SELECT pgvmig.add_version('documents', 'embedding', 'v1', '{}', 'documents_v1', "
            "'{id,body,vec,embedding}', '{id}', 'a', 'b', 'c', 'd', 'o')"
        )


NO_KEY = "Nobody could say which row a vector belongs to. Next: add one, or name key=[...]"
NOT_FOUND = errors.NotFoundError
UNUSABLE = [
    ('"documents", "v2", {**CONTRACT, "modle": 1}', errors.ContractError, "the contract has no key 'modle'"),
    ('"documents", "2", CONTRACT', errors.UsageError, "'2' is not a version's name. Next: write v1, v2 and so on"),
    ('"documents", "v1", CONTRACT, layout="row"', errors.UsageError, "layout is 'row'. Next: use one of column"),
    ('"nowhere", "v1", CONTRACT', NOT_FOUND, 'there is no table "nowhere". Next: check schema= and the name'),
    (
        '"keyless", "v1", CONTRACT',
        NOT_FOUND,
        f"keyless has no primary key and no unique key without NULLs. {NO_KEY}",
    ),
    (
        '"a_view", "v1", CONTRACT',
        NOT_FOUND,
        "a_view is a view. Its rows are other tables'. Next: name the table that it reads",
    ),
    (
        '"volatile", "v1", CONTRACT',
        errors.ConflictError,
        "volatile is unlogged. A crash empties it, and its standbys never see it. Next: ALTER TABLE volatile SET",
    ),
    (
        '"documents", "v1", CONTRACT, columns=["titel"]',
        NOT_FOUND,
        "documents has no column titel. Next: check columns=",
    ),
    ('"documents", "v1", CONTRACT, key=["nr"]', NOT_FOUND, "documents has no column nr"),
    (
        '"documents", "v1", CONTRACT, key=["body"]',
        NOT_FOUND,
        f"documents has no unique key without NULLs on body. {NO_KEY}",
    ),
    (
        '"nullable", "v1", CONTRACT, key=["id"]',
        NOT_FOUND,
        f"nullable has no unique key without NULLs on id. {NO_KEY}",
    ),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), UNUSABLE, ids=[arguments for arguments, _, _ in UNUSABLE])
def test_tables_and_arguments_that_cannot_be_used(project, connection, arguments, kind, message):
    connection.execute("CREATE TABLE keyless (id int UNIQUE, body text)")
    connection.execute("CREATE TABLE nullable (id int UNIQUE, nr int PRIMARY KEY, body text)")
    connection.execute("CREATE VIEW a_view AS TABLE documents")
    connection.execute("CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY, body text)")
    assert refusal(project, connection, kind, f"op.add_embedding({arguments})").startswith(message)


def test_a_later_version_has_the_slots_key(project, connection):
    connection.execute("ALTER TABLE documents ADD COLUMN nr int NOT NULL UNIQUE GENERATED ALWAYS AS IDENTITY")
    add_version(connection, "documents", "v1")
    assert (
        refusal(
            project,
            connection,
            errors.IllegalTransitionError,
            'op.add_embedding("documents", "v2", CONTRACT, key=["nr"])',
        )
        == "the key of documents is id, not nr. Next: leave key= out, or name that key"
    )


def test_vectors_are_not_dropped_by_accident(project, connection, run):
    for version in ("v1", "v2"):
        add_version(connection, "documents", version)
        embed(connection, find(connection, address("documents", version)))
    project.revision('op.drop_embedding("documents", "v2")')
    for told in ((), ("pgvmig_drop=documents.v1",), ("pgvmig_drop=v2",), ("pgvmig_drop",)):
        before = everything(connection)
        with pytest.raises(errors.DestructionRefusedError) as error:
            project.upgrade("head", *told)
        assert str(error.value) == (
            "dropping documents v2 would destroy 10 vectors. They were paid for, and a rollback may still need them. "
            "Next: alembic -x pgvmig_drop=documents.v2 downgrade ..."
        )
        assert everything(connection) == before
    project.upgrade("head", "pgvmig_drop=documents.v2", "pgvmig_drop=documents.v1")
    assert connection.execute("SELECT version FROM pgvmig.version").fetchall() == [("v1",)]


def test_an_active_version_is_not_dropped_whoever_says_so(project, connection, run):
    v1 = add_version(connection, "documents", "v1")
    embed(connection, v1)
    indexing.build(run, V1)
    cut_over(run, V1)
    message = refusal(
        project,
        connection,
        errors.IllegalTransitionError,
        'op.drop_embedding("documents", "v1")',
        "pgvmig_drop=documents.v1",
    )
    assert message == "documents v1 is active. Next: pgvmig rollback documents"


def test_what_is_active_or_in_use_is_not_retired(project, connection, run):
    for version in ("v1", "v2"):
        embed(connection, add_version(connection, "documents", version))
        indexing.build(run, address("documents", version))
    cut_over(run, V1)
    operation = 'op.retire_embedding("documents", "v1")'
    assert refusal(project, connection, errors.IllegalTransitionError, operation) == (
        "documents v1 is active: searches go there. Next: cut over to another version first"
    )
    cut_over(run, V2)
    connection.execute("CREATE VIEW report AS SELECT id FROM documents_v1")
    with pytest.raises(errors.IllegalTransitionError) as error:
        project.upgrade("head")
    assert str(error.value) == (
        "public.documents_v1 is still used by view public.report. Next: point them at the current view, then retire"
    )
    assert connection.execute("SELECT to_regclass('documents_embedding_v1_hnsw') IS NOT NULL").fetchone() == (True,)


def test_dropping_names_what_depends_on_the_view(project, connection):
    add_version(connection, "documents", "v1")
    connection.execute("CREATE VIEW report AS SELECT id FROM documents_v1")
    assert "cannot drop view public.documents_v1 because other objects depend on it" in refusal(
        project, connection, errors.DatabaseError, 'op.drop_embedding("documents", "v1")'
    )


def test_a_name_of_ours_that_is_taken_is_refused(project, connection):
    connection.execute("CREATE TABLE documents_v1 (id int)")
    message = refusal(project, connection, errors.DatabaseError, 'op.add_embedding("documents", "v1", CONTRACT)')
    assert 'relation "documents_v1" already exists' in message


def test_an_index_of_another_table_is_not_taken_for_ours(project, connection):
    embed(connection, add_version(connection, "documents", "v1"))
    connection.execute("CREATE TABLE other (id int)")
    connection.execute("CREATE INDEX documents_embedding_v1_hnsw ON other (id)")
    assert refusal(project, connection, errors.ConflictError, 'op.index_embedding("documents", "v1")') == (
        '"public"."documents_embedding_v1_hnsw" is an index of another table. It would be dropped as the remains of an '
        "interrupted build. Next: rename it: ALTER INDEX ... RENAME TO ..."
    )


BAD_OPTION = (
    "hnsw has no option 'mm'. PostgreSQL would say so after the backfill, when the index is begun. "
    "Next: use m or ef_construction"
)
INDEX = [
    ('"documents", "v1", method="btree"', errors.UsageError, "method is 'btree'. Next: use one of hnsw, ivfflat"),
    ('"documents", "v1", options={"mm": 1}', errors.UsageError, BAD_OPTION),
    ('"documents", "v3"', errors.NotFoundError, "there is no documents v3. Next: op.add_embedding() adds it"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), INDEX, ids=[arguments for arguments, _, _ in INDEX])
def test_an_index_that_cannot_be(project, connection, arguments, kind, message):
    embed(connection, add_version(connection, "documents", "v1"))
    assert refusal(project, connection, kind, f"op.index_embedding({arguments})") == message


def test_options_reach_the_index(connection, run):
    embed(connection, add_version(connection, "documents", "v1"))
    indexing.build(run, V1, options={"m": 8, "ef_construction": 32})
    options = "SELECT reloptions FROM pg_class WHERE relname = 'documents_embedding_v1_hnsw'"
    assert connection.execute(options).fetchone() == (["m=8", "ef_construction=32"],)


def fewer_attempts(connection, attempts=3):
    """Make the lock's retries end sooner, where their number is a default."""
    (text,) = connection.execute(
        "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = 'execute_patiently'"
    ).fetchone()
    assert "attempts integer DEFAULT 50" in text
    connection.execute(text.replace("DEFAULT 50", f"DEFAULT {attempts}"))


@pytest.mark.parametrize("mode", ["ACCESS SHARE", "ROW EXCLUSIVE"])
def test_a_lock_that_is_not_to_be_had_ends_in_an_error_and_nothing_else(database, project, connection, mode):
    fewer_attempts(connection)
    other = database.connect()
    with other.transaction():
        other.execute(f"LOCK TABLE documents IN {mode} MODE")
        message = refusal(
            project, connection, errors.LockNotAvailableError, 'op.add_embedding("documents", "v1", CONTRACT)'
        )
        connection.execute("SELECT count(*) FROM documents")  # nobody queues behind us
    assert message == (
        "a lock was not to be had: no lock in 3 attempts of 100 ms each. Somebody holds a transaction open on this "
        "table or view; waiting longer would queue everybody else. Next: find who holds it (pg_blocking_pids, "
        "pg_stat_activity.xact_start), then run this again; nothing was changed"
    )
    project.upgrade("head")
    assert find(connection, V1).state == "added"


def test_a_lock_that_comes_free_in_time_is_taken(database, project, connection):
    other = database.connect()
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM documents")
    timer = threading.Timer(1.0, other.execute, ["COMMIT"])
    timer.start()
    project.revision('op.add_embedding("documents", "v1", CONTRACT)')
    project.upgrade("head")
    timer.join()
    assert find(connection, V1).state == "added"


def test_a_swap_waits_for_readers_and_gives_up(database, project, connection, run):
    for version in ("v1", "v2"):
        embed(connection, add_version(connection, "documents", version))
        indexing.build(run, address("documents", version))
    cut_over(run, V1)
    prove(connection, find(connection, V2))
    fewer_attempts(connection)
    other = database.connect()
    with other.transaction():
        other.execute("SELECT count(*) FROM documents_current")
        operation = 'op.cut_over_embedding("documents", "v2", force="standbys: the reader is to be met")'
        refusal(project, connection, errors.LockNotAvailableError, operation)
        assert connection.execute("SELECT min(embedding_space) FROM documents_current").fetchone() == ("v1",)
    project.upgrade("head")
    assert connection.execute("SELECT min(embedding_space) FROM documents_current").fetchone() == ("v2",)


def test_the_callers_lock_timeout_comes_back(connection, run):
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '7s'")
        adding.add(run, V1, CONTRACT)
        assert connection.execute("SHOW lock_timeout").fetchone() == ("7s",)


def test_a_second_active_version_is_not_adopted(connection, run):
    connection.execute("UPDATE documents SET vec = '[1,0,0,0,0,0,0,0]'")
    adopt_version(connection, "documents", "v1", "vec")
    connection.execute("ALTER TABLE documents ADD COLUMN more vector(8)")
    with pytest.raises(errors.IllegalTransitionError) as error, connection.transaction():
        adding.adopt(run, V2, "more", CONTRACT)
    assert str(error.value) == (
        "documents has an active version already. Adopted vectors are active from the start, and two active versions "
        "would be mixed. Next: op.add_embedding adds another version beside it, or adopt the column in a slot of its "
        "own"
    )
    assert connection.execute("SELECT to_regclass('documents_v2')").fetchone() == (None,)

"""Another definition of an index: built beside the old one, and never without an index, whatever happens in between."""

import threading
import time

import psycopg
import pytest
from lifecycle import add_version, adopt_version, embed
from vectors import cut_over

from pgvmig import indexing, one_index
from pgvmig import sql as files
from pgvmig.address import address
from pgvmig.cli import index_progress
from pgvmig.errors import BlockedError
from pgvmig.runner import ConnectionRunner

V1 = address("documents", "v1")
NAME = "documents_embedding_v1_hnsw"
INDEXES = """
    SELECT c.relname, m.amname, c.reloptions, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam WHERE m.amname IN ('hnsw', 'ivfflat') ORDER BY c.relname"""
SERVING = """
    SELECT pgvmig.serving_index(v, k.definition)::text
    FROM pgvmig.version v JOIN pgvmig.contract k USING (fingerprint) WHERE v.version = 'v1'"""

GATE = "SELECT passed, found FROM pgvmig.version v, pgvmig.gate_index(v, NULL) WHERE v.version = 'v1'"


@pytest.fixture
def connection(database):
    connection = database.connect()
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text, vec vector(8))")
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 20) AS i")
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection)


@pytest.fixture
def v1(connection):
    version = add_version(connection, "documents", "v1")
    embed(connection, version)
    cut_over(connection, version)
    return version


def indexes(connection):
    return [(name, method, options) for name, method, options, _ in connection.execute(INDEXES)]


class StoppedError(Exception):
    """Somebody pulled the plug."""


@pytest.fixture
def stop_after(monkeypatch, connection):
    """Die when so many steps are taken; after each a search of the version has a valid index, if it had one before."""

    def stop_after(number):
        taken = []
        take = one_index.take

        def counting(run, wanted, step):
            if len(taken) == number:
                raise StoppedError
            take(run, wanted, step)
            taken.append(step.verb)
            assert connection.execute(SERVING).fetchone() != (None,)

        monkeypatch.setattr(one_index, "take", counting)
        return lambda: monkeypatch.setattr(one_index, "take", take)

    return stop_after


CHANGES = [
    ({}, {"options": {"m": 32}}),
    ({}, {"quantize": "binary"}),
    ({"quantize": "halfvec"}, {}),
    ({}, {"method": "ivfflat"}),
    ({"method": "ivfflat", "options": {"lists": 3}}, {"options": {"m": 8}}),
]


@pytest.mark.layouts
@pytest.mark.usefixtures("v1")
@pytest.mark.parametrize(("before", "after"), CHANGES, ids=[f"{before} to {after}" for before, after in CHANGES])
def test_a_change_that_is_stopped_after_any_step_goes_on(connection, run, stop_after, before, after):
    for number in range(3):
        indexing.build(run, V1, **before)
        go_on = stop_after(number)
        try:
            indexing.build(run, V1, **after)
        except StoppedError:
            assert connection.execute(SERVING).fetchone() != (None,)
            go_on()
            assert indexing.build(run, V1, **after)
        go_on()
        assert not indexing.build(run, V1, **after)
        method = after.get("method", "hnsw")
        options = [f"{name}={value}" for name, value in after.get("options", {}).items()] or None
        if method == "ivfflat":
            options = ["lists=1"]
        assert indexes(connection) == [(f"documents_embedding_v1_{method}", method, options)]
    assert indexing.planned(run, V1).as_dict() == {"method": "hnsw", "options": {}, "quantize": None} | after


def test_a_drop_that_was_interrupted_is_finished(connection, run, v1):
    """The new index is valid, and of the old one an invalid half is left."""
    indexing.build(run, V1)
    connection.execute(
        f"CREATE INDEX {NAME}_new ON documents USING hnsw (embedding_v1 vector_cosine_ops) WITH (m = 32)"
    )
    connection.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NAME}'::regclass")
    new = connection.execute(f"SELECT '{NAME}_new'::regclass::oid").fetchone()
    assert indexing.build(run, V1, options={"m": 32})
    assert indexes(connection) == [(NAME, "hnsw", ["m=32"])]
    assert connection.execute(f"SELECT '{NAME}'::regclass::oid").fetchone() == new


def test_services_hear_of_another_form_before_the_old_index_goes(database, connection, run, v1, monkeypatch):
    """What active_space() says is right at every moment: the old form while that index is there, then the new one."""
    indexing.build(run, V1)
    listener = database.connect()
    listener.execute("LISTEN pgvmig_switch")
    told, take = [], one_index.take

    def watching(run, wanted, step):
        take(run, wanted, step)
        (search,) = listener.execute("SELECT search FROM pgvmig.active_space('documents')").fetchone()
        told.append((step.verb, search.get("quantize"), connection.execute(SERVING).fetchone()[0]))

    monkeypatch.setattr(one_index, "take", watching)
    indexing.build(run, V1, quantize="halfvec")
    assert told == [
        ("create", "halfvec", f"{NAME}_new"),
        ("drop", "halfvec", f"{NAME}_new"),
        ("rename", "halfvec", NAME),
    ]
    assert [note.payload for note in listener.notifies(timeout=0.1)] == ["documents v1"]


def test_an_index_of_the_same_definition_is_taken_as_it_is(connection, run):
    """Whoever built it, and whatever it is called; a partial one is none, and no foreign one is ever dropped."""
    connection.execute("UPDATE documents SET vec = '[1,1,1,1,1,1,1,1]'")
    adopt_version(connection, "documents", "v1", "vec", {"normalized": False})
    connection.execute("CREATE INDEX part ON documents USING hnsw (vec vector_cosine_ops) WHERE id < 10")
    connection.execute(
        "CREATE INDEX theirs ON documents USING hnsw (vec vector_cosine_ops) WITH (ef_construction = 64)"
    )
    assert not indexing.build(run, V1)
    assert indexing.planned(run, V1).as_dict() == {"method": "hnsw", "options": {}, "quantize": None}
    assert indexing.build(run, V1, options={"m": 8})
    assert indexing.build(run, V1)
    assert [name for name, *_ in indexes(connection)] == ["part", "theirs"]


def test_an_expression_that_no_search_uses_is_named(connection, run, v1):
    connection.execute("CREATE INDEX by_hand ON documents USING hnsw ((embedding_v1::halfvec(8)) halfvec_cosine_ops)")
    assert connection.execute(GATE).fetchone() == (
        False,
        "no valid index with vector_cosine_ops, only public.by_hand (halfvec_cosine_ops, of an expression)",
    )


def test_an_expression_of_the_application_is_as_good_as_it_was(connection):
    """Of an adopted column: the way back leads to what its own queries use, which no view shows."""
    connection.execute("UPDATE documents SET vec = '[1,1,1,1,1,1,1,1]'")
    adopt_version(connection, "documents", "v1", "vec", {"normalized": False})
    connection.execute("CREATE INDEX by_hand ON documents USING hnsw ((vec::halfvec(8)) halfvec_cosine_ops)")
    passed, found = connection.execute(GATE).fetchone()
    assert passed
    index = "public.by_hand (halfvec_cosine_ops, of an expression)"
    assert found == f"the application's index, {index}, serves its own queries and none through a view"


def test_a_build_of_somebody_else_is_not_dropped_as_the_remains_of_one(database, connection, run, v1):
    """It waits for an old snapshot; meanwhile another builder is told so. `pgvmig index` shows whom it waits for."""
    old, builder = database.connect(), database.connect()
    old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    old.execute("SELECT count(*) FROM documents")
    statement = f"CREATE INDEX CONCURRENTLY {NAME} ON documents USING hnsw (embedding_v1 vector_cosine_ops)"
    thread = threading.Thread(target=builder.execute, args=[statement])
    thread.start()
    progress = "SELECT FROM pg_stat_progress_create_index WHERE pid = %s AND phase LIKE 'waiting%%'"
    while connection.execute(progress, [builder.info.backend_pid]).fetchone() is None:
        time.sleep(0.01)
    with pytest.raises(BlockedError) as raised:
        indexing.build(run, V1)
    assert raised.value.found == (f'"public"."{NAME}" is being built by the process {builder.info.backend_pid}')
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        query = files.query("indexing", "progress")
        said = index_progress.describe(cursor.execute(query, {"pid": builder.info.backend_pid}).fetchone())
    assert said.endswith(f"waits for process {old.info.backend_pid}, which may hold an old transaction open")
    old.execute("ROLLBACK")
    thread.join()
    assert not indexing.build(run, V1)


def test_an_ivfflat_index_waits_for_rows(connection, run):
    """Its lists' centres come from the rows: on an empty table it is recorded, and built when there are some."""
    connection.execute("TRUNCATE documents")
    version = add_version(connection, "documents", "v1")
    said = []
    assert not indexing.build(run, V1, method="ivfflat", say=said.append)
    assert said == ["documents v1: IVFFlat takes the centres of its lists from the rows, and there are none yet"]
    assert indexes(connection) == []
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 3) AS i")
    embed(connection, version)
    plan = indexing.planned(run, V1)
    assert indexing.build(run, V1, method=plan.method, options=plan.options)
    assert indexes(connection) == [("documents_embedding_v1_ivfflat", "ivfflat", ["lists=1"])]

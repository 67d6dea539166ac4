"""An index that is recorded with the version, and built after the backfill: by the operation or `pgvmig index`."""

import json

import pytest
from lifecycle import add_version, embed, find
from migrating import OwnProject
from vectors import write

from pgvmig.address import address
from pgvmig.catalog import standbys
from pgvmig.checks import gates
from pgvmig.pacing import building
from pgvmig.runner import ConnectionRunner

V2 = address("documents", "v2")
INDEXES = "SELECT indexdef FROM pg_indexes WHERE tablename = 'documents' AND indexname LIKE '%embedding%'"
PLAN = "SELECT index_plan FROM pgvmig.version WHERE version = 'v2'"
OPERATION = 'op.index_embedding("documents", "v2", {}after_backfill=True)'
HNSW = (
    "CREATE INDEX documents_embedding_v2_hnsw ON public.documents USING hnsw (embedding_v2 vector_cosine_ops) "
    "WITH (m='8')"
)

EVENT = HNSW.replace(" vector_cosine_ops", " public.vector_cosine_ops")


@pytest.fixture
def connection(database):
    connection = database.connect()
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    return connection


@pytest.fixture
def project(database, connection, tmp_path):
    return OwnProject(database.url, tmp_path / "alembic")


def fill(connection, rows=10):
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, %s) AS i", [rows])


def one(connection, statement):
    return connection.execute(statement).fetchone()


def events(connection):
    return [
        detail
        for (detail,) in connection.execute("SELECT detail FROM pgvmig.event WHERE verb = 'index' ORDER BY event_id")
    ]


def test_one_revision_adds_the_version_and_says_which_index_it_is_to_have(project, connection, pgvmig, caplog):
    """The revision never waits for the backfill; the gate, the status and the log say what builds the index."""
    caplog.set_level("INFO", "alembic.pgvmig")
    fill(connection)
    project.revision(
        'op.add_embedding("documents", "v2", CONTRACT); ' + OPERATION.format('options={"m": 8}, '),
        'op.drop_embedding_index("documents", "v2"); op.drop_embedding("documents", "v2")',
    )
    project.upgrade()
    plan = {"method": "hnsw", "options": {"m": 8}, "quantize": None}
    assert one(connection, PLAN) == (plan,)
    assert events(connection) == [{"before": None, "plan": plan}]
    assert one(connection, INDEXES) is None
    assert caplog.messages[-1] == "documents v2: its index is built after the backfill. Next: pgvmig index documents v2"

    code, _, err = pgvmig("index", "documents", "v2")
    assert code == 4
    assert "documents v2 is not ready for its index: 10 of 10 rows have no vector" in err

    embed(connection, find(connection, V2))
    (gate,) = [
        g for g in gates.check(ConnectionRunner(connection), find(connection, V2).version_id) if g.gate == "index"
    ]
    assert (gate.passed, gate.next) == (False, "pgvmig index documents v2")
    code, out, _ = pgvmig("index", "documents", "v2", "--json")
    outcome = json.loads(out)
    assert outcome.pop("seconds") > 0
    assert outcome.pop("bytes") > 0
    name = "documents_embedding_v2_hnsw"
    said = {"changed": True, "index": name, "method": "hnsw", "quantize": None, "options": {"m": "8"}, "said": None}
    assert (code, outcome) == (0, said)
    assert one(connection, INDEXES) == (HNSW,)
    assert events(connection)[-1] == {"built": f"public.{name}", "as": EVENT}
    source = "SELECT source FROM pgvmig.event WHERE verb = 'index' ORDER BY event_id"
    assert connection.execute(source).fetchall() == [("alembic",), ("cli",)]
    assert pgvmig("index", "documents", "v2")[:2] == (0, f"documents v2 has its index, {name}: nothing to do.\n")
    (gate,) = [
        g for g in gates.check(ConnectionRunner(connection), find(connection, V2).version_id) if g.gate == "index"
    ]
    assert gate.passed

    connection.execute("TRUNCATE documents")
    project.downgrade("base")
    assert one(connection, INDEXES) is None
    assert one(connection, PLAN) is None
    project.upgrade()  # on an empty table it is built at once
    assert one(connection, INDEXES) == (HNSW,)


def test_a_revision_after_the_backfill_builds_at_once_and_without_after_backfill_it_waits(project, connection):
    fill(connection)
    version = add_version(connection, "documents", "v2")
    embed(connection, version)
    project.revision(OPERATION.format('options={"m": 8}, '), 'op.drop_embedding_index("documents", "v2")')
    project.upgrade()
    assert one(connection, INDEXES) == (HNSW,)
    project.downgrade("base", "pgvmig_drop_index=documents.v2")
    assert one(connection, PLAN) == (None,)
    connection.execute("UPDATE documents SET body = body || '!'")
    connection.execute("SELECT pgvmig.drop_version('documents', 'v2', destroy => true)")
    add_version(connection, "documents", "v2")
    project.upgrade()
    assert one(connection, INDEXES) is None


def test_a_version_that_is_added_again_has_no_plan(connection, project):
    """What was recorded for a retired version's vectors is not what the next ones are to have."""
    add_version(connection, "documents", "v2")
    project.revision(OPERATION.format(""))
    project.upgrade()
    assert one(connection, PLAN) == ({"method": "hnsw", "options": {}, "quantize": None},)
    connection.execute(
        "SELECT pgvmig.retire('documents', 'v2', soak => '0', skip => '{unused,soak}', reason => 'a test')"
    )
    connection.execute("SELECT pgvmig.finish_retire('documents', 'v2', 'embedding')")
    add_version(connection, "documents", "v2")
    assert one(connection, PLAN) == (None,)


def test_the_script_records_it_and_shows_the_index_as_a_comment(tmp_path):
    project = OwnProject(None, tmp_path / "alembic")
    project.revision("op.install_pgvmig()")
    project.revision(
        'op.add_embedding("documents", "v2", CONTRACT, columns=["id", "body"], key=["id"]); '
        + OPERATION.format('quantize="binary", ')
    )
    script = project.sql("r1:r2")
    assert (
        '-- CREATE INDEX CONCURRENTLY IF NOT EXISTS "documents_embedding_v2_hnsw" ON "documents"\n'
        '--     USING hnsw (("binary_quantize"("embedding_v2"::"vector")::bit(8)) "bit_hamming_ops");\n'
    ) in script
    plan = '{"method": "hnsw", "options": {}, "quantize": "binary"}'
    assert f"SELECT pgvmig.plan_index('\"documents\"', 'v2', '{plan}'::jsonb" in script
    assert "\nCREATE INDEX CONCURRENTLY" not in script


def test_the_command_says_what_cannot_be_and_what_holds_it_up(connection, pgvmig, monkeypatch):
    fill(connection)
    version = add_version(connection, "documents", "v2")
    write(connection, version, {i: [1, i, 0, 0, 0, 0, 0, 0] for i in range(1, 11)})
    code, _, err = pgvmig("index", "documents", "v2", "--option", "m=many")
    assert (code, err) == (2, "Error: --option m=many is not NAME=NUMBER\nNext:  write --option m=32\n")
    assert pgvmig("index", "documents", "v2", "--option", "lists=5")[0] == 2
    monkeypatch.setattr(building, "BIG", 0)
    monkeypatch.setenv("PGVMIG_PACING_PATIENCE", "1s")
    code, _, err = pgvmig("index", "documents", "v2")
    assert code == 4
    assert "the index of documents v2 is not begun: waited 0 s, replication lag is UNKNOWN" in err
    assert "pgvmig index documents v2 --now builds it now" in err
    assert one(connection, INDEXES) is None
    standbys.none(connection)
    assert pgvmig("index", "documents", "v2", "--option", "m=8")[0] == 0
    assert one(connection, INDEXES) == (HNSW,)
    assert events(connection)[-2]["plan"] == {"method": "hnsw", "options": {"m": 8}, "quantize": None}


def test_why_vectors_are_halfvec_is_said_when_they_are_planned_and_added(connection, project, pgvmig, caplog):
    """Autogenerate writes the type down, so nobody need have chosen it."""
    caplog.set_level("INFO", "alembic.pgvmig")
    said = (
        "3,072 dimensions are kept as halfvec, two bytes each, because an index takes 2,000 as vector; for four bytes "
        "each say vector_type='vector' and build the index with quantize='halfvec'"
    )
    assert f"Mind: {said}." in pgvmig("plan", "documents", "v2", "--dimensions", "3072")[1]
    assert "Mind: 3,072" not in pgvmig("plan", "documents", "v2", "--dimensions", "3072", "--vector-type", "vector")[1]
    for version, dimensions in (("v2", 3072), ("v3", 2000)):
        project.revision(f'op.add_embedding("documents", "{version}", {{**CONTRACT, "dimensions": {dimensions}}})')
    project.upgrade()
    ours = [record.getMessage() for record in caplog.records if record.name == "alembic.pgvmig"]
    assert ours == [f"documents v2: {said}"]

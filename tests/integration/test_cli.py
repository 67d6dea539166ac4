"""The command line: exit codes, JSON, and texts that say what to do next."""

from __future__ import annotations

import pytest
from commands import runner
from lifecycle import EVIDENCE, add_version

from pgvmig.catalog import standbys


@pytest.fixture
def pgvmig(site, monkeypatch, capsys):
    """Run `pgvmig` where the providers lead to the model server."""
    return runner(site.database.dsn, monkeypatch, capsys)


@pytest.fixture
def documents(site):
    """Ten rows and v1, with no standbys declared."""
    conn = site.database.connect()
    conn.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    conn.execute("INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 10) AS n")
    add_version(conn, "documents", "v1")
    standbys.none(conn)
    return conn


def test_init_twice(pgvmig, site):
    site.database.connect().execute("DROP SCHEMA pgvmig CASCADE")
    assert pgvmig("init", "--json").json == {"schema_version": 1, "changed": True}
    assert pgvmig("init", "--json").json == {"schema_version": 1, "changed": False}
    assert "is there already" in pgvmig("init").out


def test_a_database_without_the_schema_is_told_how_to_get_it(pgvmig, site):
    site.database.connect().execute("DROP SCHEMA pgvmig CASCADE")
    done = pgvmig("status")
    assert done.code == 1
    assert done.err.splitlines() == [
        "Error: this database has no control schema (pgvmig)",
        "Next:  pgvmig init, or op.install_pgvmig() in a revision",
    ]


def test_a_dead_server(pgvmig):
    done = pgvmig("status", "--dsn", "postgresql://nobody@127.0.0.1:1/none")
    assert done.code == 1
    assert done.err.startswith("Error: no connection to PostgreSQL: ")
    assert "Next:  check --dsn, PGVMIG_DSN or DATABASE_URL" in done.err


@pytest.mark.parametrize("arguments", [["bogus"], ["cutover", "documents"], ["backfill", "--max-time", "soon"]])
def test_usage(pgvmig, arguments):
    assert pgvmig(*arguments).code == 2


def test_a_whole_migration(pgvmig, documents):
    blocked = pgvmig("cutover", "documents", "v1")
    assert blocked.code == 4
    assert blocked.err == (
        "Error: documents v1 is not ready: 10 of 10 rows have no vector\nNext:  pgvmig backfill documents v1\n"
    )
    assert pgvmig("backfill", "documents", "v1", "--json").json["versions"]["documents v1"]["written"] == 10
    checked = pgvmig("cutover", "documents", "v1", "--check", "--json")
    assert checked.code == 4
    assert {gate["gate"] for gate in checked.json["gates"] if not gate["passed"]} == {"index", *EVIDENCE}
    documents.execute("CREATE INDEX ON documents USING hnsw (embedding_v1 vector_cosine_ops)")
    assert pgvmig("verify", "documents").code == 0
    assert pgvmig("cutover", "documents", "v1", "--check").code == 0
    first = pgvmig("cutover", "documents", "v1", "--json").json
    assert (first["changed"], first["version"], first["previous"], first["missing"]) == (True, "v1", None, 0)
    assert pgvmig("cutover", "documents", "v1", "--json").json == {"changed": False, "version": "v1"}

    add_version(documents, "documents", "v2", {"provider": "other", "model": "other"})
    assert pgvmig("backfill", "documents").code == 0
    assert pgvmig("verify", "documents").code == 4
    skipped = ("--skip", "index", "--skip", "recall", "--reason", "ten rows")
    assert "documents: v1 -> v2" in pgvmig("cutover", "documents", "v2", *skipped).out
    assert "documents: v2 -> v1" in pgvmig("rollback", "documents").out
    assert "documents: v1 -> v2" in pgvmig("cutover", "documents", "v2", *skipped).out
    first_again = pgvmig("rollback", "documents")
    assert first_again.code == 0
    assert pgvmig("rollback", "documents").code == 1
    assert "documents: v1 -> v2" in pgvmig("cutover", "documents", "v2", *skipped).out
    reasons = documents.execute(
        "SELECT source, reason FROM pgvmig.event WHERE to_state = 'active' ORDER BY event_id"
    ).fetchall()
    there, back = ("cli", "ten rows"), ("cli", None)
    assert reasons == [("cli", None), there, back, there, back, there]

    refused = pgvmig("retire", "documents", "v1")
    assert (refused.code, "Next:  add --yes" in refused.err) == (2, True)
    assert pgvmig("retire", "documents", "v2", "--yes").code == 1
    assert pgvmig("retire", "documents", "v1", "--yes", "--soak", "0s", "--json").json["changed"] is True
    assert pgvmig("retire", "documents", "v1", "--yes", "--json").json["changed"] is False
    assert (
        "Error: documents v1 is retired\nNext:  op.add_embedding() adds it again, empty\n"
        in pgvmig("cutover", "documents", "v1").err
    )


def test_a_skipped_gate_needs_a_reason(pgvmig, documents):
    done = pgvmig("cutover", "documents", "v1", "--skip", "coverage")
    assert done.code == 2
    assert "Next:  add --reason '...'" in done.err


def test_status_says_what_is_next(pgvmig, documents):
    assert pgvmig("status").out.rstrip().endswith("Next: pgvmig backfill documents v1")
    pgvmig("backfill")
    (version,) = pgvmig("status", "documents", "--json").json["versions"]
    assert version["state"] == "ready"
    assert version["rows"]["embedded"] == 10
    assert version["next"] == "pgvmig index documents v1"
    assert version["workers"][0]["ended_why"] == "done"
    assert pgvmig("status", "--no-count", "--json").json["versions"][0]["rows"] is None


def test_status_of_what_is_not_there(pgvmig, documents):
    done = pgvmig("status", "articles", "--json")
    assert done.code == 1
    assert done.json["error"]["type"] == "NotFoundError"
    assert done.json["error"]["next"] == "use one of documents"


def test_nothing_is_written_before_standbys_are_declared(pgvmig, documents):
    documents.execute("UPDATE pgvmig.installation SET no_standbys = false")
    assert "No standby is declared" in pgvmig("status").out
    assert "Nothing is declared. Next: pgvmig standby add NAME" in pgvmig("standby", "list").out
    at_once = pgvmig("backfill")
    assert (at_once.code, "pgvmig standby add NAME | pgvmig standby none" in at_once.err) == (4, True)
    added = pgvmig("standby", "add", "standby1")
    assert "standby1 is not connected now: the worker waits until it is." in added.out
    assert pgvmig("backfill", "--max-time", "1s", "--json").code == 3
    assert documents.execute("SELECT count(embedding_v1) FROM documents").fetchone() == (0,)
    assert pgvmig("standby", "none").code == 1
    assert pgvmig("standby", "remove", "standby1", "--json").json == {"standbys": []}
    assert pgvmig("standby", "none").code == 0
    assert pgvmig("backfill", "--json").code == 0


def test_failed_rows(pgvmig, documents, site):
    site.server.poison = lambda text: text in ("text 3", "text 4")
    result = pgvmig("backfill", "documents", "v1", "--json").json
    assert result["versions"]["documents v1"]["failed"] == 2
    listed = pgvmig("failed", "list", "--json").json["failed"]
    assert [(row["version"], row["key"], row["attempts"]) for row in listed] == [("v1", ["3"], 1), ("v1", ["4"], 1)]
    assert "pgvmig failed retry documents v1" in pgvmig("failed", "list").out
    assert "last error" in pgvmig("status").out
    site.server.poison = None
    assert pgvmig("failed", "retry", "documents", "v1", "--key", "3", "--json").json == {"queued": 1}
    assert pgvmig("backfill", "--json").json["versions"]["documents v1"]["written"] == 1
    assert pgvmig("failed", "accept", "documents", "v1").code == 2
    assert pgvmig("failed", "accept", "documents", "v1", "--reason", "gone", "--json").json == {"accepted": 1}
    assert [row["accept_reason"] for row in pgvmig("failed", "list", "--json").json["failed"]] == ["gone"]


def test_status_names_a_mismatch_with_the_revisions(pgvmig, documents):
    gates = ["index", "way_back", *EVIDENCE]
    skip = (*(word for gate in gates for word in ("--skip", gate)), "--reason", "small")
    pgvmig("backfill")
    documents.execute(
        "SELECT set_config('pgvmig.source', 'alembic', false), set_config('pgvmig.revision', '0005', false)"
    )
    documents.execute("SELECT pgvmig.cut_over('documents', 'v1', skip => %s, reason => 'small')", [gates])
    documents.execute("RESET pgvmig.source; RESET pgvmig.revision")
    assert pgvmig("status", "--json").json["mismatches"] == []
    add_version(documents, "documents", "v2", {"provider": "other", "model": "other"})
    pgvmig("backfill")
    pgvmig("cutover", "documents", "v2", *skip)
    (mismatch,) = pgvmig("status", "--json").json["mismatches"]
    assert (mismatch["active"], mismatch["revisions_say"], mismatch["revision"]) == ("v2", "v1", "0005")
    assert "Mismatch: documents has v2 active since" in pgvmig("status").out
    # a revision that finds it done says so too: the next rollback is what does not fit
    with documents.transaction():
        documents.execute(
            "SELECT set_config('pgvmig.source', 'alembic', true), set_config('pgvmig.revision', '0006', true)"
        )
        documents.execute("SELECT pgvmig.cut_over('documents', 'v2')")
    assert pgvmig("status", "--json").json["mismatches"] == []
    pgvmig("rollback", "documents", *skip)
    (mismatch,) = pgvmig("status", "--json").json["mismatches"]
    assert (mismatch["active"], mismatch["next"]) == (
        "v1",
        (
            "alembic downgrade embeddings@-1 (where cutovers have no line of their own: to before 0006), which finds "
            "it done"
        ),
    )
    with documents.transaction():
        documents.execute(
            "SELECT set_config('pgvmig.source', 'alembic', true), set_config('pgvmig.revision', '0006', true)"
        )
        documents.execute("SELECT pgvmig.roll_back('documents', 'v2')")
    assert pgvmig("status", "--json").json["mismatches"] == []
    pgvmig("cutover", "documents", "v2", *skip)
    pgvmig("rollback", "documents", *skip)
    assert pgvmig("status", "--json").json["mismatches"] == []
    # a rollback among versions that no revision knows is no reason to downgrade
    add_version(documents, "documents", "v3", {"provider": "other", "model": "other", "model_version": "3"})
    pgvmig("backfill")
    pgvmig("resume", "documents", "v2")
    pgvmig("backfill")
    for version in ("v2", "v3"):
        pgvmig("cutover", "documents", version, *skip)
    pgvmig("rollback", "documents", *skip)
    (mismatch,) = pgvmig("status", "--json").json["mismatches"]
    assert (mismatch["active"], mismatch["next"].startswith("alembic upgrade, if a revision ahead")) == ("v2", True)

"""Retiring: what is refused and named beforehand, steps that go on after a kill, what comes back, and Alembic."""

import re
import shlex
import sys

import psycopg
import pytest
from leaving import V1, V2, Left
from lifecycle import add_version, embed, find, prove
from migrating import ROOT, OwnProject

from pgvmig import adding, indexing, retiring
from pgvmig.address import address
from pgvmig.catalog import status, versions
from pgvmig.cli import output
from pgvmig.errors import (
    ConflictError,
    DatabaseError,
    GateError,
    IllegalTransitionError,
    LockNotAvailableError,
    UsageError,
)
from pgvmig.runner import ConnectionRunner

V3 = address("documents", "v3")
AT_ONCE = retiring.RetireTerms(soak=retiring.span("0s"))
COLUMNS = (
    "SELECT attname FROM pg_attribute WHERE attrelid = 'documents'::regclass AND attname ~ '_v1' AND NOT attisdropped"
)


@pytest.fixture
def left(database):
    return Left(database.connect())


def next_of(connection, version="v1"):
    found = status.collect(connection, versions.all_versions(connection), count=False, max_stale_age=retiring.SOAK)
    return next(status.next_step(each) for each in found["versions"] if each["version"] == version)


@pytest.mark.layouts
def test_killed_between_any_two_steps_it_goes_on(database, left, layout, monkeypatch):
    """The session is ended after the first step, then after the second; each time it is run again elsewhere."""
    home = (
        "SELECT to_regclass('documents_v1_vectors') IS NOT NULL" if layout == "table" else f"SELECT EXISTS ({COLUMNS})"
    )
    index = "SELECT to_regclass('documents_embedding_v1_hnsw') IS NOT NULL"
    drop_all = indexing.drop_all

    def die(run, where, *, after=False):
        if after:
            drop_all(run, where)
        run.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    for after, index_is_there in ((False, True), (True, False)):
        monkeypatch.setattr(indexing, "drop_all", lambda run, where, after=after: die(run, where, after=after))
        with pytest.raises((psycopg.Error, DatabaseError)):
            retiring.retire(ConnectionRunner(database.connect(), "cli"), V1, AT_ONCE)
        assert (left.v1.state, left.v1.unfinished) == ("retired", True)
        assert (left.execute(home), left.execute(index)) == ([(True,)], [(index_is_there,)])
    assert next_of(left.connection).startswith("pgvmig retire documents v1 again: it was stopped in the middle")
    left.execute("INSERT INTO documents VALUES (100, 'written meanwhile')")  # nothing follows it for v1
    assert left.execute("SELECT pgvmig.refresh_views('documents')") == [([],)]
    with pytest.raises(ConflictError, match="documents v1 is being retired, and its columns or table are still there"):
        add_version(left.connection, "documents", "v1")
    monkeypatch.setattr(indexing, "drop_all", drop_all)
    outcome = retiring.retire(left.run, V1)
    assert outcome["changed"]
    assert outcome["index_bytes"] > 0
    assert (left.v1.unfinished, left.execute(home), next_of(left.connection)) == (False, [(False,)], None)
    assert retiring.retire(left.run, V1) == {"changed": False, "version": "v1"}
    again = add_version(left.connection, "documents", "v1")
    assert (again.state, again.version_id) == ("added", left.v1.version_id)


def test_a_lock_that_is_not_to_be_had_leaves_the_way_back_whole_or_says_how_to_go_on(database, left, monkeypatch):
    (text,) = left.execute("SELECT pg_get_functiondef('pgvmig.execute_patiently'::regproc)")[0]
    left.execute(text.replace("DEFAULT 50", "DEFAULT 2"))
    other = database.connect()
    with other.transaction():
        other.execute("SELECT count(*) FROM documents")
        with pytest.raises(LockNotAvailableError, match="no lock in 2 attempts"):
            retiring.retire(left.run, V1, AT_ONCE)
    assert left.v1.state == "retained"
    assert left.execute("SELECT valid FROM pgvmig.version v, pgvmig.vector_indexes(v) WHERE version = 'v1'") == [
        (True,)
    ]
    drop_all = indexing.drop_all

    def then_somebody_reads(run, where):
        drop_all(run, where)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM documents")

    monkeypatch.setattr(indexing, "drop_all", then_somebody_reads)
    with pytest.raises(LockNotAvailableError) as error:
        retiring.retire(left.run, V1, AT_ONCE)
    assert "documents v1 is retired, and what it left is locked by somebody" in error.value.found
    assert error.value.next_step.startswith("run this again: it goes on with what is left")
    other.execute("COMMIT")
    monkeypatch.undo()
    retiring.retire(left.run, V1)
    assert left.execute(COLUMNS) == []


def test_a_version_that_was_stopped_in_the_middle_can_be_dropped(left, pgvmig):
    left.execute("SELECT pgvmig.begin_retire('documents', 'v1', soak => '0')")
    said = "documents v1 is being retired. Next: pgvmig retire documents v1 goes on with it\n"
    assert pgvmig("retire", "documents", "v1", "--check")[:2] == (0, said)
    left.execute("UPDATE pgvmig.version SET activated_from = NULL")
    adding.drop(left.run, V1)
    assert left.execute(COLUMNS) == []
    assert left.execute("SELECT version FROM pgvmig.version") == [("v2",)]


DEPENDENTS = {
    "column": [
        ("CREATE VIEW report AS SELECT id FROM documents_v1", "DROP VIEW report",
         "public.documents_v1 is still used by view public.report"),
        ("CREATE MATERIALIZED VIEW frozen AS SELECT embedding_v1 FROM documents", "DROP MATERIALIZED VIEW frozen",
         "public.documents.embedding_v1 is still used by materialized view public.frozen"),
        ("CREATE FUNCTION old() RETURNS bigint BEGIN ATOMIC SELECT count(embedding_v1_embedded_at) FROM documents; END",
         "DROP FUNCTION old",
         "public.documents.embedding_v1_embedded_at is still used by function public.old()"),
        ("CREATE TABLE kept (one documents_v1)", "DROP TABLE kept",
         "public.documents_v1 is still used by column one of table public.kept"),
        ("CREATE TRIGGER mine BEFORE UPDATE OF embedding_v1 ON documents EXECUTE FUNCTION pgvmig.refuse_change()",
         "DROP TRIGGER mine ON documents",
         "public.documents.embedding_v1 is still used by trigger mine on table public.documents"),
        ("CREATE POLICY mine ON documents USING (embedding_v1 IS NOT NULL)", "DROP POLICY mine ON documents",
         "public.documents.embedding_v1 is still used by policy mine on table public.documents"),
        ("CREATE PUBLICATION mine FOR TABLE documents (id, embedding_v1)", "DROP PUBLICATION mine",
         "public.documents.embedding_v1 is still used by publication of table public.documents in publication mine"),
        ("ALTER TABLE documents ADD n boolean GENERATED ALWAYS AS (embedding_v1_embedded_at IS NULL) STORED",
         "ALTER TABLE documents DROP n",
         ("public.documents.embedding_v1_embedded_at is still used by default value for column n of table "
         "public.documents")),
    ],
    "table": [
        ("CREATE VIEW report AS SELECT key_id FROM documents_v1_vectors", "DROP VIEW report",
         "public.documents_v1_vectors is still used by view public.report"),
    ],
}  # fmt: skip


@pytest.mark.layouts
def test_what_depends_on_it_is_named_before_anything_is_dropped(left, layout):
    for make, undo, named in DEPENDENTS[layout]:
        left.execute(make)
        for attempt in (retiring.retire, lambda run, where, _terms: retiring.check(run, where)):
            with pytest.raises(IllegalTransitionError) as error:
                attempt(left.run, V1, AT_ONCE)
            assert error.value.found == named
        left.execute(undo)
    left.execute("SELECT count(*) FROM documents_v1")
    assert retiring.retire(left.run, V1, AT_ONCE)["changed"]


def test_postgresql_is_asked_before_the_point_of_no_return(left):
    """What pgvmig.dependents() did not see, it would see too late."""
    (text,) = left.execute("SELECT pg_get_functiondef('pgvmig.dependents'::regproc)")[0]
    left.execute(text.replace("GROUP BY", "AND false GROUP BY"))
    left.execute("CREATE MATERIALIZED VIEW frozen AS SELECT embedding_v1 FROM documents")
    with pytest.raises(IllegalTransitionError) as error:
        retiring.retire(left.run, V1, AT_ONCE)
    assert error.value.found == (
        "cannot drop column embedding_v1 of table public.documents because other objects depend on it: "
        "materialized view public.frozen depends on column embedding_v1 of table public.documents"
    )
    assert left.v1.state == "retained"
    assert left.execute("SELECT count(*) FROM documents_v1") == [(20,)]


def test_what_searches_go_to_is_not_retired(left):
    with pytest.raises(IllegalTransitionError, match="documents v2 is active: searches go there"):
        retiring.retire(left.run, V2, AT_ONCE)
    left.execute(
        "INSERT INTO pgvmig.route SELECT relation, slot, version_id, 10 FROM pgvmig.version WHERE version = 'v1'"
    )
    with pytest.raises(IllegalTransitionError) as error:
        retiring.retire(left.run, V1, AT_ONCE)
    assert str(error.value) == (
        "documents v1 still serves 10 percent of the keys and 0 by name. Their searches would fail. "
        "Next: pgvmig route documents --off"
    )


def test_versions_that_were_never_active_and_empty_tables_need_no_soak(left):
    add_version(left.connection, "documents", "v3", {"dimensions": 3})
    assert left.execute("SELECT (pgvmig.retire('documents', 'v3') ->> 'changed')::boolean") == [(True,)]
    for given in ("", ", skip => NULL", ", soak => NULL"):
        with pytest.raises(psycopg.Error, match="is not to be retired yet"):
            left.execute(f"SELECT pgvmig.retire('documents', 'v1'{given})")
    left.execute("DELETE FROM documents")
    assert retiring.retire(left.run, V1)["changed"]


def test_a_version_that_served_a_share_of_the_keys_soaks_too(left):
    v3 = add_version(left.connection, "documents", "v3", {"dimensions": 3})
    embed(left.connection, v3)
    indexing.build(left.run, V3)
    prove(left.connection, v3)
    left.execute("SELECT pgvmig.set_route('documents', 'v3', 10)")
    left.execute("SELECT pgvmig.unroute('documents')")
    with pytest.raises(GateError, match=r"documents v3 is not to be retired yet: it was left \d+ s ago"):
        retiring.retire(left.run, V3)
    assert retiring.retire(left.run, V3, AT_ONCE)["changed"]
    add_version(left.connection, "documents", "v3", {"dimensions": 3})
    assert retiring.retire(left.run, V3)["changed"]  # that one never served


@pytest.mark.layouts
def test_it_says_what_came_back_and_what_would_reclaim_the_rest(database, pgvmig, layout):
    left = Left(database.connect(), rows=300, dimensions=600)
    before = left.execute("SELECT pg_total_relation_size('documents')")[0][0]
    code, out, _ = pgvmig("retire", "documents", "v1", "--soak", "0s", "--yes", "--json")
    assert code == 0
    outcome = output.json.loads(out)
    if layout == "table":
        assert outcome["table_bytes"] > 300 * 600 * 4
        assert (outcome["held_bytes"], outcome["whole_bytes"]) == (0, 0)
        return
    after = left.execute("SELECT pg_total_relation_size('documents')")[0][0]
    assert before - after == outcome["index_bytes"] > 0
    assert outcome["whole_bytes"] == after
    assert 300 * 600 * 4 < outcome["held_bytes"] < 300 * 600 * 4 * 1.1
    said = retiring.space_left(V1.table, outcome)
    assert re.fullmatch(
        r"about 71\d\.\d kB of dropped columns stay in the rows and the TOAST table of documents, and are used again "
        r"as rows are updated\. To give them back to the disk, rewrite the table: VACUUM FULL documents "
        r"\(ACCESS EXCLUSIVE: nobody reads or writes until it is done, its indexes built anew included; up to [\d.]+ "
        r"MB free disk\), or pg_repack -t documents \(locks for moments at its begin and end; as much free disk, the "
        r"extension, and a primary key\)",
        said,
    )
    left.execute("VACUUM FULL documents")
    reclaimed = after - left.execute("SELECT pg_total_relation_size('documents')")[0][0]
    assert reclaimed > outcome["held_bytes"] * 0.9


def test_the_command_line(left, pgvmig, monkeypatch):
    code, out, err = pgvmig("retire", "documents", "v1")
    assert (code, "Next:  add --yes" in err) == (2, True)
    code, out, err = pgvmig("retire", "documents", "v1", "--yes")
    assert code == 4
    assert err.startswith("Error: documents v1 is not to be retired yet: it was left ")
    code, out, _ = pgvmig("retire", "documents", "v1", "--check")
    assert code == 4
    assert out.startswith("FAILED soak: it was left ")
    assert "       Next: run this again after " in out
    assert pgvmig("retire", "documents", "v1", "--skip", "soak", "--yes")[0] == 2
    assert pgvmig("retire", "documents", "v1", "--soak", "soon")[0] == 2
    code, _, err = pgvmig("retire", "documents", "v1", "--skip", "index", "--reason", "why not", "--yes")
    assert (code, "Next:  use one of soak, unused" in err) == (1, True)
    left.execute("GRANT SELECT ON documents_v1 TO PUBLIC")
    assert pgvmig("retire", "documents", "v1", "--revoke")[1].startswith(
        "PUBLIC may no longer read documents v1. pgvmig retire documents v1 --restore gives it back; a rollback or"
    )
    said = pgvmig("status", "--no-count")[1]
    assert "Only its owner may read documents v1 since " in said
    assert "Next, when somebody misses it: pgvmig retire documents v1 --restore" in said
    assert pgvmig("retire", "documents", "v1", "--restore")[1] == "Who could read documents v1 can again.\n"
    asked = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    skip = ("--skip", "soak", "--skip", "unused", "--reason", "a drill")
    assert pgvmig("retire", "documents", "v1")[0] == 4
    code, out, _ = pgvmig("retire", "documents", "v1", *skip)
    (question,) = asked
    assert question == (
        "Drop all vectors of documents v1? They cannot be had back. v2 loses its way back: `pgvmig rollback` will have "
        "nowhere to go."
    )
    assert (code, "Skipped gate soak: it was left " in out, "documents v1 is retired; " in out) == (0, True, True)
    for what in ((), ("--check",)):
        assert pgvmig("retire", "documents", "v1", *what)[:2] == (0, "documents v1 is retired already.\n")
    reason = "SELECT reason, detail -> 'skipped' FROM pgvmig.event WHERE verb = 'retire'"
    assert left.execute(reason) == [("a drill", ["soak", "unused"])]


def test_as_a_revision(database, left, tmp_path):
    project = OwnProject(database.url, tmp_path / "project")
    project.revision('op.retire_embedding("documents", "v1", soak="2h")')
    with pytest.raises(GateError, match=r"left .*alembic -x pgvmig_soak=documents.v1:1h upgrade \.\.\."):
        project.upgrade("head")
    readings = "SELECT count(*) > 1 FROM pgvmig.index_reading"
    assert left.execute(readings) == [(True,)]  # the baseline stays, though the migration was rolled back
    with pytest.raises(UsageError, match="-x pgvmig_soak=0s names no version"):
        project.upgrade("head", "pgvmig_soak=0s")
    with pytest.raises(GateError):
        project.upgrade("head", "pgvmig_soak=documents.v2:0s")
    left.pass_time("121 min")
    left.execute("SELECT pg_stat_reset()")
    with pytest.raises(GateError, match="the counting began anew"):
        project.upgrade("head")
    project.upgrade("head", "pgvmig_soak=documents.v1:0s")
    assert find(left.connection, V1).state == "retired"
    assert project.done(left.connection) == ["r1"]


def test_the_page_says_what_is_true(left, pgvmig):
    """docs/retire.md, block by block; commands that are to fail say their exit code."""
    page = (ROOT / "docs" / "retire.md").read_text(encoding="utf-8")
    done = []
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if kind == "sql":
            left.execute(text)
        for line in text.splitlines() if kind == "console" else ():
            command, _, remark = line.partition(" # ")
            if remark != "not run here":
                code, out, err = pgvmig(*shlex.split(command)[2:])
                assert code == int(remark.removeprefix("exits ") or 0), (command, out, err)
                done.append(code)
    assert done == [4, 0, 0, 0]
    assert left.v1.state == "retired"

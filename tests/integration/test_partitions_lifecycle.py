"""Partitioned tables from adding a version to retiring it; adoption, and what others ask: plan, pacing, rights."""

import threading
import time
from datetime import timedelta

import pytest
import roles
from backfilling import Background
from lifecycle import CONTRACT, adopt_version, find, retire, stale
from migrating import OwnProject
from partitioned import LIST, RANGE, documents, insert
from psycopg import errors as pg
from psycopg import sql
from watching import is_ok, pacers, stops, until

from pgvmig import adding, hazards, indexing, switch
from pgvmig import sql as files
from pgvmig.address import Table, address
from pgvmig.backfill.writer import Writer
from pgvmig.catalog import status
from pgvmig.checks.evidence import Options
from pgvmig.checks.verify import verify
from pgvmig.errors import DestructionRefusedError, PublishedTableError
from pgvmig.layouts.column import ColumnLayout
from pgvmig.planning import subject
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

V1, V2, V3 = (address("documents", name) for name in ("v1", "v2", "v3"))
A, B = "[1,0,0,0,0,0,0,0]", "[0,1,0,0,0,0,0,0]"
APART = 'layout="table", whose side table is not published, or '
OBJECTS = (
    "SELECT relname FROM pg_class WHERE relname LIKE 'documents%%' AND relkind IN ('v', 'r', 'p', 'i', 'I') ORDER BY 1"
)


@pytest.fixture
def run(site):
    return ConnectionRunner(site.connection)


def complete(site, run, name, **contract):
    """Add a version, embed every row, build its index."""
    version = site.version(name, **contract)
    site.run()
    indexing.build(run, address("documents", name))
    return version


@pytest.mark.layouts
def test_whole_life(site, run, layout):
    documents(site, LIST if layout == "column" else RANGE, rows=30)
    before = site.execute(OBJECTS).fetchall()
    v1 = complete(site, run, "v1", provider="other", model="other")
    switch.cut_over(run, V1, Terms(skip=["hashes", "health", "recall", "identity", "visibility"], reason="a test"))
    v2 = complete(site, run, "v2")
    site.execute("SET enable_seqscan = off; SET enable_sort = off")
    results = verify(site.connection, find(site.connection, V2), Terms(), Options())
    assert [f"{result.gate}: {result.found}" for result in results if not result.passed] == []
    (recall,) = [result for result in results if result.gate == "recall"]
    assert recall.measured["queries"] > 0
    switch.cut_over(run, V2)
    assert site.value("SELECT DISTINCT embedding_space FROM documents_current") == "v2"
    # the way back knows what was written since, and where it went
    insert(site, 150, 5)
    site.execute("UPDATE documents SET body = 'another' WHERE id = 1001")
    site.run()
    switch.roll_back(run, V2)
    assert site.value("SELECT DISTINCT embedding_space FROM documents_current") == "v1"
    assert site.problems(v1) == []
    verify(site.connection, find(site.connection, V2), Terms(), Options())
    switch.cut_over(run, V2)
    retire(run, V1)
    assert site.problems(v2) == []
    assert (find(site.connection, V1).state, find(site.connection, V1).unfinished) == ("retired", False)
    complete(site, run, "v3", preprocessing="another")
    with pytest.raises(DestructionRefusedError, match="dropping documents v3 would destroy 65 vectors"):
        adding.drop(run, V3)
    adding.drop(run, V3, destroy=True)
    left = [name for (name,) in site.execute(OBJECTS).fetchall() if (name,) not in before]
    assert not [name for name in left if "v1" in name or "v3" in name]


def test_status_and_plan_count_every_partition(site, run):
    documents(site, rows=200)
    site.execute("ANALYZE documents")
    plan = subject.plan(run, "documents", "v2", dimensions=8)
    assert (plan.rows, plan.waiting, plan.sample.pages) == (400, 400, site.value("SELECT pgvmig.pages('documents')"))
    assert plan.sample.pages > site.value("SELECT pgvmig.end_of_pages('documents')")
    assert "documents has 2 partitions, and in the column layout an index of each" in [w.found for w in plan.warnings]
    version = site.version()
    site.run()
    site.execute("ANALYZE documents")
    found = status.collect(site.connection, [find(site.connection, V2)], count=True, max_stale_age=timedelta(0))
    (shown,) = found["versions"]
    assert (shown["rows"]["total"], shown["rows"]["embedded"]) == (400, 400)
    assert (shown["progress"]["rows_estimate"], shown["progress"]["walked"]) == (400, True)
    assert site.value("SELECT pgvmig.rows_about('documents')") == 400
    assert site.value("SELECT rows_updated FROM pgvmig.backfill_run") == 400
    assert site.value("SELECT pgvmig.is_walked(v) FROM pgvmig.version v")
    assert site.problems(version) == []


class TestAdoption:
    @pytest.fixture
    def v1(self, site):
        documents(site, rows=0)
        site.execute("ALTER TABLE documents ADD COLUMN embedding vector(8)")
        site.execute(f"INSERT INTO documents SELECT i, 1, NULL, 'text ' || i, '{A}' FROM generate_series(1, 6) AS i")
        return adopt_version(site.connection, "documents", "v1", "embedding")

    def provenance(self, site, key):
        return site.execute(
            "SELECT embedding_version_id IS NOT NULL, embedding_source_hash = pgvmig.source_hash(body), "
            "embedding_embedded_at > '-infinity' FROM documents WHERE id = %s",
            key,
        ).fetchone()

    def test_vectors_that_move_keep_what_is_known_of_them(self, site, v1):
        # of their text, of an older text, unknown, and unknown with another text
        site.execute(f"UPDATE documents SET embedding = '{B}' WHERE id IN (1, 2)")
        site.execute("UPDATE documents SET body = 'another' WHERE id = 2")
        site.execute("UPDATE documents SET day = 150 WHERE id IN (1, 2, 3)")
        site.execute("UPDATE documents SET day = 150, body = 'another' WHERE id = 4")
        site.execute(f"UPDATE documents SET day = 150, body = 'another', embedding = '{B}' WHERE id = 5")
        assert self.provenance(site, 1) == (True, True, True)
        assert self.provenance(site, 2) == (True, False, True)
        assert self.provenance(site, 3) == (False, None, False)
        assert self.provenance(site, 4) == (False, None, False)
        assert self.provenance(site, 5) == (True, True, True)
        # as after any change of a key, the vector of a row whose text is unknown is looked at again
        assert stale(site.connection, v1) == [(2, 150), (3, 150), (4, 150)]

    def test_what_the_application_inserts_is_of_its_text(self, site, v1):
        site.execute(f"INSERT INTO documents VALUES (10, 1, NULL, 'ten', '{A}'), (11, 150, NULL, 'eleven', NULL)")
        assert self.provenance(site, 10) == (True, True, True)
        assert stale(site.connection, v1) == [(11, 150)]
        site.execute("SELECT pgvmig.release_version('documents', 'v1')")
        assert site.value("SELECT count(*) FROM documents WHERE embedding IS NOT NULL") == 7


class TestConcurrency:
    @pytest.mark.layouts
    def test_a_row_that_moves_before_it_is_written_is_embedded_where_it_went(self, site, monkeypatch):
        documents(site, rows=5)
        version = site.version()
        moves = ["UPDATE documents SET day = 150 WHERE id = 1001"]
        write = Writer.write

        def late(writer, batch):
            if moves:
                site.execute(moves.pop())
            return write(writer, batch)

        monkeypatch.setattr(Writer, "write", late)
        site.run()
        assert moves == []
        assert site.value("SELECT tableoid::regclass::text FROM documents WHERE id = 1001") == "documents_2"
        assert site.problems(version) == []

    def test_a_row_that_moves_under_the_lock_is_tried_again(self, site, monkeypatch):
        documents(site, rows=5)
        version = site.version()
        begun, refused = [], []
        guard = ColumnLayout.guard

        def slowly(layout, conn, rows, kinds):
            if begun:
                return guard(layout, conn, rows, kinds)
            move = "UPDATE documents SET day = 150 WHERE id = 1001"
            begun.append(threading.Timer(0.15, site.execute, [move]))
            begun[0].start()
            statement = layout.queries["lock_rows"]
            text = files.text(statement).replace("FOR NO KEY", "WHERE pg_sleep(0.3) IS NOT NULL FOR NO KEY")
            layout.queries["lock_rows"] = sql.SQL(text)
            try:
                return guard(layout, conn, rows, kinds)
            except pg.SerializationFailure as error:
                refused.append(str(error))
                raise
            finally:
                layout.queries["lock_rows"] = statement

        monkeypatch.setattr(ColumnLayout, "guard", slowly)
        site.run()
        begun[0].join()
        assert len(refused) == 1
        assert "moved to another partition" in refused[0]
        assert site.problems(version) == []

    def test_an_open_reader_of_one_partition_keeps_nobody_waiting(self, site, run):
        documents(site, rows=5)
        reader = site.database.connect(autocommit=False)
        reader.execute("SELECT count(*) FROM documents_2")
        with Background(lambda: site.version("v2")):
            time.sleep(0.3)
            began = time.monotonic()
            site.database.connect().execute("SELECT count(*) FROM documents_1")
            waited = time.monotonic() - began
            reader.rollback()
        assert waited < 1
        assert find(site.connection, V2).state == "added"


class TestOthers:
    @pytest.mark.parametrize(
        ("publication", "leaks", "advice"),
        [
            ("FOR TABLE documents", True, APART + "prepare"),
            (
                "FOR TABLE documents WITH (publish_via_partition_root)",
                True,
                APART + "ALTER PUBLICATION docs SET TABLE public.documents (id, day, note, body)",
            ),
            ("FOR TABLE documents (id, day, body) WITH (publish_via_partition_root)", False, None),
            ("FOR TABLE documents_2", True, APART + "prepare"),
        ],
    )
    def test_publications_of_the_table_or_of_a_partition(self, site, run, publication, leaks, advice):
        documents(site, rows=0)
        site.execute(f"CREATE PUBLICATION docs {publication}")
        if leaks:
            with pytest.raises(
                PublishedTableError, match="documents is published by docs without a column list"
            ) as error:
                adding.add(run, V2, CONTRACT)
            assert error.value.next_step.startswith(advice)
            adding.add(run, V2, CONTRACT, layout="table")
        else:
            adding.add(run, V2, CONTRACT)

    def test_triggers_of_a_partition_alone_are_named(self, site, run):
        documents(site, rows=0)
        site.execute("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
        site.execute("CREATE TRIGGER all_of_them BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION touch()")
        site.execute("CREATE TRIGGER only_here BEFORE UPDATE ON documents_2 FOR EACH ROW EXECUTE FUNCTION touch()")
        assert [t.name for t in hazards.triggers(run, Table("public", "documents"))] == ["all_of_them", "only_here"]

    @pytest.mark.layouts
    def test_policies_of_the_table_hide_the_vectors_of_every_partition(self, site, run):
        role = f"{site.database.name}_reader"
        documents(site, rows=3)
        site.execute(f"CREATE ROLE {role}")
        try:
            site.execute(f"GRANT SELECT ON documents TO {role}")
            site.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
            site.execute("CREATE POLICY early ON documents USING (day < 100)")
            site.version()
            site.run()
            site.execute(f"SET ROLE {role}")
            assert site.value("SELECT count(*) FROM documents_v2") == 3
        finally:
            site.execute("RESET ROLE")
            site.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

    def test_a_build_and_a_vacuum_of_a_partition_are_the_tables(self, site):
        documents(site, rows=200)
        site.version()
        relation = site.value("SELECT 'documents'::regclass::oid")
        writer, builder = site.database.connect(autocommit=False), site.database.connect()
        writer.execute("UPDATE documents SET note = 'x' WHERE id = 101001")
        with pacers(site.database.dsn, relation) as watch:
            pacer = watch()
            with Background(lambda: builder.execute("CREATE INDEX CONCURRENTLY ON documents_2 (note)")):
                assert "runs on documents_2" in until(pacer, "index build", stops).reason
                writer.rollback()
            until(pacer, "index build", is_ok)
            site.execute("UPDATE documents SET note = 'y'")
            builder.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
            with Background(lambda: self.cancelled(builder, "VACUUM documents_1")):
                assert "a vacuum runs on documents_1" in until(pacer, "vacuum", lambda r: r.speed < 1).reason
                site.execute("SELECT pg_cancel_backend(%s)", builder.info.backend_pid)

    def cancelled(self, connection, statement):
        with pytest.raises(pg.QueryCanceled):
            connection.execute(statement)


def test_revisions_build_and_drop_its_index(site, tmp_path):
    documents(site, LIST, rows=5)
    project = OwnProject(site.database.url, tmp_path / "project")
    project.revision(
        'op.add_embedding("documents", "v2", CONTRACT); op.index_embedding("documents", "v2", after_backfill=True)',
        'op.drop_embedding_index("documents", "v2"); op.drop_embedding("documents", "v2")',
    )
    project.revision('op.index_embedding("documents", "v2")', 'op.drop_embedding_index("documents", "v2")')
    project.upgrade("r1")
    site.run()
    project.upgrade()
    assert site.value("SELECT g.passed FROM pgvmig.version v, pgvmig.gate_index(v, NULL) g")
    project.downgrade("r1", "pgvmig_drop_index=documents.v2")
    assert site.value("SELECT count(*) FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE amname = 'hnsw'") == 0
    project.downgrade("base", "pgvmig_drop=documents.v2")
    assert site.value("SELECT to_regclass('documents_v2')") is None


PARTED = """
CREATE SCHEMA app;
CREATE TABLE app.documents (id bigint, body text, tenant int, secret text, PRIMARY KEY (id, tenant))
    PARTITION BY LIST (tenant);
CREATE TABLE app.first PARTITION OF app.documents FOR VALUES IN (0);
CREATE TABLE app.second PARTITION OF app.documents FOR VALUES IN (1);
ALTER TABLE app.first OWNER TO {owner};
ALTER TABLE app.second OWNER TO {owner};
INSERT INTO app.documents SELECT i, 'text ' || i, i % 2, 'secret ' || i FROM generate_series(1, 20) AS i;
CREATE FUNCTION app.clean(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN trim($1); END';
"""


@pytest.mark.layouts
def test_roles_need_no_right_to_a_partition(site, layout, monkeypatch):
    monkeypatch.setattr(roles, "TABLE", PARTED)
    cast = roles.Cast(site.database, layout)
    try:
        cast.create_roles()
        version = cast.add("v1", "body")
        assert cast.backfill("v1").why == "done"
        cast.root.execute("UPDATE app.documents SET tenant = 1 WHERE id = 2")
        cast.root.execute("CREATE TABLE app.third PARTITION OF app.documents FOR VALUES IN (2)")
        cast.root.execute("INSERT INTO app.documents VALUES (50, 'fifty', 2, 'secret')")
        assert cast.backfill("v1").why == "done"
        cast.root.execute(f"ALTER TABLE app.third OWNER TO {cast.owner}")
        cast.prove(version)
        with cast.connected("operator") as operator:
            operator.execute("SELECT pgvmig.operator_cut_over('app.documents', 'v1', reason => 'first')")
        assert cast.value("SELECT count(embedding) FROM app.documents_current") == 21
        assert cast.value("SELECT count(*) FROM pgvmig.stale_row") == 0
    finally:
        cast.close()

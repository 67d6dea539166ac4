"""Partitioned tables: the walk, the triggers, and partitions that come and go."""

import pytest
from lifecycle import CONTRACT, stale
from partitioned import HASH, LIST, RANGE, documents, insert
from psycopg import sql

from pgvmig import adding
from pgvmig.address import address
from pgvmig.backfill import faults
from pgvmig.errors import ConflictError
from pgvmig.layouts.layout import open_layout
from pgvmig.runner import ConnectionRunner

NEW = "CREATE TABLE documents_3 PARTITION OF documents FOR VALUES FROM (200) TO (300)"


@pytest.mark.layouts
@pytest.mark.parametrize("definition", [RANGE, LIST, HASH], ids=["range", "list", "hash"])
def test_every_row_of_every_partition_gets_its_vector(site, definition):
    documents(site, definition, rows=25)
    version = site.version()
    insert(site, 102, 10)
    result = site.run()
    assert next(iter(result.versions.values())).written == 60
    assert site.problems(version) == []
    assert site.state(version) == "ready"
    assert site.repeated() == 0
    assert stale(site.connection, version) == []


@pytest.mark.layouts
def test_walk_reads_ranges_of_every_partitions_pages_and_nothing_else(site):
    documents(site, rows=400)
    version = site.version()
    layout = open_layout(site.connection, version)
    statement = layout.queries["missing_rows"]
    plan = site.connection.execute(sql.SQL("EXPLAIN (COSTS off) ") + statement, {"first": "(0,0)", "last": "(2,0)"})
    lines = [line for (line,) in plan]
    for leaf in ("documents_1", "documents_2"):
        assert any(f"Tid Range Scan on {leaf} " in line for line in lines), lines
    assert not any("Seq Scan on documents" in line for line in lines), lines
    found = layout.missing(site.connection, 0, 1)
    first_pages = site.value("SELECT count(*) FROM documents WHERE ctid < '(1,0)'")
    assert (len(found), len({place.block for place in found})) == (first_pages, 2)


def test_a_range_has_fewer_pages_the_more_partitions_there_are(site, monkeypatch):
    documents(site, HASH, rows=120)
    version = site.version()
    leased = []
    look = "SELECT first_block, last_block, end_block FROM pgvmig.lease JOIN pgvmig.backfill USING (version_id)"
    monkeypatch.setattr(faults, "reach", lambda _: leased.extend(site.execute(look).fetchall()))
    site.run(batch_size=6)
    pages = site.value("SELECT max(pg_relation_size(l)) / 8192 FROM pgvmig.leaves('documents') l")
    first = leased[0]
    # a plain table's would have six
    assert (first[0], first[1]) == (0, 2)
    assert 2 < first[2] <= pages
    assert site.problems(version) == []


class TestTriggers:
    @pytest.mark.majors(18, 16)
    def test_fire_always_in_every_partition_also_in_those_to_come(self, site):
        documents(site, LIST, rows=0)
        site.version()
        site.execute("CREATE TABLE documents_3 PARTITION OF documents FOR VALUES IN (300)")
        found = site.execute(
            "SELECT t.tgrelid::regclass::text, count(*), array_agg(DISTINCT t.tgenabled::text) FROM pg_trigger t "
            "JOIN pgvmig.leaves('documents') l ON l = t.tgrelid WHERE t.tgname LIKE 'pgvmig%' GROUP BY 1 ORDER BY 1"
        ).fetchall()
        assert found == [(leaf, 3, ["A"]) for leaf in ("documents_1_0", "documents_1_1", "documents_2", "documents_3")]
        site.execute("SET session_replication_role = replica")
        insert(site, 300, 2)
        insert(site, 1, 1, table="documents_1")
        assert site.stale() == 3

    @pytest.mark.majors(18, 16)
    def test_switched_off_in_one_partition_are_found_and_switched_on_again(self, site):
        documents(site, rows=0)
        site.version()
        gate = "SELECT g.passed, g.found, g.next FROM pgvmig.version v, pgvmig.gate_capture(v, NULL) g"
        assert site.execute(gate).fetchone()[0]
        site.execute("ALTER TABLE documents_2 DISABLE TRIGGER pgvmig_embedding_v2_update")
        passed, found, advice = site.execute(gate).fetchone()
        assert (passed, found) == (
            False,
            "rows may have changed unseen: not enabled always is pgvmig_embedding_v2_update of public.documents_2",
        )
        site.execute(advice.partition(";")[0])
        assert site.execute(gate).fetchone()[0]

    @pytest.mark.layouts
    def test_follow_changes_deletes_and_rows_that_move(self, site):
        documents(site, rows=20)
        version = site.version()
        site.run()
        site.execute("UPDATE documents SET body = 'another text' WHERE id = 1001")
        site.execute("UPDATE documents SET note = 'nothing' WHERE id = 1002")
        site.execute("UPDATE documents SET day = 150 WHERE id = 1003")
        site.execute("UPDATE documents SET day = 150, body = 'moved and changed' WHERE id = 1004")
        site.execute("UPDATE documents SET body = '' WHERE id = 101005")
        site.execute("DELETE FROM documents WHERE id = 101006")
        waiting = stale(site.connection, version)
        # beside its row a vector moves with it; in a table of its own it is keyed like the row was
        assert waiting == [(1001, 1), *([(1003, 150)] if version.layout == "table" else []), (1004, 150), (101005, 101)]
        site.run()
        assert site.problems(version) == []
        assert site.texts()[-2:].count("moved and changed") == 1


@pytest.mark.layouts
class TestPartitionsThatComeAndGo:
    @pytest.fixture
    def version(self, site):
        documents(site, rows=20)
        version = site.version()
        site.run()
        return version

    def attach(self, site, rows):
        """Attach a partition that has rows already, which fires no trigger."""
        site.execute("CREATE TABLE documents_3 (LIKE documents INCLUDING ALL)")
        insert(site, 201, rows, table="documents_3")
        site.execute("ALTER TABLE documents ATTACH PARTITION documents_3 FOR VALUES FROM (200) TO (300)")

    def coverage(self, site):
        return site.execute(
            "SELECT g.passed, g.found, g.next FROM pgvmig.version v, "
            "pgvmig.gate_coverage(v, ROW('60 s', '24 h', false)) g"
        ).fetchone()

    def test_one_made_empty_is_followed_from_its_first_row(self, site, version):
        site.execute(NEW)
        insert(site, 201, 5)
        assert len(stale(site.connection, version)) == 5
        site.run()
        assert site.problems(version) == []

    def test_rows_of_one_that_is_attached_are_missed_and_then_found(self, site, version):
        self.attach(site, 30)
        assert stale(site.connection, version) == []
        assert self.coverage(site)[::2] == (False, "pgvmig backfill documents v2")
        assert self.coverage(site)[1].startswith("30 of 70 rows have no vector")
        site.run()
        assert site.problems(version) == []
        assert self.coverage(site)[0]

    def test_rows_of_one_that_is_attached_while_the_walk_is_on_are_taken_by_it(self, site, monkeypatch):
        documents(site, rows=30)
        version = site.version()
        waiting = [lambda: self.attach(site, 20)]
        monkeypatch.setattr(
            faults, "reach", lambda point: waiting.pop()() if waiting and point == "before-commit" else None
        )
        site.run(batch_size=10)
        assert waiting == []
        assert site.problems(version) == []
        assert site.value("SELECT count(*) FROM documents_v2") == 80

    @pytest.mark.parametrize(
        "statement",
        [
            "TRUNCATE documents_1",
            "DROP TABLE documents_1",
            "ALTER TABLE documents DETACH PARTITION documents_1",
            "ALTER TABLE documents DETACH PARTITION documents_1 CONCURRENTLY",
        ],
    )
    def test_vectors_of_one_that_is_gone_go_with_it(self, site, version, statement):
        site.execute("UPDATE documents SET body = '' WHERE id = 1001")
        site.run()
        site.execute("UPDATE documents SET body = 'another' WHERE id = 1002")
        site.execute(statement)
        passed, found, following = self.coverage(site)
        if version.layout == "table":
            assert not passed
            assert found.startswith("19 vectors are of rows that went with their partition")
            assert following == "pgvmig backfill documents v2"
        else:
            assert passed
        site.run()
        assert self.coverage(site)[0]
        assert site.problems(version) == []

    def test_truncating_all_of_them_leaves_nothing(self, site, version):
        site.execute("TRUNCATE documents")
        site.run()
        assert site.problems(version) == []
        assert site.value("SELECT count(*) FROM documents_v2") == 0


def test_a_partition_that_becomes_unlogged_is_found(site):
    documents(site, rows=1)
    site.version()
    site.execute("CREATE UNLOGGED TABLE documents_3 PARTITION OF documents FOR VALUES FROM (200) TO (300)")
    found = site.execute(
        "SELECT g.passed, g.found, g.next FROM pgvmig.version v, pgvmig.gate_table(v, NULL) g"
    ).fetchone()
    assert found == (
        False,
        "documents_3 is unlogged: a crash empties it, and standbys never see it",
        "ALTER TABLE public.documents_3 SET LOGGED",
    )


class TestRefusals:
    def refused(self, site, table="documents"):
        with pytest.raises(ConflictError) as caught:
            adding.add(ConnectionRunner(site.connection), address(table, "v1"), {**CONTRACT})
        return str(caught.value)

    def test_of_a_partition(self, site):
        documents(site, rows=1)
        assert self.refused(site, "documents_1") == (
            "documents_1 is a partition of documents. Searches through the whole table would find vectors in one "
            "partition and none in the others. "
            "Next: name documents: its partitions, and those to come, are taken with it"
        )

    def test_of_a_partition_that_is_unlogged(self, site):
        documents(site, rows=1)
        site.execute("CREATE UNLOGGED TABLE documents_3 PARTITION OF documents FOR VALUES FROM (200) TO (300)")
        assert self.refused(site) == (
            "documents_3 is unlogged. A crash empties it, and its standbys never see it. "
            "Next: ALTER TABLE documents_3 SET LOGGED"
        )

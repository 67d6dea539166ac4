"""Gates about rows and vectors: freshness (the worker keeps up) and provenance (every vector is the version's own)."""

import pytest
from gating import Gated
from lifecycle import add_version, adopt_version, embed, record_outcome

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]


@pytest.fixture
def table(database):
    return Gated(database)


@pytest.fixture
def versions(table):
    return table.add("v1"), table.add("v2")


def test_entries_of_rows_that_need_nothing_do_not_wait(table, versions):
    _, v2 = versions
    table.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    table.execute("UPDATE documents SET body = 'text 1' WHERE id = 1")
    table.execute("UPDATE documents SET body = 'poison' WHERE id = 2")
    record_outcome(table.connection, v2, 2, "failed", "poison")
    table.execute("INSERT INTO pgvmig.documents_v2_stale (key_id) VALUES (4711)")
    table.age("v2", "3 hours")
    fresh = table.ask("freshness")
    assert (fresh.passed, fresh.found, fresh.measured["entries"]) == (True, "no row waits for the worker", 4)
    table.execute("UPDATE documents SET body = 'poison again' WHERE id IN (2, 3)")
    table.age("v2", "3 hours")
    fresh = table.ask("freshness")
    assert (fresh.passed, fresh.found) == (False, "2 vectors are of an older text, for up to 6 h")
    assert fresh.next == "pgvmig backfill documents v2"
    assert (fresh.measured["waiting"], fresh.measured["outdated"]) == (2, 2)
    assert fresh.measured["oldest_seconds"] >= 6 * 3600
    assert table.ask("coverage").passed
    ((entries, waiting, outdated, _),) = table.execute(
        "SELECT w.* FROM pgvmig.version v, pgvmig.waiting_rows(v, 3) AS w WHERE v.version = 'v2'"
    )
    assert (entries, waiting, outdated) == (6, 2, 1)  # row 3, in it for the shortest time, was not looked at


def test_no_more_rows_wait_than_a_worker_clears(table, versions):
    table.ran("v2", rows=45, seconds=600)
    table.execute("UPDATE documents SET body = 'changed' WHERE id <= 5")
    fresh = table.ask("freshness")
    assert (fresh.passed, fresh.found) == (
        True,
        "5 rows are waiting for the worker; a worker needs about 67 s for that (0.1 rows/s in its last runs)",
    )
    assert fresh.wanted == (
        "no vector is of a text that was replaced 60 s ago, and at most 5 rows wait: what a worker clears in 60 s, "
        "by its last runs"
    )
    table.execute("INSERT INTO documents VALUES (100, 'new')")
    fresh = table.ask("freshness")
    assert (fresh.passed, fresh.measured["waiting"], fresh.measured["most_waiting"]) == (False, 6, 5)
    assert fresh.measured["rows_per_second"] == 0.1
    assert fresh.measured["catching_up_seconds"] in (80, 81)
    table.ran("v2", rows=5000, seconds=10)
    assert table.ask("freshness").passed


def test_a_row_without_a_vector_is_told_of_once(table, versions):
    table.execute("INSERT INTO documents VALUES (100, 'new')")
    table.age("v2", "1 hour")
    assert (table.ask("coverage").passed, table.ask("freshness").passed) == (False, True)


def test_coverage_says_how_long_catching_up_takes(table):
    v2 = add_version(table.connection, "documents", "v2")
    table.ran("v2", rows=52, seconds=9 * 3600)
    table.execute(
        # 20 seconds of work, and hours in which there was next to nothing to do
        "INSERT INTO pgvmig.backfill_sample (version_id, run_id, at, rows_written, batch_size, state) "
        "SELECT version_id, run_id, now() - make_interval(secs => 20000 - 5 * i), i * 10, 10, 'running' "
        "FROM pgvmig.backfill_run, generate_series(0, 4) AS i"
    )
    embed(table.connection, v2, "id <= 4")
    coverage = table.ask("coverage")
    assert (coverage.found, coverage.next) == (
        "16 of 20 rows have no vector; a worker needs about 8 s for that (2.0 rows/s in its last runs)",
        "pgvmig backfill documents v2",
    )
    measured = coverage.measured
    assert (measured["rows_per_second"], measured["catching_up_seconds"], measured["missing"]) == (2.0, 8, 16)


def test_a_real_run_is_measured(site):
    site.documents(30)
    version = site.version()
    assert site.value("SELECT pgvmig.measured_speed(%s)", version.version_id) is None
    site.run()
    elapsed = site.value("SELECT extract(epoch FROM seen_at - started_at)::float8 FROM pgvmig.backfill_run")
    assert site.value("SELECT pgvmig.measured_speed(%s)", version.version_id) >= 30 / elapsed


def test_before_a_whole_walk_a_changed_row_may_have_been_missing_for_long(table):
    v2 = add_version(table.connection, "documents", "v2")
    embed(table.connection, v2, "id > 1")
    table.execute("UPDATE documents SET body = 'changed' WHERE id = 1")
    assert table.ask("coverage").found == "1 of 20 rows have no vector"
    embed(table.connection, v2)
    table.execute("INSERT INTO documents VALUES (100, 'new')")
    coverage = table.ask("coverage")
    assert (coverage.passed, coverage.measured["missing_recent"]) == (True, 1)


def test_vectors_of_another_version_are_found(table, versions, layout):
    v1, v2 = versions
    where, version_id = f"public.{v2.vector_table_name}", v2.version_id_column
    key = "id" if layout == "column" else "key_id"
    assert table.ask("provenance").found == "all 20 vectors are of v2"
    table.execute(f"UPDATE {where} SET {version_id} = %s WHERE {key} IN (3, 5)", v1.version_id)
    table.execute(f"UPDATE {where} SET {version_id} = 4711 WHERE {key} = 7")
    found = table.ask("provenance")
    assert not found.passed
    assert found.found.startswith(
        f"3 vectors are not of v2, but 2 of v1, 1 of a version that is unknown (4711); in {where}, such as for "
    )
    assert set(found.found.rpartition(" for ")[2].split(", ")) == {"3", "5", "7"}
    assert (found.measured["strangers"], found.measured["vectors"][str(v2.version_id)]) == (3, 17)
    assert found.next.endswith("then pgvmig backfill documents v2")
    table.do(found)
    assert table.ask("provenance").found == "all 17 vectors are of v2"
    table.age("v2", "1 hour")
    assert table.ask("coverage").found == "3 of 20 rows have no vector"
    embed(table.connection, v2)
    assert all(result.passed for result in table.ask_all() if result.gate in ("provenance", "coverage"))


@pytest.mark.layouts("column")
def test_a_vector_without_provenance_is_nobodys(table, versions):
    ((check,),) = table.execute("SELECT conname FROM pg_constraint WHERE conrelid = 'documents'::regclass "
                                "AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%embedding_v2%'")  # fmt: skip
    table.execute(f"ALTER TABLE documents DROP CONSTRAINT {check}")
    table.execute("UPDATE documents SET embedding_v2_version_id = NULL WHERE id = 4")
    found = table.ask("provenance").found
    assert found == "1 vector is not of v2, but 1 without provenance; in public.documents, such as for 4"


@pytest.mark.layouts("column")
def test_adopted_vectors_may_have_none_but_not_anothers(table):
    table.execute("ALTER TABLE documents ADD COLUMN embedding vector(8)")
    table.execute("UPDATE documents SET embedding = '[1,0,0,0,0,0,0,0]' WHERE id <= 10")
    adopt_version(table.connection, "documents", "v1", "embedding")
    table.execute("UPDATE documents SET embedding = '[1,2,1,1,1,1,1,1]' WHERE id = 1")
    found = table.ask("provenance", "v1")
    assert (found.passed, found.found) == (True, "all vectors are of v1, 9 of them from before its adoption")
    table.execute("ALTER TABLE documents DISABLE TRIGGER USER")
    table.execute("UPDATE documents SET embedding_version_id = 4711 WHERE id = 2")
    found = table.ask("provenance", "v1")
    assert not found.passed
    assert found.next == (
        "SELECT * FROM public.documents AS x WHERE x.embedding IS NOT NULL AND (x.embedding_version_id <> 1); "
        "have its application embed these rows, or cut over to another version"
    )
    capture = table.ask("capture", "v1").found
    assert capture.endswith("~pgvmig_embedding_v1_provenance_insert, ~pgvmig_embedding_v1_provenance_update")

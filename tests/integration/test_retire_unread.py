"""The proof that nobody reads a version: index scans on every server, statements, sessions, and what voids them."""

import psycopg
import pytest
import vectors
from leaving import V1, V2, Left
from lifecycle import find

from pgvmig import retiring
from pgvmig.catalog import own_scans, standbys
from pgvmig.errors import GateError

pytestmark = pytest.mark.layouts("column")


@pytest.fixture
def left(database):
    return Left(database.connect())


@pytest.fixture
def reader(database):
    return database.connect(application_name="billing")


@pytest.mark.layouts
def test_a_version_that_was_just_left_soaks_first(left):
    with pytest.raises(GateError) as error:
        retiring.retire(left.run, V1)
    (at,) = left.execute(
        "SELECT pgvmig.moment(state_changed_at + interval '24 h') FROM pgvmig.version WHERE version = 'v1'"
    )
    assert error.value.found.startswith("documents v1 is not to be retired yet: it was left ")
    assert error.value.next_step == (
        f"run this again after {at[0]}, or say a shorter soak: pgvmig retire documents v1 --soak 1h"
    )
    assert set(error.value.data["gates"]) == {"soak", "unused"}
    left.pass_time()
    assert {gate.gate: gate.passed for gate in retiring.check(left.run, V1)} == {"soak": True, "unused": True}
    outcome = retiring.retire(left.run, V1)
    assert (outcome["changed"], outcome["gates"]["unused"]["passed"]) == (True, True)
    assert left.v1.state == "retired"


@pytest.mark.majors(18, 16)
def test_others_scans_are_counted_and_ours_are_not(left, reader):
    left.pass_time()
    with own_scans.noted(left.connection, [left.v1.version_id]):
        left.search(left.connection, 3)
    found = left.gate("unused")
    assert (found.passed, found.measured["servers"][0]["verdict"]) == (True, "quiet")
    left.search(reader, 2)
    found = left.gate("unused")
    assert not found.passed
    assert found.found.startswith("primary: its index was scanned 2 times since ")
    assert ", the last time at " in found.found
    assert f"find who reads it (session {reader.info.backend_pid} (postgres, billing" in found.next
    assert found.next.endswith("point them at the current view, then run this again: the time begins anew")
    assert not left.gate("unused").passed
    left.pass_time()
    assert retiring.retire(left.run, V1, retiring.RetireTerms(skip=["unused"], reason="that was me"))["skipped"] == [
        "unused"
    ]


def test_a_scan_before_the_soak_is_none_in_it(left, reader):
    """PostgreSQL 16 keeps when the last scan was: readings of ours before and after it are not needed."""
    left.search(reader)
    left.execute("DELETE FROM pgvmig.index_reading")
    assert left.gate("unused").found.startswith("primary: its index was last scanned at ")
    left.execute("DELETE FROM pgvmig.index_reading")
    left.execute("UPDATE pgvmig.version SET state_changed_at = state_changed_at - interval '25 h'")
    terms = retiring.RetireTerms(soak=retiring.span("1s"))
    left.execute("SELECT pg_sleep(1.1)")
    assert retiring.retire(left.run, V1, terms)["changed"]


def test_statistics_that_began_anew_prove_nothing(left):
    left.pass_time()
    assert left.gate("unused").passed
    left.execute("SELECT pg_stat_reset()")
    found = left.gate("unused")
    assert (found.passed, found.measured["servers"][0]["verdict"]) == (False, "unproven")
    assert "the counting began anew after " in found.found
    assert ": a new baseline was taken at " in found.found
    assert found.next.startswith("run this again after ")
    left.pass_time()
    assert left.gate("unused").passed
    left.execute("DROP INDEX documents_embedding_v1_hnsw")
    left.execute("CREATE INDEX ON documents USING hnsw (embedding_v1 vector_cosine_ops)")
    assert "another index" in left.gate("unused").found


def test_whoever_reads_it_now_is_named_and_so_are_functions(left, reader):
    left.pass_time()
    with reader.transaction():
        reader.execute("SELECT count(*) FROM documents_v1")
        found = left.gate("unused")
        assert found.found.startswith(f"primary: session {reader.info.backend_pid} (postgres, billing")
        assert found.found.endswith(") reads public.documents_v1 now")
    assert left.gate("unused").passed
    left.execute("CREATE FUNCTION hits() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM documents_v2'")
    assert left.gate("unused").passed
    left.execute("CREATE FUNCTION old_hits() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM documents_v1'")
    assert left.gate("unused").found == "the text of public.old_hits() names public.documents_v1"


def test_exact_search_leaves_no_trace_but_statements(left):
    """Stands in for pg_stat_statements, which must be preloaded, by a table of that extension's."""
    left.execute("DROP INDEX documents_embedding_v1_hnsw")
    left.pass_time()
    found = left.gate("unused")
    assert found.found == (
        "primary: v1 has no vector index whose scans would be counted, and pg_stat_statements is not there to count "
        "queries"
    )
    assert found.next == (
        "CREATE EXTENSION pg_stat_statements, or see who misses it: pgvmig retire documents v1 --revoke; "
        "or pgvmig retire documents v1 --skip unused --reason '...'"
    )
    left.execute("CREATE TABLE pg_stat_statements (dbid oid, query text, calls bigint)")
    left.execute("SET allow_system_table_mods = on")
    left.execute(
        "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) "
        "VALUES (99999, 'pg_stat_statements', 10, 'public'::regnamespace, true, '0')"
    )
    left.execute("ALTER EXTENSION pg_stat_statements ADD TABLE pg_stat_statements")
    seen = "INSERT INTO pg_stat_statements SELECT d.oid, %s, %s FROM pg_database d WHERE d.datname = current_database()"
    left.execute(seen, "-- search\nSELECT id FROM public.documents_v1 ORDER BY embedding <=> $1", 5)
    left.execute(seen, "GRANT SELECT ON documents_v1 TO PUBLIC", 7)
    left.execute(seen, "SELECT * FROM documents_v11", 9)
    assert left.gate("unused").found.startswith("primary: no query named public.documents_v1 since ")
    left.pass_time()
    assert left.gate("unused").passed
    left.execute("UPDATE pg_stat_statements SET calls = calls + 2")
    found = left.gate("unused")
    assert found.found.startswith("primary: queries that name public.documents_v1 were called 2 times since ")
    assert "pg_stat_statements: -- search SELECT id FROM public.documents_v1" in found.next
    left.execute("ALTER TABLE pg_stat_statements RENAME COLUMN calls TO total")  # whatever is wrong with it
    assert left.gate("unused").found == "primary: column s.calls does not exist"
    vectors.roll_back(left.connection, find(left.connection, V2))
    assert find(left.connection, V1).state == "active"


def test_standbys_are_declared_and_not_inferred(left):
    left.execute("UPDATE pgvmig.installation SET no_standbys = false")
    left.pass_time()
    found = left.gate("unused")
    assert found.found == "nobody has declared whether there are standbys"
    assert found.next.startswith(
        "pgvmig standby add NAME --standby-dsn ..., or pgvmig standby none, or see who misses it: "
    )
    standbys.add(left.connection, "gone", "host=127.0.0.1 port=1")
    assert left.gate("unused").found.startswith("gone: its DSN does not answer (")
    with psycopg.connect(left.connection.info.dsn, autocommit=True) as self_named:
        standbys.add(left.connection, "gone", self_named.info.dsn)
    assert left.gate("unused").found == "gone: its DSN leads to a server that is no standby"


def test_a_standbys_readers_are_seen_there(replicated_database):
    standby = psycopg.connect(replicated_database.standby_dsn, autocommit=True)
    connection = replicated_database.connect()
    connection.execute("DROP SCHEMA IF EXISTS pgvmig CASCADE")
    left = Left(connection)
    standbys.add(connection, "standby1")
    left.pass_time()
    replicated_database.wait_for_replay()
    found = left.gate("unused")
    assert found.found == "standby1 has no DSN, nobody can ask it"
    assert found.next.startswith(
        "pgvmig standby add NAME --standby-dsn ... for each, then pgvmig retire documents v1 --check, or"
    )
    standbys.add(connection, "standby1", replicated_database.standby_dsn)
    assert left.gate("unused").measured["servers"][1]["verdict"] == "unproven"  # the first reading is the baseline
    left.pass_time()
    assert left.gate("unused").passed
    left.search(standby, 4)
    found = left.gate("unused")
    assert (found.passed, found.measured["servers"][0]["verdict"]) == (False, "quiet")
    assert found.found.startswith("standby1: its index was scanned 4 times since ")
    left.execute("UPDATE pgvmig.index_reading SET read_at = read_at - interval '11 min'")
    with pytest.raises(psycopg.errors.Error) as error:  # in SQL alone nobody asks the standby
        left.execute("SELECT pgvmig.retire('documents', 'v1')")
    assert "standby1 was last read at " in str(error.value)
    standby.close()

"""The worker on real PostgreSQL: history, stale rows, keys of every kind."""

import threading
import time

import pytest
from backfilling import DOCUMENTS, Background, Site, wait_until
from lifecycle import add_version

pytestmark = pytest.mark.layouts


class TestHistory:
    @pytest.mark.majors(18, 16)
    def test_is_embedded_once_and_the_version_is_ready(self, site):
        site.documents(1000)
        v2 = site.version()
        result = site.run("documents", "v2")
        assert (result.why, result.versions["documents v2"].written) == ("done", 1000)
        assert site.problems(v2) == []
        assert len(site.texts()) == len(set(site.texts())) == 1000
        assert site.state(v2) == "ready"
        assert site.execute(
            "SELECT source, verb, from_state, to_state FROM pgvmig.event ORDER BY event_id DESC LIMIT 2"
        ).fetchall() == [("worker", "backfill", "backfilling", "ready"), ("worker", "backfill", "added", "backfilling")]
        run = "SELECT rows_written, rows_failed, rows_outrun, ended_why, waiting FROM pgvmig.backfill_run"
        assert site.execute(run).fetchall() == [(1000, 0, 0, "done", None)]

    def test_of_an_empty_table_is_done_at_once(self, site):
        site.documents(0)
        v2 = site.version()
        assert site.run("documents", "v2").why == "done"
        assert site.state(v2) == "ready"

    def test_goes_on_where_another_run_was_ended(self, site):
        site.documents(1000)
        v2 = site.version()
        stop = threading.Event()
        assert site.run(stop=stop, report=lambda _: stop.set()).why == "signal"
        written = site.embedded()
        assert 0 < written < 1000
        assert site.value("SELECT count(*) FROM pgvmig.lease WHERE until > clock_timestamp()") == 0
        assert site.run().why == "done"
        assert site.problems(v2) == []
        # what is on its way when the run is ended is awaited and written
        assert len(site.texts()) == 1000

    def test_is_shared_by_workers_without_repeating_a_row(self, site):
        site.documents(2000)
        v2 = site.version()
        site.server.latency = 0.05

        def work():
            return site.run(batch_size=8)

        with Background(work) as one, Background(work) as other, Background(work) as third:
            results = [worker.join() for worker in (one, other, third)]
        assert {result.why for result in results} == {"done"}
        assert all(result.versions["documents v2"].written > 0 for result in results)
        assert site.problems(v2) == []
        assert len(site.texts()) == len(set(site.texts())) == 2000

    def test_of_a_killed_worker_is_taken_over_when_its_lease_is_over(self, site):
        site.documents(200)
        v2 = site.version()
        site.execute(
            "UPDATE pgvmig.backfill SET pass = 1, next_block = 3, "
            "end_block = (SELECT pg_relation_size('documents') / 8192)"
        )
        site.execute(
            "INSERT INTO pgvmig.lease (version_id, run_id, first_block, last_block, until) "
            "VALUES (%s, gen_random_uuid(), 0, 3, clock_timestamp() + interval '1 s')",
            v2.version_id,
        )
        began = time.monotonic()
        assert site.run().why == "done"
        assert time.monotonic() - began > 0.8
        assert site.problems(v2) == []

    def test_leases_outlive_a_slow_provider(self, site):
        site.documents(200)
        v2 = site.version()
        site.server.latency = 2.5
        with Background(lambda: site.run(lease=1.0)) as one, Background(lambda: site.run(lease=1.0)) as other:
            assert {one.join().why, other.join().why} == {"done"}
        assert len(site.texts()) == 200
        assert site.problems(v2) == []

    def test_a_lost_lease_is_left_to_its_new_holder(self, site):
        site.documents(500)
        v2 = site.version()
        lost = threading.Event()

        def lose(_):
            if not lost.is_set():
                lost.set()
                site.execute(
                    "UPDATE pgvmig.lease SET run_id = gen_random_uuid(), until = clock_timestamp() + interval '1 s'"
                )

        site.server.on_request = lose
        assert site.run().why == "done"
        assert site.problems(v2) == []
        # what was on its way for the lost range is written; what is read again needs nothing
        assert len(site.texts()) == len(set(site.texts())) == 500

    def test_rows_that_moved_behind_the_walk_are_found(self, site):
        """An update of other columns queues nothing, and may put the row on a page that was looked at already."""
        site.documents(1000)
        v2 = site.version()
        pages = site.value("SELECT pg_relation_size('documents') / 8192")
        site.execute("UPDATE pgvmig.backfill SET pass = 1, next_block = %s, end_block = %s", pages - 1, pages)
        assert site.run().why == "done"
        assert site.problems(v2) == []
        assert site.value("SELECT pass FROM pgvmig.backfill") == 2

    def test_is_looked_over_again_when_the_version_is_named(self, site):
        site.documents(50)
        v2 = site.version()
        site.run()
        site.execute("ALTER TABLE documents DISABLE TRIGGER USER")
        site.insert(20)
        site.execute("ALTER TABLE documents ENABLE ALWAYS TRIGGER pgvmig_embedding_v2_insert")
        assert site.run("documents").versions["documents v2"].written == 0
        assert site.run("documents", "v2").versions["documents v2"].written == 20
        assert site.problems(v2) == []

    def test_is_looked_over_again_after_a_day(self, site):
        site.documents(50)
        v2 = site.version()
        site.run()
        site.lose_vectors(v2, "id = 7")
        site.execute("DELETE FROM pgvmig.stale_row")
        assert site.run().versions["documents v2"].written == 0
        site.execute("UPDATE pgvmig.backfill SET walked_at = now() - interval '25 hours'")
        assert site.run().versions["documents v2"].written == 1
        assert site.problems(v2) == []

    @pytest.mark.layouts("column")
    def test_stripes_keep_updates_on_their_pages(self, site):
        """Nine rows a page, as in a real table: in key order next to no update of a full page is HOT."""
        site.documents(0, DOCUMENTS.replace("note text", "note text, other vector(64)"))
        site.execute(
            "INSERT INTO documents (body, note, other) SELECT 'passage ' || i, repeat('n', 500), "
            "array_fill(i::real, ARRAY[64])::vector FROM generate_series(1, 3000) AS i"
        )
        v2 = site.version()
        site.run()
        assert site.problems(v2) == []
        site.connection.execute("SELECT pg_stat_force_next_flush()")
        wait_until(lambda: site.value("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'documents'") >= 3000)
        hot = site.value("SELECT n_tup_hot_upd::float / n_tup_upd FROM pg_stat_user_tables WHERE relname = 'documents'")
        assert hot > 0.6


class TestStaleRows:
    @pytest.fixture
    def v2(self, site):
        site.documents(50)
        version = site.version()
        site.run()
        site.server.requests.clear()
        return version

    def test_are_embedded_again_and_nothing_else_is(self, site, v2):
        site.execute("UPDATE documents SET body = 'changed' WHERE id = 3")
        site.execute("UPDATE documents SET note = 'changed' WHERE id = 4")
        site.execute("INSERT INTO documents (body) VALUES ('added')")
        site.execute("DELETE FROM documents WHERE id = 5")
        assert site.run().why == "done"
        assert sorted(site.texts()) == ["added", "changed"]
        assert site.problems(v2) == []

    def test_the_workers_own_writes_queue_nothing(self, site, v2):
        taken = "SELECT last_value FROM pgvmig.stale_entry"
        before = site.value(taken)
        site.execute("UPDATE documents SET body = 'changed'")
        site.run()
        assert site.value(taken) == before + 50 or before == 1
        assert site.problems(v2) == []

    def test_a_row_that_was_changed_often_is_embedded_once(self, site, v2):
        for number in range(5):
            site.execute("UPDATE documents SET body = %s WHERE id = 3", f"text {number}")
        assert site.stale() == 5
        site.run(batch_size=1)
        assert site.texts() == ["text 4"]
        assert site.problems(v2) == []

    def test_a_row_that_was_changed_back_is_not_embedded(self, site, v2):
        body = site.value("SELECT body FROM documents WHERE id = 3")
        site.execute("UPDATE documents SET body = 'for a moment' WHERE id = 3")
        site.execute("UPDATE documents SET body = %s WHERE id = 3", body)
        assert site.stale() == 2
        site.run()
        assert site.texts() == []
        assert site.problems(v2) == []

    def test_bulk_loads_as_a_replica_and_other_triggers_changes_are_found(self, site, v2):
        site.execute(
            "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.body := upper(NEW.body); RETURN NEW; END'"
        )
        site.execute(
            "CREATE TRIGGER shout BEFORE INSERT OR UPDATE OF note ON documents FOR EACH ROW EXECUTE FUNCTION shout()"
        )
        site.execute("UPDATE documents SET note = 'loud' WHERE id = 3")
        with site.connection.transaction():
            site.execute("SET LOCAL session_replication_role = replica")
            site.execute("INSERT INTO documents (body) VALUES ('loaded')")
            site.execute("UPDATE documents SET body = 'reloaded' WHERE id = 4")
        site.run()
        upper = site.value("SELECT body FROM documents WHERE id = 3")
        assert upper.isupper()
        assert sorted(site.texts()) == sorted([upper, "loaded", "reloaded"])
        assert site.problems(v2) == []

    def test_truncate_leaves_nothing(self, site, v2):
        site.execute("UPDATE documents SET body = ' '")
        site.run()
        site.execute("UPDATE documents SET body = 'x'")
        site.execute("TRUNCATE documents")
        assert site.run().why == "done"
        assert site.problems(v2) == []

    @pytest.mark.layouts("column")
    def test_a_vector_that_was_taken_away_comes_back(self, site, v2):
        site.lose_vectors(v2, "id IN (1, 2)")
        site.run()
        assert len(site.texts()) == 2
        assert site.problems(v2) == []


class TestKeys:
    @pytest.mark.parametrize(
        ("columns", "values"),
        [
            (
                "tenant bigint, path text, PRIMARY KEY (tenant, path)",
                [(1, "a"), (1, "b'c\\"), (2, "a"), (-3, '{},"NULL'), (4, ""), (5, "x\ty\nz"), (6, "50% ünï 漢字")],
            ),
            (
                "id uuid PRIMARY KEY",
                [("00000000-0000-0000-0000-00000000000a",), ("ffffffff-ffff-ffff-ffff-ffffffffffff",)],
            ),
            ("name varchar(40) PRIMARY KEY", [("NULL",), ("null",), ("O'Neil",), ("%s %(x)s",), ("",), (" lead",)]),
            (
                "at timestamptz, kind char(3), PRIMARY KEY (at, kind)",
                [("2024-02-29 12:00:00.123456+05", "a"), ("-infinity", "abc")],
            ),
            ('"Odd ""name"" 50%" integer PRIMARY KEY', [(1,), (-1,)]),
        ],
        ids=["composite", "uuid", "text", "time", "odd name"],
    )
    def test_are_kept_in_their_own_types(self, site, columns, values):
        site.documents(0, f"CREATE TABLE documents (body text, {columns})")
        marks = ", ".join(["%s"] * len(values[0]))
        with site.connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO documents VALUES (%s, {marks})", [(f"text {v}", *v) for v in values])
        v2 = site.version()
        assert site.run().versions["documents v2"].written == len(values)
        assert site.problems(v2) == []
        site.execute("UPDATE documents SET body = body || ' changed'")
        assert site.run().versions["documents v2"].written == len(values)
        assert site.problems(v2) == []

    @pytest.mark.bare
    def test_without_a_place_on_the_search_path(self, database, model_server, monkeypatch):
        """Another schema for the table, another for pgvector."""
        monkeypatch.setenv("PGVMIG_NEW_BASE_URL", model_server.base_url("new"))
        with database.connect() as connection:
            connection.execute("CREATE SCHEMA vectors")
            connection.execute("ALTER EXTENSION vector SET SCHEMA vectors")
            connection.execute('CREATE SCHEMA "My App"')
        site = Site(database, model_server)
        site.execute(DOCUMENTS.replace("documents", '"My App".documents'))
        site.execute("INSERT INTO \"My App\".documents (body) SELECT 'text ' || i FROM generate_series(1, 20) AS i")
        v2 = add_version(site.connection, "documents", "v2", schema="My App")
        assert site.run('"My App".documents').versions['"My App".documents v2'].written == 20
        site.execute("SET search_path = vectors")
        assert site.problems(v2) == []

"""The application does something between the worker's reading and its writing."""

import random
import threading

import psycopg
import pytest
from backfilling import Background, wait_until

from pgvmig.backfill import lane

pytestmark = pytest.mark.layouts


@pytest.fixture
def v2(site):
    site.documents(5)
    return site.version()


def meanwhile(site, *statements):
    """Run the statements when the first request is at the provider."""
    application = site.database.connect()
    waiting = list(statements)

    def act(_):
        while waiting:
            application.execute(waiting.pop(0))

    site.server.on_request = act
    return application


def test_text_changed(site, v2):
    meanwhile(site, "UPDATE documents SET body = 'changed' WHERE id = 3")
    result = site.run()
    assert (result.why, result.versions["documents v2"].outrun) == ("done", 1)
    assert site.problems(v2) == []


def test_text_changed_twice_and_back(site, v2):
    meanwhile(
        site,
        "UPDATE documents SET body = 'changed' WHERE id = 3",
        "UPDATE documents SET body = 'passage 3' || repeat(' and so on', 20) WHERE id = 3",
    )
    assert site.run().why == "done"
    # the log's entry may be claimed, and its text read, while the walk's request is on its way
    assert len(site.texts()) in {5, 6}
    assert site.problems(v2) == []


def test_row_deleted(site, v2):
    meanwhile(site, "DELETE FROM documents WHERE id = 3")
    assert site.run().versions["documents v2"].written == 4
    assert site.problems(v2) == []


def test_stale_row_deleted(site, v2):
    site.run()
    site.execute("UPDATE documents SET body = 'changed'")
    meanwhile(site, "DELETE FROM documents WHERE id = 3")
    site.run()
    assert site.problems(v2) == []


def test_key_changed(site, v2):
    meanwhile(site, "UPDATE documents SET id = DEFAULT WHERE id = 3")
    assert site.run().why == "done"
    assert site.problems(v2) == []


@pytest.mark.layouts("column")
def test_row_locked_for_a_moment_is_not_embedded_again(site, v2):
    application = meanwhile(site, "BEGIN", "SELECT * FROM documents WHERE id = 3 FOR UPDATE")

    def release():
        wait_until(lambda: site.embedded() == 4)
        application.execute("COMMIT")

    with Background(release):
        result = site.run()
    assert (result.why, result.versions["documents v2"].outrun) == ("done", 0)
    assert len(site.texts()) == 5
    assert site.problems(v2) == []


@pytest.mark.layouts("column")
def test_row_locked_for_good_ends_the_run(site, v2, monkeypatch):
    monkeypatch.setattr(lane, "_PATIENCE", 0.5)
    application = meanwhile(site, "BEGIN", "SELECT * FROM documents WHERE id = 3 FOR UPDATE")
    result = site.run()
    assert (result.why, result.versions["documents v2"].written) == ("locked", 4)
    assert site.value("SELECT count(*) FROM pgvmig.lease") == 0
    assert site.execute("SELECT key_id FROM pgvmig.documents_v2_stale").fetchall() == [(3,)]
    application.execute("ROLLBACK")
    assert site.run().why == "done"
    assert site.problems(v2) == []


@pytest.mark.layouts("column")
def test_row_locked_and_then_changed(site, v2):
    application = meanwhile(site, "BEGIN", "UPDATE documents SET body = 'changed' WHERE id = 3")

    def commit():
        wait_until(lambda: site.embedded() == 4)
        application.execute("COMMIT")

    with Background(commit):
        assert site.run().why == "done"
    assert site.problems(v2) == []


def test_repeatable_read_is_not_failed_by_the_log(site, v2):
    site.run()
    site.execute("UPDATE documents SET body = ' ' WHERE id = 1")
    site.run()
    with site.database.connect() as application:
        site.execute("INSERT INTO documents (id, body) OVERRIDING SYSTEM VALUE VALUES (100, ' '), (101, 'x')")
        application.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert application.execute("SELECT count(*) FROM pgvmig.stale_row").fetchone() == (2,)
        site.run()  # records 100 as empty and takes its entry out of the log; the row itself is as it was
        application.execute("DELETE FROM documents WHERE id = 100")
        application.execute("UPDATE documents SET body = 'changed' WHERE id = 2")
        application.execute("COMMIT")
    # the outcome was recorded after the application's snapshot, in which it deleted the row
    assert site.value("SELECT count(*) FROM pgvmig.documents_v2_outcome WHERE key_id = 100") == 1
    site.run("documents", "v2")
    assert site.problems(v2) == []


def test_no_deadlock_with_an_application_under_load(site, v2):
    site.insert(200)
    stop = threading.Event()

    def application(seed):
        generator = random.Random(seed)
        with psycopg.connect(site.database.dsn, autocommit=True) as connection:
            while not stop.is_set():
                # in the order of their keys: the application has no deadlocks of its own
                keys = sorted(generator.sample(range(1, 200), 8))
                with connection.transaction():
                    for key in keys:
                        change = generator.choice(["body = %s", "note = %s", "body = upper(body), note = %s"])
                        connection.execute(
                            f"UPDATE documents SET {change} WHERE id = %s", (f"text {generator.random()}", key)
                        )
                    if generator.random() < 0.1:
                        connection.execute("DELETE FROM documents WHERE id = %s", (keys[-1],))
                if generator.random() < 0.1:
                    connection.execute("INSERT INTO documents (body) VALUES ('late') ON CONFLICT DO NOTHING")

    before = site.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    with (
        Background(lambda: site.run(follow=True, max_time=6)) as one,
        Background(lambda: site.run(follow=True, max_time=6, batch_size=16)) as other,
    ):
        threads = [Background(lambda seed=seed: application(seed)) for seed in range(4)]
        for thread in threads:
            thread.__enter__()
        try:
            assert {one.join().why, other.join().why} == {"time"}
        finally:
            stop.set()
        for thread in threads:
            thread.join()
    site.connection.execute("SELECT pg_stat_force_next_flush()")
    assert site.run("documents", "v2").why == "done"
    assert site.problems(v2) == []
    assert site.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == before

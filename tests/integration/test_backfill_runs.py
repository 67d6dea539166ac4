"""Which versions a run works on, how it ends, and how it follows."""

import threading
import time
from datetime import timedelta

import pytest
from backfilling import DOCUMENTS, Background, wait_until
from lifecycle import adopt_version, install, prove

from pgvmig.backfill import worker
from pgvmig.backfill.options import Options
from pgvmig.catalog import standbys
from pgvmig.demo.faults import Fault
from pgvmig.errors import ConflictError, DatabaseError, NotFoundError, ProviderUnavailableError, SignalError
from pgvmig.pacing.limits import Limits

IMPATIENT = Limits(patience=timedelta(seconds=1))


@pytest.mark.layouts
class TestVersions:
    def test_all_that_workers_write_without_a_target(self, site):
        site.documents(100)
        v1, v2 = site.version("v1"), site.version("v2", provider="other", model="other", vector_type="halfvec")
        result = site.run()
        assert {name: c.written for name, c in result.versions.items()} == {"documents v1": 100, "documents v2": 100}
        assert site.problems(v1) == site.problems(v2) == []

    def test_of_the_application_are_left_to_it(self, site):
        site.documents(0, DOCUMENTS.replace("note text", "embedding vector(8)"))
        v1 = adopt_version(site.connection, "documents", "v1", "embedding")
        site.insert(3)
        assert site.run().versions == {}
        with pytest.raises(ConflictError, match="written by the application"):
            site.run("documents", "v1")
        assert site.state(v1) == "active"

    def test_adopted_ones_are_kept_fresh_after_a_cutover(self, site):
        site.documents(0, DOCUMENTS.replace("note text", "embedding vector(8)"))
        site.execute(
            "INSERT INTO documents (body, embedding) SELECT 'old ' || i, '[1,0,0,0,0,0,0,0]'::vector "
            "FROM generate_series(1, 5) AS i"
        )
        v1 = adopt_version(site.connection, "documents", "v1", "embedding", {"provider": "other", "model": "other"})
        site.execute("INSERT INTO documents (body) VALUES ('never embedded')")
        v2 = site.version()
        site.run()
        prove(site.connection, v2)
        site.execute("SELECT pgvmig.cut_over('documents', 'v2', skip => '{index}', reason => 'a test')")
        site.execute("UPDATE documents SET body = 'changed' WHERE id = 3")
        assert site.run().why == "done"
        # not the four whose vectors the application wrote
        assert sorted(site.texts("other")) == ["changed", "never embedded"]
        assert site.problems(v2) == []
        assert site.state(v1) == "retained"
        site.execute("UPDATE documents SET body = ' ' WHERE id = 3")
        site.run()
        assert site.execute("SELECT embedding, embedding_version_id FROM documents WHERE id = 3").fetchone() == (
            None,
            None,
        )

    def test_dropped_in_the_middle_of_the_work(self, site):
        site.documents(500)
        site.version()
        dropped = threading.Event()

        def drop(_):
            if not dropped.is_set():
                dropped.set()
                site.execute("SELECT pgvmig.drop_version('documents', 'v2', destroy => true)")

        site.server.on_request = drop
        assert site.run().why == "done"
        assert site.value("SELECT count(*) FROM pgvmig.lease") == 0

    def test_dropped_after_its_table_was_changed(self, site, monkeypatch):
        """Between the batch that noticed the change and the version's being opened anew."""
        site.documents(500)
        site.version()
        reopen = worker._Worker._reopen

        def drop_first(self):
            if any(lane.changed for lane in self._lanes.values()):
                dropped.append(site.value("SELECT pgvmig.drop_version('papers', 'v2', destroy => true)"))
            reopen(self)

        def rename(_):
            if site.value("SELECT to_regclass('papers')") is None:
                site.execute("ALTER TABLE documents RENAME TO papers")

        dropped = []
        monkeypatch.setattr(worker._Worker, "_reopen", drop_first)
        site.server.on_request = rename
        assert site.run().why == "done"
        assert dropped == [True]

    def test_retired_ones_are_refused_by_name(self, site):
        site.documents(1)
        site.version()
        site.execute("SELECT pgvmig.retire('documents', 'v2', soak => '0')")
        assert site.run().versions == {}
        with pytest.raises(ConflictError, match="documents v2 is retired"):
            site.run("documents", "v2")
        with pytest.raises(NotFoundError, match="no version v7"):
            site.run("documents", "v7")

    def test_ready_ones_stay_ready_and_active_ones_active(self, site):
        site.documents(10)
        v2 = site.version()
        site.run()
        prove(site.connection, v2)
        site.execute("SELECT pgvmig.cut_over('documents', 'v2', skip => '{index}', reason => 'a test')")
        site.execute("UPDATE documents SET body = 'changed'")
        site.run()
        assert site.state(v2) == "active"
        assert site.problems(v2) == []


class TestEnd:
    def test_at_the_time_limit_while_the_provider_is_slow(self, site):
        site.documents(100)
        site.version()
        site.server.latency = 30
        began = time.monotonic()
        assert site.run(max_time=1.0).why == "time"
        assert time.monotonic() - began < 10
        assert site.value("SELECT count(*) FROM pgvmig.lease WHERE until > clock_timestamp()") == 0

    def test_when_asked_to_stop_while_the_provider_fails(self, site):
        site.documents(100)
        v2 = site.version()
        site.server.faults.append(Fault(kind="status", status=503, times=None))
        stop = threading.Event()
        with Background(lambda: site.run(stop=stop)) as run:
            wait_until(lambda: site.server.requests)
            stop.set()
            assert run.join().why == "signal"
        assert site.value("SELECT count(*) FROM pgvmig.lease WHERE until > clock_timestamp()") == 0
        site.server.faults.clear()
        assert site.run().why == "done"
        assert site.problems(v2) == []

    def test_when_the_provider_stays_away(self, site, tmp_path, monkeypatch):
        monkeypatch.setenv("PGVMIG_CONFIG", str(tmp_path / "pgvmig.toml"))
        (tmp_path / "pgvmig.toml").write_text("[providers.new]\nmax_retry_time = 0.2\n")
        site.documents(100)
        v2 = site.version()
        site.server.faults.append(Fault(kind="status", status=503, times=None))
        with pytest.raises(ProviderUnavailableError):
            site.run()
        assert site.value("SELECT ended_why FROM pgvmig.backfill_run").startswith("provider 'new' at")
        assert site.value("SELECT count(*) FROM pgvmig.outcome") == 0
        site.server.faults.clear()
        assert site.run().why == "done"
        assert site.problems(v2) == []

    def test_on_a_read_only_server(self, site):
        site.documents(1)
        site.version()
        role = f"ALTER ROLE CURRENT_USER IN DATABASE {site.database.name}"
        site.execute(f"{role} SET default_transaction_read_only = on")
        try:
            with pytest.raises(DatabaseError, match="read-only"):
                site.run()
        finally:
            site.execute(f"{role} RESET default_transaction_read_only")

    def test_without_writing_while_standbys_are_unknown(self, site):
        site.documents(10)
        site.version()
        standbys.add(site.connection, "gone")
        with pytest.raises(SignalError):
            site.run(limits=IMPATIENT)
        assert site.embedded() == 0
        assert site.execute("SELECT rows_written, waited > interval '0' FROM pgvmig.backfill_run").fetchone() == (
            0,
            True,
        )
        assert site.value("SELECT count(*) FROM pgvmig.lease WHERE until > clock_timestamp()") == 0

    def test_at_once_while_no_standbys_are_declared(self, site):
        site.documents(10)
        site.version()
        site.execute("UPDATE pgvmig.installation SET no_standbys = false")
        with pytest.raises(SignalError, match="no standby is declared and none was declared absent"):
            site.run()
        assert site.embedded() == 0

    def test_on_a_standby(self, replicated_database):
        from pgvmig.backfill import worker

        install(replicated_database.connect())
        replicated_database.wait_for_replay()
        with pytest.raises(DatabaseError, match="a standby"):
            worker.run(Options(dsn=replicated_database.standby_dsn))


@pytest.mark.layouts
class TestFollowing:
    def test_new_rows_within_a_second(self, site):
        site.documents(10)
        v2 = site.version()
        stop = threading.Event()
        with Background(lambda: site.run(follow=True, stop=stop)) as run:
            wait_until(lambda: site.state(v2) == "ready")
            embedded = "SELECT EXISTS (SELECT FROM documents_v2 WHERE body = %s)"
            seconds = []
            for text in ("one", "two", "three", "four", "five"):
                began = time.monotonic()
                site.execute("INSERT INTO documents (body) VALUES (%s)", text)
                wait_until(lambda text=text: site.value(embedded, text))
                seconds.append(time.monotonic() - began)
            assert sorted(seconds)[2] < 1.0
            assert site.value("SELECT until > clock_timestamp() FROM pgvmig.follower")
            stop.set()
            assert run.join().why == "signal"
        assert site.problems(v2) == []

    def test_a_version_that_is_added_meanwhile(self, site, monkeypatch):
        monkeypatch.setattr(worker, "_REFRESH", 0.2)
        site.documents(10)
        site.version("v1")
        stop = threading.Event()
        with Background(lambda: site.run(follow=True, stop=stop)) as run:
            wait_until(lambda: site.embedded("v1") == 10)
            v2 = site.version("v2", provider="other", model="other")
            wait_until(lambda: site.state(v2) == "ready")
            stop.set()
            run.join()
        assert site.problems(v2) == []

    def test_a_provider_that_comes_back(self, site, tmp_path, monkeypatch):
        monkeypatch.setenv("PGVMIG_CONFIG", str(tmp_path / "pgvmig.toml"))
        (tmp_path / "pgvmig.toml").write_text("[providers.new]\nmax_retry_time = 0.1\n")
        site.documents(10)
        v2 = site.version()
        site.server.faults.append(Fault(kind="status", status=503, times=None))
        stop = threading.Event()
        with Background(lambda: site.run(follow=True, stop=stop)) as run:
            wait_until(lambda: len(site.server.requests) > 2)
            site.server.faults.clear()
            wait_until(lambda: site.state(v2) == "ready")
            stop.set()
            run.join()
        assert site.problems(v2) == []

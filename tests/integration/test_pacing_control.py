"""What an operator can do to workers while they run: pause, resume, throttle; and what they note about their pace."""

import json
import re
import threading
import time
from datetime import timedelta

import pytest
from backfilling import Background, wait_until
from lifecycle import add_version

from pgvmig.backfill import gates
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.pacer import Unpaced

WRITTEN = "SELECT count(embedding_v2) FROM documents"
STATE = "SELECT state FROM pgvmig.pacing_log ORDER BY entry DESC LIMIT 1"


@pytest.fixture
def slow(site):
    """Ten thousand rows, of which a worker writes a hundred a second."""
    site.documents(10_000)
    site.version()
    site.server.latency = 0.1
    return {"batch_size": 10}


class Running(Background):
    """A worker that is told to stop at the end of the block."""

    def __init__(self, site, **options):
        self.stop = threading.Event()
        super().__init__(lambda: site.run(stop=self.stop, **options))

    def __exit__(self, *error):
        self.stop.set()
        super().__exit__(*error)


def stands_still(site, seconds=1.5):
    """Wait until a pause can have reached the worker; return whether nothing is written from then on."""
    time.sleep(1.0)
    before = site.value(WRITTEN)
    time.sleep(seconds)
    return site.value(WRITTEN) == before


class TestPause:
    def test_a_running_worker_writes_nothing_until_it_is_resumed(self, site, slow, pgvmig):
        with Running(site, **slow) as run:
            wait_until(lambda: site.value(WRITTEN) > 50)
            assert "documents is paused" in pgvmig("pause", "documents", "--reason", "black friday")[1]
            assert stands_still(site)
            wait_until(lambda: site.value(STATE) == "paused")
            reason, following = site.execute(
                "SELECT reason, next FROM pgvmig.pacing_log WHERE state = 'paused'"
            ).fetchone()
            assert "black friday" in reason
            assert following == "pgvmig resume documents"
            _, shown, _ = pgvmig("status", "--no-count")
            assert "documents is paused by" in shown
            assert "black friday" in shown
            paused = site.value(WRITTEN)
            assert "documents goes on." in pgvmig("resume", "documents")[1]
            wait_until(lambda: site.value(WRITTEN) > paused + 50)
            wait_until(lambda: site.value(STATE) in ("running", "holding"))
            run.stop.set()
            assert run.join().why == "signal"

    def test_of_everything(self, site, slow, pgvmig):
        with Running(site, **slow):
            wait_until(lambda: site.value(WRITTEN) > 20)
            assert "Everything is paused. Next, to go on: pgvmig resume" in pgvmig("pause")[1]
            assert stands_still(site)
            paused = site.value(WRITTEN)
            pgvmig("resume")
            wait_until(lambda: site.value(WRITTEN) > paused)

    def test_with_a_file(self, site, slow, tmp_path):
        file = tmp_path / "pause"
        with Running(site, limits=Limits(pause_file=str(file)), **slow):
            wait_until(lambda: site.value(WRITTEN) > 20)
            file.touch()
            assert stands_still(site)
            paused = site.value(WRITTEN)
            file.unlink()
            wait_until(lambda: site.value(WRITTEN) > paused)

    def test_that_lasts_ends_a_run_of_crons_with_exit_code_3(self, site, slow, pgvmig, monkeypatch):
        monkeypatch.setattr(gates, "PAUSE_PATIENCE", 0.5)
        pgvmig("pause", "documents")
        code, out, _ = pgvmig("backfill")
        assert code == 3
        assert "Paused, work is left" in out
        assert (site.value(WRITTEN), site.server.requests) == (0, [])  # nothing was paid either
        assert site.value("SELECT ended_why FROM pgvmig.backfill_run") == "paused"
        assert site.value("SELECT count(*) FROM pgvmig.lease WHERE until > clock_timestamp()") == 0

    def test_that_lasts_does_not_end_one_that_follows(self, site, slow, pgvmig, monkeypatch):
        monkeypatch.setattr(gates, "PAUSE_PATIENCE", 0.1)
        pgvmig("pause", "documents")
        with Running(site, follow=True, **slow) as run:
            wait_until(lambda: site.value("SELECT count(*) FROM pgvmig.pacing_log WHERE state = 'paused'"))
            time.sleep(1)
            assert run._thread.is_alive()
            assert site.value(WRITTEN) == 0
            pgvmig("resume", "documents")
            wait_until(lambda: site.value(WRITTEN) > 0)

    @pytest.mark.parametrize("follow", [False, True])
    def test_of_one_table_leaves_the_others_at_work(self, site, pgvmig, follow):
        site.documents(50)
        site.version()
        site.execute("CREATE TABLE articles (id bigint PRIMARY KEY, body text)")
        site.execute("INSERT INTO articles SELECT i, 'article ' || i FROM generate_series(1, 50) AS i")
        add_version(site.connection, "articles", "v1")
        pgvmig("pause", "documents")
        with Running(site, follow=follow) as run:
            wait_until(lambda: site.value("SELECT count(embedding_v1) FROM articles") == 50)
            assert site.value(WRITTEN) == 0
            if follow:
                pgvmig("resume", "documents")
                wait_until(lambda: site.value(WRITTEN) == 50)
                run.stop.set()
            assert run.join().why == ("signal" if follow else "paused")

    def test_said_twice_is_one(self, site, pgvmig):
        site.documents(1)
        site.version()
        first, again = (json.loads(pgvmig("pause", "documents", "--json")[1]) for _ in range(2))
        assert (first["changed"], again["changed"], len(again["pauses"])) == (True, False, 1)
        pgvmig("pause")
        _, out, _ = pgvmig("resume", "documents")
        assert out.startswith("documents goes on but for what follows.\nStill everything paused by ")
        assert out.rstrip().endswith("Next: pgvmig resume")
        assert json.loads(pgvmig("resume", "--json")[1]) == {"changed": True, "pauses": []}
        assert pgvmig("resume")[1] == "Everything was not paused.\n"
        events = site.execute("SELECT verb, relation, slot FROM pgvmig.event WHERE source = 'cli' ORDER BY event_id")
        assert events.fetchall()[-4:] == [
            ("pause", "documents", "embedding"),
            ("pause", None, None),
            ("resume", "documents", "embedding"),
            ("resume", None, None),
        ]


class TestThrottle:
    def test_a_running_worker_takes_it_over(self, site, slow, pgvmig):
        with Running(site, **slow):
            wait_until(lambda: site.value(WRITTEN) > 50)
            # a limit that every database is beyond
            assert pgvmig("throttle", "documents", "--max-database-size", "1MB")[0] == 0
            assert stands_still(site)
            wait_until(lambda: site.value(STATE) in {"stopped", "hibernating"})
            status = json.loads(pgvmig("status", "--json")[1])
            assert [r["kind"] for r in status["signals"] if r["state"] == "stop"] == ["size of the database"]
            assert pgvmig("signals", "documents")[0] == 4

    def test_it_goes_on_when_the_limit_is_taken_back(self, site, slow, pgvmig):
        with Running(site, limits=Limits(critical_ratio=1e6), **slow):
            wait_until(lambda: site.value(WRITTEN) > 20)
            pgvmig("throttle", "documents", "--max-database-size", "1MB")
            wait_until(lambda: site.value(STATE) == "stopped")
            still = site.value(WRITTEN)
            pgvmig("throttle", "documents", "--reset")
            wait_until(lambda: site.value(WRITTEN) > still)
            wait_until(lambda: site.value(STATE) in {"running", "holding"})
        assert site.value("SELECT min(speed) FROM pgvmig.backfill_run") < 1

    def test_shows_what_holds_and_who_changed_it(self, site, pgvmig, monkeypatch):
        monkeypatch.setenv("PGVMIG_PACING_NICE", "2")
        site.documents(1)
        site.version()
        code, out, _ = pgvmig("throttle", "documents", "--max-lag", "800ms", "--max-wal-rate", "off", "--json")
        found = json.loads(out)
        assert (code, found["target"], found["changed_by"] is None) == (0, "documents", False)
        limits = found["limits"]
        assert limits["max_lag"] == {"value": 0.8, "default": 1.5, "from": "throttle"}
        assert limits["max_wal_rate"] == {"value": None, "default": None, "from": "throttle"}
        assert (limits["nice"]["value"], limits["nice"]["from"]) == (2, "PGVMIG_PACING_NICE")
        assert limits["patience"] == {"value": 300, "default": 300, "from": "default"}
        pgvmig("throttle", "documents", "--nice", "3")
        limits = json.loads(pgvmig("throttle", "documents", "--json")[1])["limits"]
        assert (limits["max_lag"]["value"], limits["nice"]["value"], limits["nice"]["from"]) == (0.8, 3, "throttle")
        _, out, _ = pgvmig("throttle", "documents")
        assert "800ms" in out
        assert "pgvmig throttle documents --reset" in out
        limits = json.loads(pgvmig("throttle", "documents", "--reset", "--nice", "4", "--json")[1])["limits"]
        assert (limits["max_lag"]["from"], limits["nice"]["value"]) == ("default", 4)
        details = site.execute("SELECT detail FROM pgvmig.event WHERE verb = 'throttle' ORDER BY event_id").fetchall()
        assert details[0] == ({"reset": False, "settings": {"max_lag": 0.8, "max_wal_rate": None}},)
        assert details[-1] == ({"reset": True, "settings": {"nice": 4}},)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--max-lag", "soon"), "give a time span, such as 800ms, 90s or 1h"),
            (("--resume-ratio", "2"), "give at least 0 and at most 1.0"),
            (("--max-lag", "off"), "max_lag cannot be switched off"),
            (("--custom-sql", "SELECT true"), "No such option"),
            (("--max-horizon-age", "2h"), "stop_horizon_age is less than max_horizon_age"),
        ],
    )
    def test_refuses_what_cannot_be(self, site, pgvmig, arguments, said):
        site.documents(1)
        site.version()
        code, _, err = pgvmig("throttle", "documents", *arguments)
        assert (code, said in err) == (2, True), err
        assert site.value("SELECT count(*) FROM pgvmig.throttle") == 0


class TestPrecedence:
    """Default, pgvmig.toml, environment, command line, throttle: each wins over those before it."""

    def test_each_wins_over_the_one_before(self, site, pgvmig, monkeypatch, tmp_path):
        site.documents(1)
        site.version()
        monkeypatch.chdir(tmp_path)

        def nice():
            assert pgvmig("backfill", *options)[0] == 0
            stored = site.value("SELECT limits FROM pgvmig.backfill_run ORDER BY started_at DESC LIMIT 1")
            return stored.get("nice")

        options = ()
        assert nice() is None
        (tmp_path / "pgvmig.toml").write_text('[pacing]\nnice = 2\nmax_lag = "800ms"\n')
        assert nice() == 2
        monkeypatch.setenv("PGVMIG_PACING_NICE", "3")
        assert nice() == 3
        options = ("--nice", "4")
        assert nice() == 4
        assert site.value("SELECT limits -> 'max_lag' FROM pgvmig.backfill_run ORDER BY started_at DESC LIMIT 1") == 0.8

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[pacing]\nnicee = 1", "pgvmig.toml: nicee: there is no limit 'nicee'"),
            ("[pacing]\nmax_lag = 'soon'", "pgvmig.toml: max_lag: max_lag is 'soon'"),
            ("pacing = 1", "pgvmig.toml: pacing is no table"),
        ],
    )
    def test_what_is_misspelt_is_refused_with_its_place(self, pgvmig, monkeypatch, tmp_path, text, said):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pgvmig.toml").write_text(text)
        code, _, err = pgvmig("backfill")
        assert (code, said in err) == (2, True), err


class TestNotes:
    def test_samples_and_states(self, site, monkeypatch):
        monkeypatch.setattr("pgvmig.backfill.diary._SAMPLE_SECONDS", 0.2)
        monkeypatch.setattr("pgvmig.backfill.diary._TELL_SECONDS", 0.1)
        site.documents(2000)
        site.version()
        site.server.latency = 0.1
        site.run(batch_size=50)
        rows = site.execute(
            "SELECT rows_written, batch_size, state, lag_bytes, wal_rate FROM pgvmig.backfill_sample ORDER BY at"
        ).fetchall()
        assert len(rows) > 3
        written = [row[0] for row in rows]
        assert written == sorted(written)
        assert written[-1] > 0
        assert all(1 <= row[1] <= 50 and row[2] in ("running", "holding") for row in rows)
        assert any(row[4] is not None and row[4] > 0 for row in rows)
        assert site.execute("SELECT state FROM pgvmig.pacing_log ORDER BY entry LIMIT 1").fetchone() == ("running",)
        assert site.value("SELECT batch_size FROM pgvmig.backfill_run") >= 1

    def test_are_bounded(self, site, monkeypatch):
        monkeypatch.setattr("pgvmig.backfill.diary._SAMPLES", 20)
        monkeypatch.setattr("pgvmig.backfill.diary._TRIM_EVERY", 5)
        monkeypatch.setattr("pgvmig.backfill.diary._SAMPLE_SECONDS", 0)
        monkeypatch.setattr("pgvmig.backfill.diary._TELL_SECONDS", 0)
        site.documents(400)
        site.version()
        site.run(batch_size=4)
        assert 10 <= site.value("SELECT count(*) FROM pgvmig.backfill_sample") <= 26

    def test_are_bounded_where_cron_starts_runs_that_are_soon_over(self, site, monkeypatch):
        monkeypatch.setattr("pgvmig.backfill.diary._SAMPLES", 4)
        site.documents()
        site.version()
        for _ in range(12):
            site.insert(1)
            site.run()
        assert site.value("SELECT count(*) FROM pgvmig.backfill_run") == 12
        assert 2 <= site.value("SELECT count(*) FROM pgvmig.backfill_sample") <= 6

    def test_nothing_is_noted_of_a_batch(self, site):
        """A batch is one transaction; notes are a few a second, however many batches there are."""
        site.documents(1000)
        site.version()
        result = site.run(batch_size=5)
        assert result.versions["documents v2"].batches > 150
        notes = site.value("SELECT count(*) FROM pgvmig.backfill_sample") + site.value(
            "SELECT count(*) FROM pgvmig.pacing_log"
        )
        assert notes < 40

    def test_an_unpaced_run_is_possible_in_the_library(self, site):
        site.documents(100)
        site.version()
        site.execute("UPDATE pgvmig.installation SET no_standbys = false")
        assert site.run(pacer=lambda _: Unpaced(batch_size=20)).why == "done"
        assert site.value(WRITTEN) == 100


class TestStatus:
    def test_of_a_worker_that_was_killed(self, site, slow, pgvmig):
        with Running(site, **slow):
            wait_until(lambda: site.value(WRITTEN) > 0)
            found = json.loads(pgvmig("status", "--json")[1])["versions"][0]["workers"][0]
            assert (found["state"], found["silent"]) == ("running", False)
        site.execute("UPDATE pgvmig.backfill_run SET ended_at = NULL, seen_at = clock_timestamp() - interval '40 s'")
        site.execute(
            "INSERT INTO pgvmig.lease (version_id, run_id, first_block, last_block, until) "
            "SELECT version_id, run_id, 0, 1, clock_timestamp() - interval '5 s' FROM pgvmig.backfill_run"
        )
        _, out, _ = pgvmig("status")
        assert re.search(r"not heard of for [4-9]\d s", out)
        assert "killed, or cut off from the database" in out
        assert "documents v2: 1 lease has run out: the next worker takes them over" in out

    def test_of_what_is_left(self, site, slow, pgvmig, monkeypatch):
        monkeypatch.setattr("pgvmig.backfill.diary._SAMPLE_SECONDS", 0.5)
        site.execute("ANALYZE documents")
        with Running(site, **slow):
            wait_until(lambda: site.value(WRITTEN) > 200)
            wait_until(lambda: json.loads(pgvmig("status", "--json")[1])["versions"][0]["progress"]["eta_seconds"])
            found = json.loads(pgvmig("status", "--json")[1])["versions"][0]
            assert found["progress"]["rows_estimate"] == pytest.approx(10_000, rel=0.3)
            assert 0 < found["progress"]["rows_left_estimate"] < 13_000
            assert found["workers"][0]["rows_per_second"] > 0
            assert "rows left to walk over, about" in pgvmig("status")[1]

    def test_of_updates_that_are_not_hot_names_who_holds_the_horizon(self, site, slow, pgvmig):
        analyst = site.database.connect(application_name="a long report")
        analyst.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        analyst.execute("SELECT count(*) FROM documents")
        site.execute("CREATE TABLE other (n int)")  # takes a transaction id, which the analyst's snapshot holds back
        with Running(site, **slow) as run:
            wait_until(lambda: site.value("SELECT coalesce(sum(rows_updated), 0) FROM pgvmig.backfill_run") > 50)
            found = json.loads(pgvmig("status", "--json")[1])["versions"][0]["workers"][0]
            assert 0 <= found["rows_hot"] <= found["rows_updated"]
            run.stop.set()
            run.join()
        site.execute("UPDATE pgvmig.backfill_run SET ended_at = NULL, rows_updated = 1000, rows_hot = 900")
        assert "90%" in pgvmig("status")[1]
        assert "a long report" not in pgvmig("status")[1]
        site.execute("UPDATE pgvmig.backfill_run SET rows_hot = 400")
        _, out, _ = pgvmig("status")
        assert "40%" in out
        (line,) = [line for line in out.splitlines() if "a long report" in line]
        assert line.startswith(f"documents v2: session {analyst.info.backend_pid} (")
        assert "has held back the xmin horizon for" in line
        assert line.endswith("Next: let it end")


def test_signals_are_waited_for(site, pgvmig):
    site.documents(1)
    site.version()
    code, out, _ = pgvmig("signals", "documents", "--json")
    found = json.loads(out)
    assert (code, found["state"], found["may_write"]) == (0, "ok", True)
    assert {"replication lag", "xmin horizon", "throttle"} <= {reading["kind"] for reading in found["readings"]}
    assert pgvmig("signals", "documents", "--wait", "5s")[0] == 0
    pgvmig("pause", "documents")
    began = time.monotonic()
    code, _, err = pgvmig("signals", "documents", "--wait", "1s")
    assert code == 4
    assert time.monotonic() - began >= 1
    assert "documents was paused by" in err
    assert "Next:  pgvmig resume documents" in err


def test_a_provider_that_is_down_is_spoken_of(site):
    site.documents(10)
    site.version()
    from pgvmig.demo.faults import Fault

    fault = Fault(kind="status", status=503, times=3)
    site.server.faults.append(fault)
    seen = []
    assert site.run(report=seen.append, limits=Limits(interval=timedelta(milliseconds=100))).why == "done"
    trouble = [progress.trouble for progress in seen if progress.trouble]
    assert trouble
    assert "answered 503" in trouble[0]
    assert re.search(r"\(attempt [123], for \d+ s\)", trouble[0])
    assert seen[-1].trouble is None

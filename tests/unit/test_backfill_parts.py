"""The worker's small parts that need no database."""

import os
import signal
import threading

import psycopg
import pytest
from psycopg import errors as pg

from pgvmig.backfill import faults, transactions
from pgvmig.backfill.batches import Written
from pgvmig.backfill.in_flight import InFlight
from pgvmig.backfill.options import Options
from pgvmig.backfill.runs import Counters
from pgvmig.backfill.worker import _Ending
from pgvmig.catalog.keys import Keys, identifier
from pgvmig.embedders.pool import Pool
from pgvmig.errors import UsageError


class TestFaults:
    @pytest.fixture
    def killed(self, monkeypatch):
        sent = []
        monkeypatch.setattr(os, "kill", lambda *given: sent.append(given))
        monkeypatch.setattr(faults, "_reached", faults.Counter())
        return sent

    def test_without_the_variable_nothing_happens(self, killed, monkeypatch):
        monkeypatch.delenv(faults.VARIABLE, raising=False)
        for point in faults.POINTS:
            faults.reach(point)
        assert killed == []

    def test_the_named_point_kills_at_the_nth_time(self, killed, monkeypatch):
        monkeypatch.setenv(faults.VARIABLE, "before-commit:2")
        for point in ("after-claim", "before-commit", "after-commit"):
            faults.reach(point)
        assert killed == []
        faults.reach("before-commit")
        assert killed == [(os.getpid(), signal.SIGKILL)]


class TestInFlight:
    def test_results_and_errors_come_with_what_they_are_of(self):
        requests = InFlight()
        requests.send("good", lambda: 1)
        requests.send("bad", lambda: 1 / 0)
        assert len(requests) == 2
        by_name = {f.of: f for f in (requests.collect(10), requests.collect(10))}
        assert (by_name["good"].result, by_name["good"].error) == (1, None)
        assert isinstance(by_name["bad"].error, ZeroDivisionError)
        assert len(requests) == 0

    def test_nothing_is_waited_for_longer_than_asked(self):
        requests = InFlight()
        over = threading.Event()
        requests.send("slow", lambda: over.wait(30))
        assert requests.collect(0) is None
        assert requests.collect(0.01) is None
        over.set()
        assert requests.collect(10).result is True


class TestPool:
    def test_calls_wait_for_room_and_none_is_lost(self):
        pool = Pool(2)
        together = threading.Barrier(2)
        futures = [pool.submit(lambda number=number: (together.wait(10), number)[1]) for number in range(6)]
        assert [future.result(10) for future in futures] == list(range(6))
        pool.close()

    def test_what_waits_is_cancelled_and_what_runs_ends(self):
        pool = Pool(1)
        begun, over = threading.Event(), threading.Event()
        running = pool.submit(lambda: (begun.set(), over.wait(10)))
        waiting = pool.submit(lambda: None)
        begun.wait(10)
        threading.Timer(0.05, over.set).start()
        pool.close()
        assert running.done()
        assert waiting.cancelled()

    def test_its_threads_do_not_keep_the_process(self):
        pool = Pool(1)
        is_daemon = pool.submit(lambda: threading.current_thread().daemon)
        assert is_daemon.result(10)
        pool.close()

    def test_errors_are_raised_where_the_result_is_asked_for(self):
        pool = Pool(1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result(10)
        pool.close()


class TestPatience:
    @pytest.fixture(autouse=True)
    def _no_sleep(self, monkeypatch):
        monkeypatch.setattr(transactions.time, "sleep", lambda _: None)

    @staticmethod
    def failing(error, times):
        left = [error] * times
        return lambda: (_ for _ in ()).throw(left.pop()) if left else "done"

    @pytest.mark.parametrize("error", [pg.DeadlockDetected, pg.LockNotAvailable, pg.SerializationFailure])
    def test_what_passes_by_itself_is_tried_again(self, error):
        assert transactions.patiently(self.failing(error(), 3), lambda: False) == "done"

    def test_not_for_ever(self):
        with pytest.raises(pg.LockNotAvailable):
            transactions.patiently(self.failing(pg.LockNotAvailable(), 1000), lambda: False)

    def test_not_when_the_run_should_end(self):
        with pytest.raises(pg.LockNotAvailable):
            transactions.patiently(self.failing(pg.LockNotAvailable(), 1), lambda: True)

    def test_nothing_else_is_tried_again(self):
        with pytest.raises(psycopg.OperationalError):
            transactions.patiently(self.failing(psycopg.OperationalError(), 1), lambda: False)


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"batch_size": 0}, "batch size is 0. Next: give a number from 1 to 10,000"),
            ({"batch_size": 10_001}, "batch size is 10,001. Next: give a number from 1 to 10,000"),
            ({"lease": 0.5}, "a lease of 0.5 s is over before a batch is. Next: give 1 s or more"),
            ({"max_time": 0}, "max time is 0 s. Next: give a number above 0, or leave it out"),
        ],
    )
    def test_limits(self, given, message):
        with pytest.raises(UsageError) as error:
            Options(dsn="", **given)
        assert str(error.value) == message

    def test_a_run_ends_for_its_time_or_for_a_signal(self):
        assert _Ending(Options(dsn="")).why() is None
        assert _Ending(Options(dsn="", max_time=1e-9)).why() == "time"
        stopped = Options(dsn="", max_time=1e-9)
        stopped.stop.set()
        assert _Ending(stopped).why() == "signal"


def test_counters_add_up():
    counters = Counters()
    counters.add(Written(vectors=3, empty=1, changed=2))
    counters.add(Written(failed=1))
    assert (counters.batches, counters.written, counters.empty, counters.failed, counters.outrun) == (2, 3, 1, 1, 2)


def test_keys_travel_as_text_and_are_cast_to_the_rows_own_types():
    operators = ["OPERATOR(pg_catalog.=)", "OPERATOR(own.%=)"]
    keys = Keys(["tenant", "a%b"], ["bigint", "character varying(10)"], operators, ["key_tenant", "key_a%b"])
    assert keys.values([("1", "x"), ("2", 'y"\\')]) == {"key_1": '{"1","2"}', "key_2": '{"x","y\\"\\\\"}'}
    parts = {name: part.as_string(None) for name, part in keys.parts().items()}
    assert parts["row_is_given"] == (
        '"d"."tenant" OPERATOR(pg_catalog.=) "u"."key_1"::bigint AND '
        '"d"."a%%b" OPERATOR(own.%%=) "u"."key_2"::character varying(10)'
    )
    assert parts["given"] == "%(key_1)s::text[], %(key_2)s::text[]"
    assert keys.same("o", "c").as_string(None) == (
        '"o"."key_tenant" OPERATOR(pg_catalog.=) "c"."key_tenant" AND "o"."key_a%%b" OPERATOR(own.%%=) "c"."key_a%%b"'
    )


def test_a_name_with_a_percent_sign_is_no_placeholder():
    assert identifier("50%", "x").as_string(None) == '"50%%"."x"'

"""Rollback triggers on a real server: judged, reported, and acted on only when told so."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from backfilling import Background, wait_until
from lifecycle import add_version, embed, find
from vectors import cut_over, roll_back

from pgvmig.address import address
from pgvmig.errors import DatabaseError, NotFoundError
from pgvmig.watch import looking, triggers
from pgvmig.watch.judging import Trigger
from pgvmig.watch.loop import Options, watch


@pytest.fixture
def connection(site):
    """v2 active, v1 the way back, v3 beside them; on an empty table no gate holds anybody up."""
    conn = site.connection
    conn.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    found = [add_version(conn, "documents", name, {"model": name}) for name in ("v1", "v2", "v3")]
    for version in found[:2]:
        cut_over(conn, version)
    return conn


@pytest.fixture
def version(connection):
    return lambda name: find(connection, address("documents", name))


@pytest.fixture
def declare(connection, version):
    """Declare a trigger on errors, and record values of them for a version."""

    def declared(**given):
        trigger = Trigger(**{"metric": "errors", "comparison": "above", "bound": 0.05, "min_values": 10} | given)
        triggers.declare(connection, version("v2"), trigger)

    return declared


@pytest.fixture
def record(connection):
    def recorded(version, value, number=10, before="0 s"):
        connection.execute(
            "INSERT INTO pgvmig.production_metric (version_id, metric, at, value) "
            "SELECT version_id, 'errors', clock_timestamp() - %s::interval, %s FROM pgvmig.version, "
            "generate_series(1, %s) WHERE version = %s",
            (before, value, number, version),
        )

    return recorded


@pytest.fixture
def watching(site):
    """Watch in this process; `.looks` are those that it has reported."""

    class Watching:
        def __init__(self):
            self.looks = []
            self.stop = threading.Event()

        def __call__(self, **options):
            given = {"interval": 0.02, "max_time": 30.0, "report": self.looks.append, "stop": self.stop} | options
            return watch(Options(dsn=site.database.dsn, target="documents", **given))

    return Watching()


def active(connection):
    return connection.execute("SELECT pgvmig.route('documents', NULL)").fetchone()[0]


def backends(connection):
    return [
        pid
        for (pid,) in connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgvmig watch' AND datname = current_database()"
        )
    ]


def test_too_few_values_and_good_ones_trip_nothing(watching, declare, record):
    declare()
    record("v2", 1.0, number=9)
    assert watching(once=True, roll_back=True) is False
    record("v2", 0.0, number=1000)
    assert watching(once=True, roll_back=True) is False
    assert [look.judgements[0].text for look in watching.looks] == [
        "errors: too few values, v2 has 9 of 10",
        "errors 0.00892 over 5 min (1,009 values), not above 0.05",
    ]


def test_it_only_reports_until_it_is_told_to_go_back_and_then_says_why(connection, watching, declare, record):
    declare()
    record("v2", 0.5)
    assert watching() is True
    (look,) = watching.looks
    assert (look.next_step(), look.action, active(connection)) == ("pgvmig rollback documents", None, "v2")

    assert watching(roll_back=True) is True
    (_, look) = watching.looks
    assert (look.action.changed, look.action.done["version"], active(connection)) == (True, "v1", "v1")
    reason = "trigger errors above 0.05: errors 0.5 over 5 min (10 values), above 0.05"
    switches = "SELECT source, verb, version, reason FROM pgvmig.event WHERE source = 'watch' AND to_state = 'active'"
    assert connection.execute(switches).fetchall() == [("watch", "roll back", "v1", reason)]
    assert watching(once=True, roll_back=True) is False
    assert active(connection) == "v1"


def test_values_from_before_the_switch_do_not_count(connection, version, watching, declare, record):
    declare()
    record("v2", 0.5)
    roll_back(connection, version("v2"))
    cut_over(connection, version("v2"))
    assert watching(once=True) is False
    assert watching.looks[0].judgements[0].finding == "too few values"


def test_against_the_version_before(watching, declare, record):
    declare(bound=1.5, relative=True)
    record("v1", 0.2, before="1 min")
    record("v1", 99, before="6 min")
    record("v2", 0.29)
    assert watching(once=True) is False
    record("v2", 0.4)
    assert watching(once=True) is True
    (judgement,) = watching.looks[1].judgements
    assert judgement.text == "errors 0.345 over 5 min (20 values), above 0.3 (1.5 times v1's 0.2)"


def test_a_candidate_is_judged_against_the_active_version_and_loses_its_keys(connection, watching, declare, record):
    connection.execute("SELECT pgvmig.set_route('documents', 'v3', 10, add_keys => '{alice}')")
    declare(bound=2, relative=True)
    record("v2", 0.2)
    record("v3", 0.5)
    assert watching(once=True) is True
    assert watching.looks[0].next_step() == "pgvmig route documents --off"
    assert watching(roll_back=True) is True
    assert (watching.looks[-1].action.verb, watching.looks[-1].action.changed) == ("unroute", True)
    assert connection.execute("SELECT pgvmig.route('documents', 'alice')").fetchone() == ("v2",)
    (event,) = connection.execute("SELECT source, version, reason FROM pgvmig.event WHERE source = 'watch'").fetchall()
    assert event[:2] == ("watch", "v3")
    assert event[2].startswith("trigger errors above 2 times before: errors 0.5 over 5 min (10 values)")


def test_a_refused_way_back_is_tried_again(connection, version, watching, declare, record):
    declare()
    record("v2", 0.5)
    connection.execute("INSERT INTO documents VALUES (1, 'a text that v1 has no vector of')")
    with Background(lambda: watching(roll_back=True)) as running:
        wait_until(lambda: len(watching.looks) > 1)
        refusals = {look.action.refused.found for look in watching.looks}
        assert len(refusals) == 1
        assert "documents v1 is not ready: 1 of 1 rows have no vector" in refusals.pop()
        assert active(connection) == "v2"
        embed(connection, version("v1"))
        index = "CREATE INDEX ON documents USING hnsw (embedding_v1 vector_cosine_ops)"
        connection.execute(index)
        connection.execute(EVIDENCE)
    assert running.result is True
    assert active(connection) == "v1"


# What `pgvmig verify` would have found of v1.
EVIDENCE = (
    "INSERT INTO pgvmig.evidence (version_id, gate, passed, found, wanted, fingerprint) "
    "SELECT v.version_id, substr(p.proname, 6), true, 'as a test', '', v.fingerprint FROM pgvmig.version v, pg_proc p "
    r"WHERE v.version = 'v1' AND p.pronamespace = 'pgvmig'::regnamespace AND p.proname LIKE 'gate\_%'"
)


def test_what_can_be_gone_back_from_is(connection, version, watching, declare, record):
    """The active version is the first one and trips as well; the candidate can be left."""
    roll_back(connection, version("v2"))
    connection.execute("SELECT pgvmig.set_route('documents', 'v3', 10)")
    declare()
    record("v1", 0.5)
    record("v3", 0.5)
    assert watching(roll_back=True) is True
    assert (watching.looks[-1].action.verb, watching.looks[-1].action.changed) == ("unroute", True)


def test_without_a_version_before_it_says_so(connection, version, watching, declare, record):
    roll_back(connection, version("v2"))
    declare()
    record("v1", 0.5)
    assert watching(once=True, roll_back=True) is True
    assert watching.looks[0].next_step() == "pgvmig status documents"
    assert "documents v1 is the first version" in watching.looks[0].action.refused.found
    assert active(connection) == "v1"


def test_a_lost_connection_is_made_again(connection, watching, declare, record):
    declare()
    with Background(lambda: watching(roll_back=True)):
        wait_until(lambda: watching.looks)
        connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", (backends(connection),))
        wait_until(lambda: any("connecting again" in (look.trouble or "") for look in watching.looks))
        wait_until(lambda: watching.looks[-1].trouble is None)
        record("v2", 0.5)
    assert active(connection) == "v1"


def test_a_server_lost_while_it_goes_back(connection, watching, declare, record, monkeypatch):
    """The COMMIT has happened and its answer was lost."""
    whole = looking.act

    def lose_the_answer(*arguments):
        whole(*arguments)
        raise DatabaseError("server closed the connection", sqlstate="08006")

    monkeypatch.setattr(looking, "act", lose_the_answer)
    declare()
    record("v2", 0.5)
    assert watching(roll_back=True) is True
    lost, said = watching.looks
    assert "connecting again" in lost.trouble
    assert (said.action.changed, said.action.version, said.active) == (True, "v2", "v1")


def test_somebody_else_switches_meanwhile(connection, version, watching, declare, record):
    declare()
    with Background(lambda: watching(roll_back=True)) as running:
        wait_until(lambda: watching.looks)
        cut_over(connection, version("v3"))
        record("v2", 0.5)
        wait_until(lambda: watching.looks[-1].active == "v3")
        seen = len(watching.looks)
        wait_until(lambda: len(watching.looks) > seen + 2)
        watching.stop.set()
    assert running.result is False
    assert active(connection) == "v3"


def test_somebody_was_faster(connection, version, watching, declare, record, monkeypatch):  # noqa: PLR0917
    whole = looking.act

    def too_late(*arguments):
        roll_back(connection, version("v2"))
        return whole(*arguments)

    monkeypatch.setattr(looking, "act", too_late)
    declare()
    record("v2", 0.5)
    assert watching(roll_back=True) is True
    assert watching.looks[0].action.changed is False
    assert active(connection) == "v1"


def test_how_it_begins_and_ends(watching, declare):
    with pytest.raises(DatabaseError, match="no connection to PostgreSQL"):
        watch(Options(dsn="postgresql://nobody@127.0.0.1:1/none", target="documents"))
    with pytest.raises(NotFoundError) as error:
        watching()
    assert str(error.value) == (
        "documents has no triggers. Nothing that services report would ever be found bad. "
        "Next: pgvmig trigger add documents errors --above 0.05"
    )
    declare()
    assert watching(interval=60, max_time=0.1) is False
    assert len(watching.looks) == 1


def test_old_values_are_pruned(connection, watching, declare, record, monkeypatch):
    monkeypatch.setattr(looking, "_PRUNED_AT_ONCE", 4)
    declare()
    record("v2", 0.0, before="31 days")
    record("v2", 0.0, before="29 days")
    assert watching(once=True, keep=timedelta(days=30)) is False
    assert connection.execute("SELECT count(*) FROM pgvmig.production_metric").fetchone() == (10,)


class TestCommands:
    def test_triggers(self, pgvmig, connection):
        assert pgvmig("trigger", "list", "documents")[1] == (
            "documents has no triggers. Next: pgvmig trigger add documents errors --above 0.05\n"
        )
        code, out, _ = pgvmig("trigger", "add", "documents", "errors", "--above", "0.5")
        assert (code, "errors above 0.5" in out, "Next: pgvmig watch documents" in out) == (0, True, True)
        pgvmig("trigger", "add", "documents", "errors", "--above", "0.05", "--over", "10m", "--min-values", "7")
        code, out, _ = pgvmig("trigger", "add", "documents", "ms", "--above", "1.5", "--relative", "--p95", "--json")
        errors, ms = json.loads(out)["triggers"]
        assert (errors["bound"], errors["over"], errors["min_values"], errors["relative"]) == (0.05, 600, 7, False)
        assert (ms["metric"], ms["statistic"], ms["relative"], ms["comparison"]) == ("ms", "p95", True, "above")
        pgvmig("trigger", "add", "documents", "ms", "--below", "1")
        assert len(json.loads(pgvmig("trigger", "remove", "documents", "ms", "--below", "--json")[1])["triggers"]) == 2
        assert json.loads(pgvmig("trigger", "remove", "documents", "ms", "--json")[1])["triggers"] == [errors]
        code, _, err = pgvmig("trigger", "remove", "documents", "ms")
        assert (code, "documents has no trigger on ms" in err) == (1, True)
        verbs = "SELECT verb, detail ->> 'metric' FROM pgvmig.event WHERE verb LIKE '%% trigger' ORDER BY event_id"
        assert connection.execute(verbs).fetchall()[-2:] == [("remove trigger", "ms")] * 2

        for arguments, said in [
            (["errors"], "a trigger has one bound"),
            (["errors", "--above", "1", "--below", "2"], "a trigger has one bound"),
            (["Errors", "--above", "1"], "'Errors' is not a metric's name"),
            (["errors", "--above", "nan"], "a bound of nan is never met"),
            (["errors", "--above", "-1", "--relative"], "-1 times another figure is no bound"),
            (["errors", "--above", "1", "--min-values", "0"], "at least 0 values are always there"),
            (["errors", "--above", "1", "--over", "0s"], "no value is as new as that"),
        ]:
            code, _, err = pgvmig("trigger", "add", "documents", *arguments)
            assert (code, said in err) == (2, True), arguments

    def test_watch(self, pgvmig, connection, declare, record):
        declare()
        code, out, _ = pgvmig("watch", "documents", "--once")
        assert (code, out[9:]) == (0, "documents: v2 errors: too few values, v2 has 0 of 10\n")
        record("v2", 0.5)
        code, out, _ = pgvmig("watch", "documents", "--once")
        assert code == 4
        assert out[9:] == (
            "documents: TRIPPED v2 errors 0.5 over 5 min (10 values), above 0.05\nNext: pgvmig rollback documents\n"
        )
        code, out, _ = pgvmig("watch", "documents", "--once", "--json")
        look = json.loads(out)
        assert (code, look["active"], look["tripped"], look["action"]) == (4, "v2", True, None)
        assert (
            look["triggers"][0] | {"metric": "errors", "finding": "tripped", "figure": 0.5, "limit": 0.05}
            == (look["triggers"][0])
        )
        assert (look["next"], look["trials"][0]["against"]) == ("pgvmig rollback documents", "v1")
        code, out, _ = pgvmig("watch", "documents", "--roll-back", "--json")
        look, after = map(json.loads, out.splitlines())
        assert (code, look["action"]["verb"], look["action"]["changed"]) == (4, "roll back", True)
        assert after == {"target": "documents", "smoke": []}
        assert active(connection) == "v1"

    def test_watch_says_what_it_did(self, pgvmig, connection, declare, record):
        declare()
        record("v2", 0.5)
        code, out, _ = pgvmig("watch", "documents", "--roll-back")
        assert code == 4
        assert out.splitlines()[1] == "documents: rolled back, v2 -> v1. Next: pgvmig status documents"

    def test_route(self, pgvmig, connection):
        assert pgvmig("route", "documents")[1] == "Route documents: v2 serves every key\n"
        code, out, _ = pgvmig("route", "documents", "--to", "v3", "--percent", "12.5", "--key", "alice", "--key", "bob")
        assert (code, out.splitlines()) == (
            0,
            [
                "Route documents: v3 serves 12.5 % of the keys and alice, bob, v2 the others",
                "  the way back: pgvmig route documents --off",
            ],
        )
        connection.execute(
            "SELECT pgvmig.record_outcome('v2', 'served', 60), pgvmig.record_outcome('v2', 'served', 30), "
            "pgvmig.record_outcome('v3', 'served', 10)"
        )
        route = json.loads(pgvmig("route", "documents", "--json")[1])
        assert {key: route[key] for key in ("active", "candidate", "percent", "keys", "served")} == {
            "active": "v2",
            "candidate": "v3",
            "percent": 12.5,
            "keys": ["alice", "bob"],
            "served": {"v2": 90, "v3": 10},
        }
        assert "  served in the last hour: v2 90.0%, v3 10.0% of 100 searches" in pgvmig("route", "documents")[1]
        done = json.loads(pgvmig("route", "documents", "--to", "v3", "--remove-key", "bob", "--json")[1])
        assert (done["change"]["removed"], done["keys"], done["percent"]) == (["bob"], ["alice"], 12.5)
        code, _, err = pgvmig("route", "documents", "--to", "v3", "--percent", "100")
        assert (code, "Next:  pgvmig cutover documents v3" in err) == (1, True)
        assert pgvmig("route", "documents", "--off")[1].splitlines()[0] == "Route documents: v2 serves every key"
        assert pgvmig("route", "documents", "--off")[1].splitlines()[0] == "Nothing to change."
        sources = connection.execute("SELECT DISTINCT source FROM pgvmig.event WHERE verb = 'route'").fetchall()
        assert sources == [("cli",)]

        for arguments, said in [
            (["--percent", "10"], "a share of which version?"),
            (["--to", "v3"], "what is v3 to serve?"),
            (["--off", "--to", "v3", "--percent", "0"], "--off and a share at once"),
            (["--to", "v3", "--percent", "ten"], "'ten' is not a share"),
            (["--to", "v3", "--percent", "5", "--skip", "coverage"], "no reason is given"),
        ]:
            code, _, err = pgvmig("route", "documents", *arguments)
            assert (code, said in err) == (2, True), arguments

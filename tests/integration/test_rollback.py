"""The way back loses nothing, stops the promotion, and is seen to work: pauses, freshness, smoke queries, tuning."""

import json
import threading

import psycopg
import pytest
from backfilling import wait_until
from lifecycle import find, prove
from migrating import OwnProject

from pgvmig import adding, indexing, routing, smoke, switch
from pgvmig.address import address
from pgvmig.catalog import control
from pgvmig.errors import GateError, NotFoundError, UsageError
from pgvmig.reading import Searcher
from pgvmig.runner import ConnectionRunner

V1, V2 = address("documents", "v1"), address("documents", "v2")
PAUSES = "SELECT slot, version, reason FROM pgvmig.pause"


@pytest.fixture
def run(site):
    return ConnectionRunner(site.connection, "cli")


@pytest.fixture
def switched(site, run):
    """v1 and v2 of two models, complete and indexed; searches went to v1 and now go to v2."""
    site.documents(20)
    site.version("v1")
    site.version("v2", provider="other", model="other")
    site.run("documents")
    for where in (V1, V2):
        indexing.build(run, where)
        prove(site.connection, find(site.connection, where))
        switch.cut_over(run, where)
    return site


@pytest.mark.layouts
def test_what_was_written_after_the_cutover_is_found_in_the_version_before(switched, run):
    switched.insert(5)
    switched.execute("UPDATE documents SET body = 'a changed passage' WHERE id = 3")
    switched.execute("DELETE FROM documents WHERE id = 4")
    switched.run("documents")
    outcome = switch.roll_back(run, V2)
    assert (outcome["version"], outcome["previous"], outcome["paused"]) == ("v1", "v2", "v2")
    assert switched.execute(PAUSES).fetchall() == [("embedding", "v2", "rolled back")]
    with Searcher(switched.database.dsn, "documents") as searcher:
        assert searcher.search("a changed passage").rows[0]["id"] == 3
        text = switched.value("SELECT body FROM documents WHERE id = 23")
        found = searcher.search(text, limit=25)
        assert (found.version, found.rows[0]["distance"]) == ("v1", pytest.approx(0, abs=1e-6))
        assert sorted(row["id"] for row in found.rows) == [*range(1, 4), *range(5, 26)]
    # v2 is left alone from now on, v1 goes on being kept fresh
    switched.insert(2)
    asked = len(switched.texts("other"))
    assert switched.run("documents").why == "paused"
    assert (switched.embedded("v1"), switched.embedded("v2")) == (26, 24)
    assert len(switched.texts("other")) == asked
    # the way forward names the pause, and lifts it when it is gone
    switched.execute("UPDATE pgvmig.stale_row SET queued_at = queued_at - interval '1 h'")
    with pytest.raises(GateError) as blocked:
        switch.cut_over(run, V2)
    assert blocked.value.next_step == "pgvmig resume documents v2, then pgvmig backfill documents v2"
    assert switched.execute(PAUSES).rowcount == 1
    control.resume(switched.connection, control.scope(switched.connection, "documents", "v2"))
    switched.run("documents")
    control.pause(switched.connection, control.scope(switched.connection, "documents", "v2"), "still in doubt")
    prove(switched.connection, find(switched.connection, V2))
    assert switch.cut_over(run, V2)["resumed"] is True
    assert switched.execute(PAUSES).fetchall() == []


def test_a_rollback_ends_the_rollout_and_another_versions_pause_stays(switched, run):
    switched.version("v3", model_version="3")
    switched.run("documents")
    indexing.build(run, address("documents", "v3"))
    prove(switched.connection, find(switched.connection, address("documents", "v3")))
    routing.set_route(run, address("documents", "v3"), 10, add_keys=["alice"])
    control.pause(switched.connection, control.scope(switched.connection, "documents", "v1"))
    switch.roll_back(run, V2)
    assert switched.execute(
        "SELECT DISTINCT pgvmig.route('documents', i::text) FROM generate_series(1, 99) i"
    ).fetchall() == [("v1",)]
    assert switched.value("SELECT pgvmig.route('documents', 'alice')") == "v1"
    assert switched.execute("SELECT version FROM pgvmig.pause ORDER BY 1").fetchall() == [("v1",), ("v2",)]


def test_alembic_goes_the_same_way_and_tells_of_another_type(database, site, run, tmp_path, caplog):
    site.documents(3)
    site.version("v1")
    site.version("v2", provider="other", model="other", vector_type="halfvec")
    site.run("documents")
    project = OwnProject(database.url, tmp_path / "alembic")
    for where in (V1, V2):
        indexing.build(run, where)
        prove(site.connection, find(site.connection, where))
        at = f"op.{{}}('documents', '{where.version}')"
        project.revision(at.format("cut_over_embedding"), at.format("roll_back_embedding"))
    project.upgrade()
    with caplog.at_level("WARNING", "alembic.pgvmig"):
        caplog.clear()
        project.downgrade("-1")
    said = [record.getMessage() for record in caplog.records if record.name == "alembic.pgvmig"]
    assert [text[:88] for text in said if "changes from" in text] == [
        "The vector changes from halfvec to vector: public.documents_current will be made anew, w"
    ], said
    assert site.execute(PAUSES).fetchall() == [("embedding", "v2", "rolled back")]
    project.downgrade("base")  # nothing is active: the only version's backfill is nobody's promotion
    assert site.execute("SELECT version FROM pgvmig.pause").fetchall() == [("v2",)]
    project.upgrade()
    assert site.execute(PAUSES).fetchall() == []


def test_pauses_of_versions_on_the_command_line(switched, pgvmig):
    assert "documents v2 is paused. Next, to go on: pgvmig resume documents v2" in pgvmig("pause", "documents", "v2")[1]
    pgvmig("pause", "documents", "--reason", "a sale")
    assert (
        "documents v2 goes on but for what follows.\nStill documents paused by "
        in pgvmig("resume", "documents", "v2")[1]
    )
    assert [pause["version"] for pause in json.loads(pgvmig("pause", "documents", "v1", "--json")[1])["pauses"]] == [
        None,
        "v1",
    ]
    assert "documents goes on but for what follows.\nStill documents v1 paused by" in pgvmig("resume", "documents")[1]
    code, out, _ = pgvmig("signals", "documents")
    assert (code, "paused is only documents v1" in out) == (0, True)
    assert pgvmig("pause", "documents", "v9")[0] == 1


# Smoke queries


def test_smoke_queries_run_through_the_current_view_with_the_active_model(switched, run, pgvmig):
    body = switched.value("SELECT body FROM documents WHERE id = 7")
    assert pgvmig("smoke", "add", "documents", body, "--expect", "7")[0] == 0
    added = pgvmig("smoke", "add", "documents", "anything at all", "--json")[1]
    assert [query["expect_key"] for query in json.loads(added)["queries"]] == ["7", None]
    code, out, _ = pgvmig("rollback", "documents", "--json")
    said = json.loads(out)["smoke"]
    assert (code, [query["version"] for query in said], [query["as_expected"] for query in said]) == (
        0,
        ["v1", "v1"],
        [True, True],
    )
    assert said[0]["found"][0] == "7"
    assert all(query["milliseconds"] > 0 for query in said)
    assert body in switched.texts("new")
    # what only the current view does wrong is seen
    text = switched.value("SELECT pg_get_viewdef('documents_current'::regclass)")
    broken = text.rstrip(";") + " AND d.id <> 7"
    switched.execute(f"CREATE OR REPLACE VIEW documents_current WITH (security_invoker = true) AS {broken}")
    code, out, _ = pgvmig("smoke", "run", "documents")
    assert (code, "BAD" in out) == (4, True), out
    switched.execute(f"CREATE OR REPLACE VIEW documents_current WITH (security_invoker = true) AS {text}")
    assert pgvmig("smoke", "run", "documents")[0] == 0
    pgvmig("smoke", "remove", "documents", body)
    assert [query.text for query in smoke.queries(switched.connection, "documents")] == ["anything at all"]
    assert pgvmig("smoke", "remove", "documents", body)[0] == 1
    verbs = "SELECT detail ->> 'action' FROM pgvmig.event WHERE verb = 'smoke' ORDER BY event_id"
    assert [row[0] for row in switched.execute(verbs)] == ["add", "add", "remove"]


def test_a_provider_that_is_down_does_not_undo_a_rollback(switched, pgvmig, monkeypatch):
    smoke.add(switched.connection, "documents", "first")
    smoke.add(switched.connection, "documents", "second", "1")
    switched.insert(2)
    monkeypatch.setenv("PGVMIG_NEW_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setattr(smoke, "_PATIENCE", 0.1)
    code, out, _ = pgvmig("rollback", "documents")
    assert code == 0
    assert "documents: v2 -> v1" in out
    assert "not embedded yet at the switch: 2. Next: pgvmig backfill documents v1" in out
    assert "The backfill of v2 is paused: its rows fall behind." in out
    assert (
        "forward again: pgvmig resume documents v2, pgvmig backfill documents v2, then pgvmig cutover documents v2"
        in out
    )
    assert out.count("BAD") == 2
    assert pgvmig("smoke", "run", "documents")[0] == 4


def test_smoke_queries_without_a_version_or_a_text(site):
    site.documents(1)
    site.version("v1")
    with pytest.raises(UsageError):
        smoke.add(site.connection, "documents", "  ")
    assert smoke.run(site.connection, "documents") == []
    smoke.add(site.connection, "documents", "x")
    with pytest.raises(NotFoundError, match="documents has no active version to search"):
        smoke.run(site.connection, "documents")


# How it is searched


def test_search_settings_are_validated_kept_and_switched_with_the_version(switched, run, pgvmig):
    listener = switched.database.connect()
    listener.execute("LISTEN pgvmig_switch")
    assert pgvmig("tune", "documents", "v1", "--ef-search", "200", "--set", '{"reranker": "bge"}')[0] == 0
    assert json.loads(pgvmig("tune", "documents", "v2", "--ef-search", "77", "--json")[1]) == {
        "changed": True,
        "search": {"ef_search": 77},
    }
    assert json.loads(pgvmig("tune", "documents", "v2", "--ef-search", "77", "--json")[1])["changed"] is False
    assert json.loads(pgvmig("tune", "documents", "v1", "--iterative-scan", "off", "--json")[1])["search"] == {
        "ef_search": 200,
        "iterative_scan": "off",
        "reranker": "bge",
    }
    assert [note.payload for note in listener.notifies(timeout=5, stop_after=1)] == ["documents v2"]
    active = "SELECT search FROM pgvmig.active_space('documents')"
    assert switched.value(active) == {"ef_search": 77}
    switch.roll_back(run, V2)
    assert switched.value(active)["ef_search"] == 200
    assert pgvmig("tune", "documents", "v1", "--reset", "--json")[0] == 0
    assert switched.value(active) == {}
    events = "SELECT version, detail -> 'after' FROM pgvmig.event WHERE verb = 'tune' ORDER BY event_id DESC LIMIT 1"
    assert switched.execute(events).fetchone() == ("v1", {})


@pytest.mark.parametrize(
    ("search", "wrong"),
    [
        ({"ef_search": 0}, "ef_search 0"),
        ({"ef_search": "many", "probes": 1.5}, 'ef_search "many", probes 1.5'),
        ({"iterative_scan": "yes"}, 'iterative_scan "yes"'),
        ({"efsearch": 1}, "efsearch 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(site, run, search, wrong):
    site.documents(1)
    with pytest.raises(UsageError) as refused:
        adding.add(run, V1, {**site.version("v9").definition}, search=search)
    assert refused.value.found == f"search settings that cannot be: {wrong}"


def test_an_operation_adds_and_changes_them(database, site, tmp_path):
    site.documents(1)
    project = OwnProject(database.url, tmp_path / "alembic")
    project.revision("op.add_embedding('documents', 'v1', CONTRACT, search={'ef_search': 100})", "pass")
    project.revision(
        "op.set_embedding_search('documents', 'v1', '{\"probes\": 3}')",
        "op.set_embedding_search('documents', 'v1', {'ef_search': 100})",
    )
    search = "SELECT search FROM pgvmig.version"
    project.upgrade("r1")
    assert site.value(search) == {"ef_search": 100}
    project.upgrade()
    assert site.value(search) == {"probes": 3}
    project.downgrade("-1")
    assert site.value(search) == {"ef_search": 100}
    assert site.value("SELECT revision FROM pgvmig.event WHERE verb = 'tune' ORDER BY event_id DESC") == "r2"


# Who switches at once, and who is killed


def test_a_cutover_and_a_rollback_at_once_are_one_after_the_other(switched):
    """Both wait for the slot until both have begun; whichever is second finds what the first has done."""
    outcomes = {}

    def go(verb):
        with switched.database.connect() as own:
            outcomes[verb] = getattr(switch, verb)(ConnectionRunner(own), V2 if verb == "roll_back" else V1)

    threads = [threading.Thread(target=go, args=[verb]) for verb in ("roll_back", "cut_over")]
    with switched.database.connect() as other, other.transaction():
        other.execute("SELECT FROM pgvmig.slot FOR UPDATE")
        for thread in threads:
            thread.start()
        wait_until(lambda: switched.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 2)
    for thread in threads:
        thread.join()
    assert sorted(outcome["changed"] for outcome in outcomes.values()) == [False, True]
    assert switched.execute("SELECT version, state FROM pgvmig.version ORDER BY 1").fetchall() == [
        ("v1", "active"),
        ("v2", "retained"),
    ]
    assert switched.value("SELECT DISTINCT embedding_space FROM documents_current") == "v1"
    # v2's backfill is paused by the one verb alone
    assert switched.execute(PAUSES).rowcount == int(outcomes["roll_back"]["changed"])


def test_a_client_that_is_killed_or_finds_no_lock_has_changed_nothing(switched, run):
    def facts():
        return [
            switched.execute(statement).fetchall()
            for statement in (
                "SELECT version, state, activated_from, state_changed_at FROM pgvmig.version ORDER BY 1",
                "SELECT version_id, percent FROM pgvmig.route",
                "SELECT pgvmig.view_identity('documents_current'), pg_get_viewdef('documents_current'::regclass)",
                "SELECT count(*) FROM pgvmig.event",
                PAUSES,
            )
        ]

    before = facts()
    victim = switched.database.connect(autocommit=False)
    victim.execute("SELECT pgvmig.roll_back('documents')")  # done but for the commit
    switched.execute("SELECT pg_terminate_backend(%s, 5000)", victim.info.backend_pid)
    assert facts() == before
    patience = switched.value("SELECT pg_get_functiondef('pgvmig.execute_patiently'::regproc)")
    switched.execute(patience.replace("DEFAULT 50", "DEFAULT 2").replace("'00:00:00.1'", "'00:00:00.02'"))
    reader = switched.database.connect(autocommit=False)
    reader.execute("SELECT FROM documents_current")
    with pytest.raises(psycopg.errors.LockNotAvailable, match="no lock in 2 attempts"):
        switched.execute("SELECT pgvmig.roll_back('documents')")
    reader.rollback()
    assert facts() == before
    assert switch.roll_back(run, V2)["changed"]

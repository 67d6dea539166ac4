"""Before a switch: standbys that are behind, and long transactions that a swap would meet, there and here."""

import json
import time
from datetime import timedelta

import psycopg
import pytest
from lifecycle import add_version, embed, find, install, prove
from psycopg import sql

from pgvmig import indexing, switch
from pgvmig.address import address
from pgvmig.catalog import standbys
from pgvmig.cli import main
from pgvmig.errors import SignalError, UsageError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

V1, V2 = address("documents", "v1"), address("documents", "v2")
# Nobody waits for a second here.
SOON = Terms(max_reader_age=timedelta(milliseconds=100))


def prepared(connection):
    """Two versions, complete, indexed and verified; v1 is active."""
    run = ConnectionRunner(connection, "cli")
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 10) AS i")
    for where in (V1, V2):
        embed(connection, add_version(connection, "documents", where.version))
        indexing.build(run, where)
        prove(connection, find(connection, where))
    switch.cut_over(run, V1)
    return run


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    return connection


def test_undeclared_standbys_refuse_a_switch_and_nothing_is_changed(database, connection):
    run = prepared(connection)
    with pytest.raises(SignalError) as refused:
        switch.cut_over(run, V2, beside=database.dsn)
    assert str(refused.value) == (
        "not a moment to switch: no standby is declared and none was declared absent. A switch locks the view; on a "
        "standby its replay would wait, and so would everything after it. Next: pgvmig standby add NAME | pgvmig "
        "standby none; then run this again, or skip the gate standbys and say why"
    )
    with pytest.raises(UsageError):
        Terms.forced("standbys")
    outcome = switch.cut_over(run, V2, Terms.forced("standbys: there are none"), beside=database.dsn)
    assert outcome["skipped"] == ["standbys"]
    event = "SELECT reason, detail -> 'skipped' FROM pgvmig.event WHERE verb = 'cut over' ORDER BY event_id DESC"
    assert connection.execute(event).fetchone() == ("there are none", ["standbys"])
    # nothing to do is nothing to ask about
    assert switch.cut_over(run, V2, beside=database.dsn) == {"changed": False, "version": "v2"}
    with pytest.raises(SignalError, match="not a moment to switch"):
        switch.roll_back(run, V2, beside=database.dsn)


def test_on_an_empty_table_nobody_is_asked(database, connection):
    run = ConnectionRunner(connection)
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    add_version(connection, "documents", "v1")
    assert switch.cut_over(run, V1, beside=database.dsn)["changed"]


def test_a_long_reader_on_the_primary_is_named(database, connection, capsys, monkeypatch):
    run = prepared(connection)
    standbys.none(connection)
    reader = database.connect(autocommit=False, application_name="reporting")
    reader.execute("SELECT FROM documents_current")
    pid = reader.info.backend_pid
    time.sleep(0.15)
    with pytest.raises(SignalError) as refused:
        switch.cut_over(run, V2, SOON, beside=database.dsn)
    user = connection.info.user
    assert refused.value.found.startswith(
        f"not a moment to switch: session {pid} ({user}, application reporting, idle in transaction) has held "
        "documents_current in a transaction for "
    )
    assert refused.value.next_step.startswith(f"let it end, or SELECT pg_terminate_backend({pid}); then run this again")
    monkeypatch.setenv("PGVMIG_DSN", database.dsn)
    monkeypatch.setattr(
        "sys.argv", ["pgvmig", "cutover", "documents", "v2", "--check", "--json", "--max-reader-age", "0.1s"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    said = json.loads(capsys.readouterr().out)
    assert (ended.value.code, said["retyping"]) == (4, None)
    assert [gate["gate"] for gate in said["gates"] if not gate["passed"]] == ["standbys"]
    reader.rollback()
    with pytest.raises(SystemExit):
        main()
    (gate,) = (gate for gate in json.loads(capsys.readouterr().out)["gates"] if gate["gate"] == "standbys")
    assert (gate["passed"], gate["found"]) == (True, "no long transaction reads the view")
    assert switch.cut_over(run, V2, beside=database.dsn)["changed"]


def test_locks_of_the_switching_transaction_itself_do_not_count(database, connection):
    run = prepared(connection)
    standbys.none(connection)
    with connection.transaction():
        connection.execute("SELECT FROM documents_current")
        connection.execute("SELECT pg_sleep(0.15)")
        assert switch.cut_over(run, V2, SOON, beside=database.dsn)["changed"]


@pytest.mark.standby
def test_a_standby_that_is_behind_or_has_a_long_reader_refuses(replicated_database):
    here = replicated_database
    connection = here.connect()
    install(connection)
    run = prepared(connection)
    name = connection.execute("SELECT application_name FROM pg_stat_replication").fetchone()[0]
    standbys.add(connection, name, here.standby_dsn)
    here.wait_for_replay()
    # a transaction there that has held the view for long
    reader = psycopg.connect(here.standby_dsn, application_name="reporting")
    reader.execute("SELECT FROM documents_current")
    pid = reader.info.backend_pid
    time.sleep(0.15)
    with pytest.raises(SignalError) as refused:
        switch.cut_over(run, V2, SOON, beside=here.dsn)
    assert f"session {pid} (" in refused.value.found
    assert f"on {name} has held documents_current in a transaction for" in refused.value.found
    assert refused.value.next_step.startswith(f"let it end, or SELECT pg_terminate_backend({pid}) on {name}")
    # who may not see for how long is told what to be granted
    role = f"{here.name}_blind"
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        here.wait_for_replay()
        standbys.add(connection, name, f"{here.standby_dsn} user={role}")
        with pytest.raises(SignalError) as blind:
            switch.cut_over(run, V2, beside=here.dsn)
        assert f"{role} does not see for how long 1 sessions on {name} read documents_current" in blind.value.found
        assert f"GRANT pg_monitor TO {role}" in blind.value.next_step
    finally:
        standbys.add(connection, name, here.standby_dsn)
        reader.close()
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    # replay that stands still
    with psycopg.connect(here.standby_dsn, autocommit=True) as there:
        there.execute("SELECT pg_wal_replay_pause()")
        connection.execute("UPDATE documents SET body = body || '!'")
        with pytest.raises(SignalError, match=f"not a moment to switch: {name} is "):
            switch.cut_over(run, V2, beside=here.dsn)
        there.execute("SELECT pg_wal_replay_resume()")
    here.wait_for_replay()
    connection.execute("UPDATE documents SET body = rtrim(body, '!')")
    connection.execute("DELETE FROM pgvmig.stale_row")
    here.wait_for_replay()
    assert switch.cut_over(run, V2, beside=here.dsn)["changed"]
    here.wait_for_replay()
    with psycopg.connect(here.standby_dsn) as there:
        assert there.execute("SELECT DISTINCT embedding_space FROM documents_current").fetchone() == ("v2",)

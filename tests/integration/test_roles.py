"""What each role must do, and what it must not, in a database where nobody who acts is a superuser."""

from __future__ import annotations

import psycopg
import pytest
from lifecycle import find
from psycopg import errors as pg
from psycopg import sql
from roles import Cast

from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel

ZEROS = "[1,0,0,0,0,0,0,0]"


# A cast takes as long as all that is tried in it: the tests of one layout run in one process, and on another major than
# those of the other, where there are two.
@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("column", 18), id="column", marks=pytest.mark.xdist_group("roles column")),
        pytest.param(("table", 16), id="table", marks=pytest.mark.xdist_group("roles table")),
    ],
)
def cast(request, servers):
    """v1 was there before the roles, is backfilled by the worker and active by the operator; v2 came after them."""
    layout, major = request.param
    with (
        serving({"new": HashModel("hash", 8)}) as server,
        servers.closest(major).database(installed=True) as database,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PGVMIG_NEW_BASE_URL", server.base_url("new"))
        cast = Cast(database, layout)
        try:
            first = cast.add("v1", "app.clean(body)", cast.superuser)
            cast.create_roles()
            assert cast.backfill("v1").why == "done"
            cast.prove(first)
            with cast.connected("operator") as operator:
                operator.execute("SELECT pgvmig.operator_cut_over('app.documents', 'v1', reason => 'first')")
            second = cast.add("v2", "body")
            assert cast.backfill("v2").why == "done"
            cast.prove(second)
            yield cast
        finally:
            cast.close()


def test_a_worker_takes_a_version_from_added_to_ready(cast):
    assert cast.value("SELECT count(embedding) FROM app.documents_v2") == 20
    steps = cast.root.execute(
        "SELECT who, source, verb, to_state FROM pgvmig.event "
        "WHERE version = 'v2' AND to_state IN ('backfilling', 'ready') ORDER BY event_id"
    ).fetchall()
    who = cast.login("worker")
    assert steps == [(who, "worker", "backfill", "backfilling"), (who, "worker", "backfill", "ready")]


def test_a_throttle_is_signed_by_who_is_connected(cast):
    with cast.connected("operator") as operator:
        operator.execute(
            "INSERT INTO pgvmig.throttle (relation, slot, settings) SELECT relation, slot, '{}' FROM pgvmig.slot"
        )
        operator.execute("UPDATE pgvmig.throttle SET settings = '{}'")
        with pytest.raises(pg.InsufficientPrivilege):
            operator.execute("UPDATE pgvmig.throttle SET changed_by = 'somebody else'")
        assert operator.execute("DELETE FROM pgvmig.throttle RETURNING changed_by").fetchall() == [
            (cast.login("operator"),)
        ]


def test_events_of_lent_rights_name_who_is_connected(cast):
    found = cast.root.execute(
        "SELECT who, reason FROM pgvmig.event WHERE version = 'v1' AND to_state = 'active'"
    ).fetchall()
    assert found == [(cast.login("operator"), "first")]


def test_a_worker_follows_what_changes(cast):
    cast.root.execute("UPDATE app.documents SET body = 'changed' WHERE id = 3")
    cast.root.execute("DELETE FROM app.documents WHERE id = 4")
    assert cast.backfill("v2").why == "done"
    assert cast.backfill("v1").why == "done"
    assert cast.value("SELECT count(*) FROM pgvmig.stale_row") == 0


def test_a_reader_searches_and_asks(cast):
    with cast.connected("reader") as reader:
        for view in ("documents_v1", "documents_v2", "documents_current"):
            found = reader.execute(f"SELECT id FROM app.{view} ORDER BY embedding <=> '{ZEROS}' LIMIT 5").fetchall()
            assert len(found) == 5
        assert reader.execute("SELECT version FROM pgvmig.active_space('app.documents')").fetchone() == ("v1",)
        assert reader.execute("SELECT pgvmig.route('app.documents', 'k')").fetchone() == ("v1",)
        assert reader.execute("SELECT pgvmig.require_space('app.documents', 'v1')").fetchone() == (True,)


def test_an_operator_goes_back_and_forth_by_command(cast, monkeypatch, capsys):
    def run(*arguments):
        code, said = cast.cli(monkeypatch, capsys, "operator", *arguments)
        assert code == 0, said
        return said

    run("cutover", "app.documents", "v2", "--check")
    run("route", "app.documents", "--to", "v2", "--percent", "10")
    run("route", "app.documents", "--off")
    assert run("cutover", "app.documents", "v2")["previous"] == "v1"
    assert run("rollback", "app.documents", "--reason", "bad answers")["version"] == "v1"
    run("resume", "app.documents", "v2")
    run("pause", "app.documents")
    run("resume", "app.documents")
    run("throttle", "app.documents", "--max-lag", "5s")
    run("throttle", "app.documents", "--max-lag", "6s")
    run("throttle", "app.documents", "--reset")
    run("status")


def test_an_operators_watch_goes_back(cast, monkeypatch, capsys):
    with cast.connected("operator") as operator:
        operator.execute("SELECT pgvmig.operator_cut_over('app.documents', 'v2')")
    cast.root.execute(
        "INSERT INTO pgvmig.rollback_trigger (relation, slot, metric, comparison, bound, min_values) "
        "VALUES ('app.documents', 'embedding', 'errors', 'above', 0.1, 1)"
    )
    cast.root.execute("SELECT pgvmig.record_outcome('app.documents', 'v2', 'errors', 1)")
    assert cast.cli(monkeypatch, capsys, "operator", "watch", "app.documents", "--once", "--roll-back")[0] == 4
    cast.root.execute("DELETE FROM pgvmig.pause")
    assert find(cast.root, cast.where("v1")).state == "active"
    cast.root.execute("DELETE FROM pgvmig.rollback_trigger")


def test_events_of_commands_name_the_operator(cast):
    verbs = ["cut over", "roll back", "route", "pause", "resume", "throttle"]
    who = cast.root.execute("SELECT DISTINCT who FROM pgvmig.event WHERE verb = ANY (%s)", [verbs]).fetchall()
    assert who == [(cast.login("operator"),)]


def test_an_admin_adds_a_version_that_all_others_can_work_with(cast):
    cast.execute("GRANT {owner} TO {admin}", admin=sql.Identifier(f"{cast.name}_admin"))
    cast.add("v3", "coalesce(body, '')", "admin")
    owners = cast.root.execute(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class "
        "WHERE relnamespace = 'pgvmig'::regnamespace AND relkind = 'r' "
        "UNION SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'pgvmig'::regnamespace"
    ).fetchall()
    assert owners == [(cast.migrator,)]
    assert cast.backfill("v3").why == "done"
    with cast.connected("reader") as reader:
        assert reader.execute("SELECT count(*) FROM app.documents_v3").fetchone()[0] > 10
    with cast.connected(cast.migrator) as migrator:
        assert migrator.execute("SELECT pgvmig.drop_version('app.documents', 'v3', destroy => true)").fetchone() == (
            True,
        )


CREATE = ["CREATE TABLE app.mine ()", "CREATE TABLE pgvmig.mine ()", "CREATE FUNCTION pgvmig.f() RETURNS int RETURN 1"]
SWITCH = [
    "SELECT pgvmig.cut_over('app.documents', 'v2')",
    "SELECT pgvmig.roll_back('app.documents')",
    "SELECT pgvmig.set_route('app.documents', 'v2', 10)",
    "SELECT pgvmig.unroute('app.documents')",
    "SELECT pgvmig.activate(v) FROM pgvmig.version v",
    "UPDATE pgvmig.version SET state = 'active' WHERE version = 'v2'",
    "UPDATE pgvmig.version SET search = '{}'",
    "INSERT INTO pgvmig.route SELECT relation, slot, version_id, 10 FROM pgvmig.version WHERE version = 'v2'",
    "DELETE FROM pgvmig.route",
    "UPDATE pgvmig.contract SET canonical = '{}'",
    "SELECT pgvmig.drop_version('app.documents', 'v2', destroy => true)",
    "SELECT pgvmig.retire('app.documents', 'v2')",
    "SELECT pgvmig.refresh_views('app.documents')",
    "SELECT pgvmig.create_roles()",
    "SELECT pgvmig.drop_roles()",
    "SELECT pgvmig.hand_over(current_user)",
    "SELECT pgvmig.grant_roles()",
    "SELECT pgvmig.execute_patiently('DROP TABLE app.documents')",
    "SELECT pgvmig.record_event(v, 'cut over', NULL, '{}') FROM pgvmig.version v",
    "UPDATE pgvmig.event SET who = 'somebody else'",
    "DELETE FROM pgvmig.event",
    "INSERT INTO pgvmig.event (source, verb, who) VALUES ('cli', 'cut over', 'somebody else')",
    "INSERT INTO pgvmig.evidence (version_id, gate, passed, found, wanted) VALUES (1, 'recall', true, '', '')",
    "INSERT INTO pgvmig.role VALUES ('reader', 'me')",
]
LENT = [
    "SELECT pgvmig.operator_cut_over('app.documents', 'v2')",
    "SELECT pgvmig.operator_roll_back('app.documents')",
    "SELECT pgvmig.operator_set_route('app.documents', 'v2', 10)",
    "SELECT pgvmig.operator_unroute('app.documents')",
    "INSERT INTO pgvmig.pause (reason) VALUES ('all')",
    "DELETE FROM pgvmig.pause",
    "INSERT INTO pgvmig.throttle (relation, slot, settings) SELECT relation, slot, '{}' FROM pgvmig.slot",
]
WORK = [
    "SELECT pgvmig.begin_backfill(1)",
    "SELECT pgvmig.become_ready(1)",
    "UPDATE pgvmig.backfill SET walked = true",
    "DELETE FROM pgvmig.lease",
    "DELETE FROM pgvmig.app_documents_v1_stale",
    "UPDATE pgvmig.backfill_run SET rows_written = 0",
]
ROWS = [
    "UPDATE app.documents SET body = 'mine'",
    "DELETE FROM app.documents",
    "INSERT INTO app.documents (body) VALUES ('mine')",
    "TRUNCATE app.documents",
    "ALTER TABLE app.documents ADD COLUMN mine int",
    "DROP VIEW app.documents_current",
    "CREATE OR REPLACE VIEW app.documents_current AS SELECT 1",
    "CREATE INDEX ON app.documents (body)",
    "CREATE TRIGGER t AFTER INSERT ON app.documents EXECUTE FUNCTION pgvmig.refuse_change()",
]
SECRET = ["SELECT secret FROM app.documents", "SELECT * FROM app.documents", "SELECT d FROM app.documents AS d"]
SEARCH = ["SELECT id FROM app.documents_current", "SELECT id FROM app.documents_v2"]
MUST_NOT = {
    "reader": [*CREATE, *SWITCH, *LENT, *WORK, *ROWS, *SECRET, "SELECT * FROM pgvmig.event"],
    "worker": [*CREATE, *SWITCH, *LENT, *ROWS, *SECRET, *SEARCH, "SELECT tenant FROM app.documents",
               "UPDATE app.documents SET tenant = 1", "SELECT * FROM pgvmig.event"],
    "operator": [*CREATE, *SWITCH, *WORK, *ROWS, *SECRET, *SEARCH, "SELECT id FROM app.documents",
                 "INSERT INTO pgvmig.pause (relation, slot, paused_by) SELECT relation, slot, 'you' FROM pgvmig.slot",
                 "SELECT queries FROM pgvmig.judged_set", "SELECT * FROM pgvmig.evaluation"],
}  # fmt: skip


@pytest.mark.parametrize("duty", MUST_NOT)
def test_a_role_must_not(cast, duty):
    with cast.connected(duty) as connection:
        answers = {statement: _sqlstate(connection, statement) for statement in MUST_NOT[duty]}
    assert answers == dict.fromkeys(MUST_NOT[duty], pg.InsufficientPrivilege.sqlstate)


def _sqlstate(connection, statement):
    try:
        connection.execute(statement)
    except psycopg.Error as refused:
        return refused.sqlstate
    return "allowed"


@pytest.mark.parametrize("view", ["documents_v1", "documents_current"])
def test_a_view_is_read_only_and_shows_no_secret(cast, view):
    with cast.connected("reader") as reader:
        assert "secret" not in [c.name for c in reader.execute(f"SELECT * FROM app.{view}").description]
        with pytest.raises(pg.InsufficientPrivilege):
            reader.execute(f"DELETE FROM app.{view}")


def test_a_worker_cannot_read_another_versions_vectors_through_its_queue(cast):
    with cast.connected("worker") as connection, pytest.raises(pg.InsufficientPrivilege):
        connection.execute("SELECT pgvmig.app_documents_v2_input(d.*) FROM app.documents AS d")


def test_policies_hold_for_a_reader_and_stop_a_worker(cast):
    cast.root.execute(
        "CREATE POLICY own ON app.documents FOR SELECT USING (tenant = 0); "
        "ALTER TABLE app.documents ENABLE ROW LEVEL SECURITY; SELECT pgvmig.refresh_views('app.documents')"
    )
    try:
        with cast.connected("reader") as reader:
            assert reader.execute("SELECT DISTINCT tenant FROM app.documents_current").fetchall() == [(0,)]
        cast.root.execute("UPDATE app.documents SET body = 'changed again' WHERE id IN (5, 6)")
        with pytest.raises(Exception, match="row-level security policy") as refused:
            cast.backfill("v2")
        assert "ALTER ROLE ... BYPASSRLS" in str(refused.value)
        name = sql.Identifier(cast.login("worker"))
        cast.execute("ALTER ROLE {name} BYPASSRLS", name=name)
        assert cast.backfill("v2").why == "done"
        assert cast.backfill("v1").why == "done"
        cast.execute("ALTER ROLE {name} NOBYPASSRLS", name=name)
    finally:
        cast.root.execute(
            "ALTER TABLE app.documents DISABLE ROW LEVEL SECURITY; SELECT pgvmig.refresh_views('app.documents')"
        )

"""The functions for services: which space is active, and who asks for another."""

import psycopg
import pytest
from lifecycle import add_version, find
from psycopg import errors as pg
from vectors import cut_over, roll_back
from viewing import V1, become, grant, plan, spaces

from pgvmig.address import address

pytestmark = [pytest.mark.majors(18, 16), pytest.mark.layouts]


def test_active_space_is_what_a_service_needs(connection, versions):
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute("SELECT * FROM pgvmig.active_space('documents')").fetchone()
    assert row.pop("fingerprint") == versions[0].contract.fingerprint
    assert row == {
        "version": "v1",
        "view": "documents_v1",
        "provider": "new",
        "model": "one",
        "model_version": "1",
        "dimensions": 8,
        "metric": "cosine",
        "query_prefix": "",
        "search": {},
    }
    assert connection.execute("SELECT pgvmig.route('documents', 'any key')").fetchone() == ("v1",)


def test_before_the_first_cutover_there_is_no_space(connection):
    add_version(connection, "documents", "v1", V1)
    assert connection.execute("SELECT count(*) FROM pgvmig.active_space('documents')").fetchone() == (0,)
    assert connection.execute("SELECT pgvmig.route('documents', 'k')").fetchone() == (None,)
    with pytest.raises(psycopg.Error, match="documents has no active version, not v1") as caught:
        connection.execute("SELECT pgvmig.require_space('documents', 'v1')")
    assert caught.value.sqlstate == "PV001"


def test_switch_route_and_view_in_one_transaction(connection, versions, database):
    watcher = database.connect()
    with connection.transaction(force_rollback=True):
        cut_over(connection, versions[1])
        assert watcher.execute("SELECT pgvmig.route('documents', 'k')").fetchone() == ("v1",)
        assert watcher.execute("SELECT version FROM pgvmig.active_space('documents')").fetchone() == ("v1",)
    assert spaces(connection) == ["v1"]
    assert connection.execute("SELECT pgvmig.route('documents', 'k')").fetchone() == ("v1",)


def test_require_space_raises_with_what_to_do(connection, versions):
    cut_over(connection, versions[1])
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(
            "SELECT id FROM documents_current WHERE pgvmig.require_space('documents', 'v1') "
            "ORDER BY embedding <=> '[1,0,0,0,0,0,0,0]' LIMIT 5"
        )
    assert caught.value.sqlstate == "PV001"
    assert caught.value.diag.message_primary == "public.documents_current shows v2, not v1"
    assert caught.value.diag.message_detail == (
        "Vectors of two models are not comparable: the query would be ranked, and wrongly."
    )
    assert caught.value.diag.message_hint == (
        "ask pgvmig.active_space('public.documents') again and embed the query with its model"
    )


def test_require_space_is_asked_once_and_before_any_row(connection, versions):
    text = plan(connection, "SELECT id FROM documents_current WHERE pgvmig.require_space('documents', 'v1') AND id > 0")
    assert "One-Time Filter: pgvmig.require_space(" in text


def test_verbs_are_not_everybodys(connection, versions, role):
    grant(connection, role, "SELECT ON documents")
    become(connection, role)
    for call in ("cut_over('documents', 'v2')", "roll_back('documents')", "refresh_views('documents')"):
        with pytest.raises(pg.InsufficientPrivilege):
            connection.execute(f"SELECT pgvmig.{call}")


def test_a_rollback_to_nothing_takes_the_current_view_away(connection, versions):
    roll_back(connection, versions[0])
    assert connection.execute("SELECT to_regclass('documents_current')").fetchone() == (None,)
    assert connection.execute("SELECT count(*) FROM pgvmig.active_space('documents')").fetchone() == (0,)
    cut_over(connection, find(connection, address("documents", "v1")))
    assert spaces(connection) == ["v1"]


def test_events_tell_of_a_switch(connection, versions):
    cut_over(connection, versions[1])
    rows = connection.execute(
        "SELECT version, from_state, to_state, reason FROM pgvmig.event WHERE verb = 'cut over' ORDER BY event_id"
    ).fetchall()
    assert rows[-3:] == [
        ("v1", "active", "retained", "a test"),
        ("v2", "added", "ready", "a test"),
        ("v2", "ready", "active", "a test"),
    ]

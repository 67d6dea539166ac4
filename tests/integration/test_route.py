"""Gradual rollout: which key is served by which version, who may say so, and that nothing is lost on the way."""

from __future__ import annotations

from collections import Counter

import psycopg
import pytest
from backfilling import Background, wait_until
from lifecycle import add_version, find
from psycopg import errors as pg
from psycopg import sql
from vectors import cut_over, roll_back

from pgvmig.address import address
from pgvmig.catalog.connection import translate
from pgvmig.errors import GateError, IllegalTransitionError
from pgvmig.routing import bucket

KEYS = [f"user {number}" for number in range(2000)]


@pytest.fixture
def connection(site):
    """v1 active, v2 and v3 beside it; on an empty table no gate holds anybody up."""
    conn = site.database.connect()
    conn.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    found = [add_version(conn, "documents", name, {"model": name}) for name in ("v1", "v2", "v3")]
    cut_over(conn, found[0])
    return conn


@pytest.fixture
def version(connection):
    """Find a version by its name."""
    return lambda name: find(connection, address("documents", name))


@pytest.fixture
def role(connection):
    """A service's role: it may read the table."""
    name = f"{connection.info.dbname}_service"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("GRANT SELECT ON documents TO {}").format(sql.Identifier(name)))
    yield name
    connection.execute("RESET ROLE")
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def set_route(connection, version="v2", percent=None, **options):
    """Call the verb; options are its named parameters."""
    names = "".join(f", {name} => %({name})s" for name in options)
    (done,) = connection.execute(
        f"SELECT pgvmig.set_route('documents', %(version)s, %(percent)s{names})",
        {"version": version, "percent": percent, **options},
    ).fetchone()
    return done


def refused(connection, *arguments, **options):
    """Return what the verb says when it does not do it."""
    with pytest.raises(psycopg.Error) as error:
        set_route(connection, *arguments, **options)
    return translate(error.value)


def served(connection, keys=KEYS):
    """Return which version serves each key."""
    return dict(
        connection.execute("SELECT k, pgvmig.route('documents', k) FROM unnest(%s::text[]) AS k", (keys,)).fetchall()
    )


@pytest.mark.majors(18, 16)
def test_the_decision_is_a_hash_that_any_language_can_compute(connection):
    keys, slots = ["alice", "", "ключ", "a/b", "x" * 3000], ["embedding", "ti/tle"]
    rows = connection.execute(
        "SELECT k, s, pgvmig.route_bucket(k, 'v2', s) FROM unnest(%s::text[]) AS k, unnest(%s::text[]) AS s",
        (keys, slots),
    ).fetchall()
    assert {(k, s): b for k, s, b in rows} == {(k, s): bucket(k, "v2", s) for k in keys for s in slots}
    # written down once: another hash, whoever changes it, would send users to and fro in the middle of a rollout
    assert [bucket(key, "v2") for key in ("alice", "bob")] == ALICE_AND_BOB


ALICE_AND_BOB = [4087, 5781]


def test_shares_are_kept_and_only_grow(connection):
    before = set()
    for percent in ("0.5", "10", "20", "99.99"):
        set_route(connection, "v2", percent)
        now = {key for key, version in served(connection).items() if version == "v2"}
        assert before < now
        assert now == {key for key in KEYS if bucket(key, "v2") < float(percent) * 100}
        assert len(now) / len(KEYS) == pytest.approx(float(percent) / 100, abs=0.02)
        before = now
    set_route(connection, "v2", 10)
    assert Counter(served(connection).values())["v2"] == pytest.approx(200, abs=40)
    space = "SELECT version, view::text, model FROM pgvmig.routed_space('documents', %s)"
    assert connection.execute(space, (min(now, key=lambda key: bucket(key, "v2")),)).fetchone() == (
        "v2",
        "documents_v2",
        "v2",
    )
    assert connection.execute(space, (None,)).fetchone() == ("v1", "documents_v1", "v1")
    assert connection.execute("SELECT pgvmig.route('pgvmig.version', 'k')").fetchone() == (None,)


def test_another_version_begins_with_other_keys():
    first = {version: {key for key in KEYS if bucket(key, version) < 1000} for version in ("v2", "v3")}
    assert len(first["v2"] & first["v3"]) < 60


def test_keys_by_name(connection):
    done = set_route(connection, "v2", 0, add_keys=["alice", "bob"])
    assert (done["changed"], done["percent"], done["keys"]) == (True, 0, ["alice", "bob"])
    assert served(connection, ["alice", "bob", "carol"]) == {"alice": "v2", "bob": "v2", "carol": "v1"}
    done = set_route(connection, "v2", add_keys=["carol", "alice"], remove_keys=["bob", "nobody"])
    assert (done["added"], done["removed"], done["keys"]) == (["carol"], ["bob"], ["alice", "carol"])
    assert served(connection, ["alice", "bob", "carol"]) == {"alice": "v2", "bob": "v1", "carol": "v2"}
    assert set_route(connection, "v2", 0)["changed"] is False
    assert set_route(connection, "v2", remove_keys=["alice", "carol"])["keys"] == []
    assert connection.execute("SELECT percent FROM pgvmig.route").fetchall() == [(100,)]


def test_what_is_no_share(connection, version):
    found = refused(connection, "v2", 100)
    assert isinstance(found, IllegalTransitionError)
    assert str(found) == (
        "100 percent of documents to v2 is the cutover. The current view and the search settings are switched with it. "
        "Next: pgvmig cutover documents v2"
    )
    for percent in ("-1", "100.5", "0.001", "NaN"):
        assert str(refused(connection, "v2", percent)) == (
            f"{percent} is no share. Next: give a number from 0 to 99.99, in hundredths of a percent at most"
        )
    assert str(refused(connection, "v1", 10)).startswith("documents v1 is active. It serves every key")
    for key in ("", "x" * 1001, None):
        assert "a key is NULL, empty, or over 1,000 bytes long" in str(refused(connection, "v2", 1, add_keys=[key]))
    set_route(connection, "v2", 10, add_keys=["alice"])
    assert str(refused(connection, "v3", 10)) == (
        "documents v2 has 10 percent of the keys and 1 by name. One version at a time is tried beside the active "
        "one. Next: pgvmig route documents --off, then this again"
    )
    roll_back(connection, version("v1"))
    assert "has no active version that could serve the other keys" in str(refused(connection, "v2", 10))


def test_more_needs_the_gates_of_a_cutover_and_less_does_not(connection):
    connection.execute("INSERT INTO documents VALUES (1, 'a text')")
    for given in ({"percent": 10}, {"add_keys": ["alice"]}):
        found = refused(connection, "v2", **given)
        assert isinstance(found, GateError)
        assert "documents v2 is not ready: 1 of 1 rows have no vector" in str(found)
    every = connection.execute(
        "SELECT array_agg(substr(proname, 6)) FROM pg_proc "
        r"WHERE pronamespace = 'pgvmig'::regnamespace AND proname LIKE 'gate\_%'"
    ).fetchone()[0]
    assert "no reason is given" in str(refused(connection, "v2", 10, skip=every))
    done = set_route(connection, "v2", 10, add_keys=["alice"], skip=every, reason="a pilot")
    assert done["skipped"] == every
    assert done["gates"]["coverage"]["passed"] is False
    assert connection.execute("SELECT state FROM pgvmig.version WHERE version = 'v2'").fetchone() == ("ready",)
    assert isinstance(refused(connection, "v2", 11), GateError)
    assert set_route(connection, "v2", 5, remove_keys=["alice"], reason="slowly")["was"] == 10
    assert set_route(connection, "v2", 0)["changed"] is True
    events = connection.execute(
        "SELECT source, version, reason, detail ->> 'was', detail ->> 'percent', detail -> 'keys' FROM pgvmig.event "
        "WHERE verb = 'route' AND to_state IS NULL ORDER BY event_id"
    ).fetchall()
    assert events == [
        ("sql", "v2", "a pilot", "0", "10", ["alice"]),
        ("sql", "v2", "slowly", "10", "5", []),
        ("sql", "v2", None, "5", "0", []),
    ]


def test_a_switch_ends_the_rollout(connection, version):
    for switch, version_name, then in ((cut_over, "v2", "v2"), (roll_back, "v2", "v1")):
        set_route(connection, "v3", 50, add_keys=["alice"])
        switch(connection, version(version_name))
        assert set(served(connection).values()) == {then}
        assert connection.execute("SELECT percent FROM pgvmig.route").fetchall() == [(100,)]
        assert connection.execute("SELECT count(*) FROM pgvmig.route_key").fetchone() == (0,)


def test_off_gives_every_key_back(connection):
    set_route(connection, "v2", 30, add_keys=["alice"])
    unroute = "SELECT pgvmig.unroute('documents', %s, reason => 'errors')"
    assert connection.execute(unroute, ("v3",)).fetchone()[0] == {"changed": False, "version": "v2"}
    done = connection.execute(unroute, (None,)).fetchone()[0]
    assert (done["changed"], done["version"], done["was"], done["removed"]) == (True, "v2", 30, ["alice"])
    assert set(served(connection).values()) == {"v1"}
    assert connection.execute(unroute, (None,)).fetchone()[0] == {"changed": False, "version": None}


def test_a_version_that_is_routed_to_stays(connection, version):
    set_route(connection, "v2", 30, add_keys=["alice"])
    for taking in (
        "UPDATE pgvmig.version SET state = 'retired' WHERE version = 'v2'",
        "SELECT pgvmig.drop_version('documents', 'v2', destroy => true)",
    ):
        with pytest.raises(psycopg.Error) as error:
            connection.execute(taking)
        assert str(translate(error.value)) == (
            "documents v2 still serves 30 percent of the keys and 1 by name. Their searches would fail. "
            "Next: pgvmig route documents --off"
        )
    connection.execute("SELECT pgvmig.unroute('documents')")
    connection.execute("SELECT pgvmig.drop_version('documents', 'v2', destroy => true)")
    connection.execute("SELECT pgvmig.drop_version('documents', 'v3', destroy => true)")


def test_a_retired_version_is_never_routed_to(connection):
    connection.execute("UPDATE pgvmig.version SET state = 'retired' WHERE version = 'v2'")
    assert str(refused(connection, "v2", 10)).startswith("documents v2 is retired")
    assert "has no version v9" in str(refused(connection, "v9", 10))


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_rollout_waits_for_a_cutover_and_then_sees_it(site, connection, version, isolation):
    switching, routing = site.database.connect(autocommit=False), site.database.connect()
    routing.execute(f"BEGIN ISOLATION LEVEL {isolation}")
    routing.execute("SELECT FROM pgvmig.version")
    cut_over(switching, version("v2"))
    blocked = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock')"
    with Background(lambda: translated_refusal(routing)) as attempt:
        wait_until(lambda: connection.execute(blocked, (routing.info.backend_pid,)).fetchone()[0])
        switching.commit()
    assert attempt.result in ("documents v2 is active", "40001")
    assert set(served(connection).values()) == {"v2"}


def translated_refusal(connection):
    """Return what the verb says, or the SQLSTATE of a transaction that has to begin anew."""
    try:
        set_route(connection, "v2", 10)
    except pg.SerializationFailure as error:
        return error.sqlstate
    except psycopg.Error as error:
        return translate(error).found
    return None


def test_a_services_role_may_ask_and_record_and_write_nothing(connection, role):
    set_route(connection, "v2", 50, add_keys=["alice"])
    record = "SELECT pgvmig.record_outcome('documents', 'v2', 'errors', 0.5)"
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    assert connection.execute("SELECT pgvmig.route('documents', 'alice')").fetchone() == ("v2",)
    for statement in (
        record,
        "SELECT pgvmig.record_outcome('v2', 'errors', 0.5)",
        "SELECT pgvmig.set_route('documents', 'v2', 60)",
        "SELECT pgvmig.unroute('documents')",
        "SELECT pgvmig.prune_outcomes('documents', 'embedding', '0')",
        "SELECT FROM pgvmig.production_metric",
        "INSERT INTO pgvmig.production_metric (version_id, metric, value) VALUES (1, 'errors', 1)",
        "UPDATE pgvmig.route SET percent = 1",
        "DELETE FROM pgvmig.route_key",
    ):
        with pytest.raises(pg.InsufficientPrivilege):
            connection.execute(statement)
    connection.execute("RESET ROLE")
    connection.execute(
        sql.SQL(
            "GRANT EXECUTE ON FUNCTION pgvmig.record_outcome(regclass, text, text, double precision, text) TO {}"
        ).format(sql.Identifier(role))
    )
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    connection.execute(record)
    with pytest.raises(pg.InsufficientPrivilege):
        connection.execute("SELECT FROM pgvmig.production_metric")
    connection.execute("RESET ROLE")
    assert connection.execute("SELECT metric, value FROM pgvmig.production_metric").fetchall() == [("errors", 0.5)]


class TestRecordOutcome:
    def test_what_is_no_outcome(self, connection):
        record = "SELECT pgvmig.record_outcome('documents', 'v1', %s, %s::float8)"
        for metric, value, said in [
            (
                "Errors",
                1,
                "'Errors' is not a metric's name. Next: write it in small letters, digits, dots and underscores",
            ),
            ("errors; drop", 1, "is not a metric's name"),
            (None, 1, "NULL is not a metric's name"),
            ("errors", float("nan"), "the value of errors is NaN. A mean would be lost to it"),
            ("errors", float("inf"), "the value of errors is Infinity"),
            ("errors", None, "the value of errors is NULL"),
        ]:
            with pytest.raises(psycopg.Error) as error:
                connection.execute(record, (metric, value))
            assert said in str(translate(error.value))

    def test_the_short_form_needs_a_version_that_only_one_target_has(self, connection):
        connection.execute("SELECT pgvmig.record_outcome('v2', 'clicks', 1)")
        add_version(connection, "documents", "v2", slot="title")
        with pytest.raises(psycopg.Error) as error:
            connection.execute("SELECT pgvmig.record_outcome('v2', 'clicks', 1)")
        assert str(translate(error.value)) == (
            "documents and documents.title have a version v2. Nobody could say which one is meant. "
            "Next: name it: pgvmig.record_outcome('public.documents', 'v2', 'clicks', 1)"
        )
        connection.execute("SELECT pgvmig.record_outcome('documents', 'v2', 'clicks', 0, 'title')")
        for call in ("'v9', 'clicks', 1", "'documents', 'v9', 'clicks', 1"):
            with pytest.raises(psycopg.Error) as error:
                connection.execute(f"SELECT pgvmig.record_outcome({call})")
            assert error.value.sqlstate == "PV003"
        assert connection.execute("SELECT value FROM pgvmig.production_metric ORDER BY at").fetchall() == [(1,), (0,)]

    def test_it_is_only_appended_to_and_pruned(self, connection):
        connection.execute(
            "INSERT INTO pgvmig.production_metric (version_id, metric, at, value) "
            "SELECT version_id, 'errors', now() - interval '1 day' * n, n "
            "FROM pgvmig.version, generate_series(0, 9) AS n"
        )
        with pytest.raises(psycopg.Error, match="is only appended to"):
            connection.execute("UPDATE pgvmig.production_metric SET value = 0")
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        prune = "SELECT pgvmig.prune_outcomes('documents', 'embedding', '5 days', 10)"
        assert [connection.execute(prune).fetchone() for _ in range(3)] == [(10,), (5,), (0,)]
        assert connection.execute("SELECT max(value) FROM pgvmig.production_metric").fetchone() == (4,)
        connection.execute("SELECT pgvmig.drop_version('documents', 'v3', destroy => true)")
        assert connection.execute("SELECT count(*) FROM pgvmig.production_metric").fetchone() == (10,)

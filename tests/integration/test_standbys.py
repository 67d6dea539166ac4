"""Declaring standbys, or that there are none."""

import threading

import psycopg
import pytest
from lifecycle import install
from psycopg.rows import dict_row

from pgvmig.catalog import standbys
from pgvmig.errors import ConfigError, ConflictError, NotFoundError, SchemaVersionError, UsageError
from pgvmig.pacing.pacer import Pacer
from pgvmig.pacing.signals import SignalState

pytestmark = pytest.mark.majors(18, 16)


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    return connection


def names(connection):
    return [found.name for found in standbys.all_standbys(connection) if found.declared]


def events(connection):
    rows = connection.execute("SELECT source, verb, detail FROM pgvmig.event ORDER BY event_id").fetchall()
    assert {(source, verb) for source, verb, _ in rows} <= {("cli", "declare standby")}
    return [(detail["action"], detail["name"], detail["dsn"]) for _, _, detail in rows]


def test_nothing_is_declared_at_first(connection):
    assert (names(connection), standbys.is_none(connection)) == ([], False)


def test_add_returns_what_is_connected_of_it(connection):
    (found,) = standbys.add(connection, "s1")
    assert (found.name, found.declared, found.connected, found.dsn) == ("s1", True, False, None)
    assert found.added_by == "postgres"
    assert names(connection) == ["s1"]
    assert events(connection) == [("add", "s1", None)]


def test_add_again_does_nothing_and_another_dsn_replaces_the_first(connection):
    for dsn in (None, None, "host=a user=u", "host=a user=u"):
        (found,) = standbys.add(connection, "s1", dsn)
        assert found.dsn == dsn
    assert events(connection) == [("add", "s1", None), ("add", "s1", "host=a user=u")]


def test_add_withdraws_that_there_are_none(connection):
    assert standbys.none(connection) == []
    assert standbys.is_none(connection)
    standbys.add(connection, "s1")
    assert not standbys.is_none(connection)
    assert events(connection) == [("none", None, None), ("add", "s1", None)]


def test_none_again_does_nothing(connection):
    standbys.none(connection)
    standbys.none(connection)
    assert events(connection) == [("none", None, None)]


def test_none_is_refused_while_standbys_are_declared(connection):
    standbys.add(connection, "s2")
    standbys.add(connection, "s1")
    with pytest.raises(ConflictError) as raised:
        standbys.none(connection)
    assert str(raised.value) == (
        "s1, s2 are declared. A cluster with a declared standby does not have none. "
        "Next: pgvmig standby remove s1; pgvmig standby remove s2"
    )
    assert not standbys.is_none(connection)


def test_remove_leaves_nothing_declared(connection):
    standbys.add(connection, "s1")
    standbys.remove(connection, "s1")
    assert (names(connection), standbys.is_none(connection)) == ([], False)
    assert events(connection)[-1] == ("remove", "s1", None)


def test_remove_of_what_is_not_declared_names_what_is(connection):
    standbys.add(connection, "s1")
    with pytest.raises(NotFoundError, match=r"no standby s2 is declared\. Next: use one of s1"):
        standbys.remove(connection, "s2")
    assert events(connection) == [("add", "s1", None)]


def test_an_empty_name_is_refused(connection):
    with pytest.raises(UsageError, match="a standby's name is empty"):
        standbys.add(connection, " ")


@pytest.mark.parametrize(
    "dsn",
    [
        "host=a password=geheim",
        "host=a password = 'geheim'",
        "postgresql://u:geheim@a/db",
        "postgresql://a/db?password=geheim",
        "postgresql://a/db?passw%6Frd=geheim",
        "host=a sslpassword=geheim",
    ],
)
def test_a_password_in_the_dsn_is_refused_and_nowhere_repeated(connection, dsn):
    with pytest.raises(ConfigError) as raised:
        standbys.add(connection, "s1", dsn)
    assert "the DSN of s1 holds a password" in str(raised.value)
    assert "Next: put the password into a password file" in str(raised.value)
    error = raised.value
    while error is not None:
        assert "geheim" not in str(error)
        error = error.__cause__
    assert (names(connection), events(connection)) == ([], [])


def test_what_only_the_database_finds_is_refused_in_the_same_words(connection):
    with pytest.raises(ConfigError, match="the DSN of s1 holds a password") as raised:
        standbys.add(connection, "s1", "postgresql://u:@a/db")
    assert raised.value.__cause__ is None
    assert names(connection) == []


def test_a_dsn_that_is_none_is_refused_without_repeating_it(connection):
    with pytest.raises(ConfigError, match="is not one that libpq can read") as raised:
        standbys.add(connection, "s1", "geheim")
    assert "geheim" not in str(raised.value)


def test_declarations_work_inside_a_transaction_and_with_other_row_factories(database, connection):
    with psycopg.connect(database.dsn, row_factory=dict_row) as other:
        other.execute("SELECT 1")  # begins one
        standbys.add(other, "s1")
        assert names(connection) == []
    assert names(connection) == ["s1"]


def test_none_does_not_pass_an_add_that_has_yet_to_commit(database, connection):
    outcome = []

    def declare_none():
        try:
            standbys.none(database.connect())
        except ConflictError as error:
            outcome.append(error.found)

    with connection.transaction():
        standbys.add(connection, "s1")
        thread = threading.Thread(target=declare_none)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join()
    assert outcome == ["s1 is declared"]
    assert not standbys.is_none(connection)


@pytest.mark.bare
def test_without_the_control_schema(database):
    connection = database.connect()
    for verb in (standbys.all_standbys, standbys.is_none, standbys.none, lambda c: standbys.add(c, "s1")):
        with pytest.raises(SchemaVersionError, match="pgvmig init"):
            verb(connection)


def test_with_none_declared_the_worker_may_write(database, connection):
    with Pacer.open(database.dsn) as pacer:
        assert pacer.check().reason == "no standby is declared and none was declared absent"
        standbys.none(connection)
        found = pacer.wait(lambda: False)
    (lag,) = [reading for reading in found.readings if reading.kind == "replication lag"]
    assert (lag.state, found.may_write) == (SignalState.NOT_APPLICABLE, True)
    assert (pacer.peak_lag, pacer.peak_lag_bytes) == (None, None)

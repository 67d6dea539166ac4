"""A big index is begun in a calm moment only."""

from types import SimpleNamespace

import pytest
from lifecycle import add_version, install
from migrating import OwnProject
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from pgvmig.alembic_plugin import calm
from pgvmig.catalog import control, standbys
from pgvmig.errors import SignalError
from pgvmig.pacing import building

INDEXES = "SELECT count(*) FROM pg_indexes WHERE indexname = 'documents_embedding_v2_hnsw'"


@pytest.fixture
def big(monkeypatch):
    """Every table is a big one, and nobody waits for long."""
    monkeypatch.setattr(building, "BIG", 0)
    monkeypatch.setenv("PGVMIG_PACING_PATIENCE", "1s")


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    add_version(connection, "documents", "v2")
    return connection


@pytest.fixture
def project(database, tmp_path, connection):
    project = OwnProject(database.url, tmp_path / "alembic")
    project.revision("op.index_embedding('documents', 'v2')", "op.drop_embedding_index('documents', 'v2')")
    return project


def test_undeclared_standbys_hold_it_up_and_it_can_be_told_not_to_ask(big, project, connection):
    with pytest.raises(SignalError) as raised:
        project.upgrade()
    assert raised.value.found.startswith(
        "the index of documents v2 is not begun: waited 0 s, replication lag is UNKNOWN"
    )
    assert raised.value.next_step == (
        "pgvmig standby add NAME | pgvmig standby none; alembic -x pgvmig_calm=off upgrade ... builds it now"
    )
    assert connection.execute(INDEXES).fetchone() == (0,)
    project.upgrade("head", "pgvmig_calm=off")
    assert connection.execute(INDEXES).fetchone() == (1,)


def test_a_pause_holds_it_up(big, project, connection):
    standbys.none(connection)
    control.pause(connection, control.scope(connection, "documents"), "a sale")
    with pytest.raises(SignalError, match=r"documents was paused by \w+: a sale"):
        project.upgrade()
    assert connection.execute(INDEXES).fetchone() == (0,)
    control.resume(connection, control.scope(connection, "documents"))
    project.upgrade()
    assert connection.execute(INDEXES).fetchone() == (1,)


def test_a_small_table_is_not_asked_about(project, connection):
    project.upgrade()
    assert connection.execute(INDEXES).fetchone() == (1,)


def test_an_index_that_is_there_is_not_waited_for(big, project, connection):
    standbys.none(connection)
    project.upgrade()
    project.downgrade("base")
    project.upgrade()
    control.pause(connection, control.EVERYTHING)
    connection.execute("DELETE FROM my_revisions")
    project.upgrade()


def test_the_connection_string_of_another_driver():
    info = SimpleNamespace(dsn_parameters={"host": "h", "dbname": "d"}, password="p")
    assert conninfo_to_dict(calm.dsn_of(_connection(info=info))) == {"host": "h", "dbname": "d", "password": "p"}
    url = make_url("postgresql+asyncpg://u:p%40w@h:5433/d")
    assert calm.dsn_of(_connection(url=url)) == "postgresql://u:p%40w@h:5433/d"


def _connection(url=None, **driver):
    pooled = SimpleNamespace(driver_connection=SimpleNamespace(**driver))
    return SimpleNamespace(connection=pooled, engine=SimpleNamespace(url=url))

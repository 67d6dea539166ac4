"""The search helper leaves nothing behind in the sessions, roles and servers that it reads with."""

import psycopg
import pytest
from lifecycle import add_version, install
from psycopg import errors as pg
from psycopg import sql
from psycopg.pq import TransactionStatus
from searching import DIMENSIONS, TEXTS, V1, ids, ranking, vectors
from vectors import cut_over, write

from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel
from pgvmig.errors import DatabaseError
from pgvmig.reading import Searcher

pytestmark = pytest.mark.layouts


@pytest.mark.majors(18, 16)
@pytest.mark.parametrize("loaded", [True, False])
def test_callers_transaction_stays_the_callers(database, versions, embedders, loaded):
    connection = database.connect()
    connection.execute("UPDATE pgvmig.version SET search = '{\"ef_search\": 77}'")
    reader = database.connect(autocommit=False)
    if loaded:  # until then PostgreSQL does not know pgvector's settings
        reader.execute("LOAD 'vector'")
    reader.execute("SET LOCAL hnsw.ef_search = 33")
    reader.execute("UPDATE documents SET tenant = 'mine' WHERE id = 1")
    with Searcher(reader, "documents", open_embedder=embedders) as searcher:
        (row,) = searcher.search("q", columns=["id"], where="tenant = 'mine'").rows
        assert row["id"] == 1
        with pytest.raises(DatabaseError):
            searcher.search("q", columns=["nonsense"])
    assert settings(reader) == ("33", "off")
    assert reader.info.transaction_status == TransactionStatus.INTRANS
    assert connection.execute("SELECT count(*) FROM documents WHERE tenant = 'mine'").fetchone() == (0,)
    reader.rollback()
    assert reader.execute("SELECT count(*) FROM documents WHERE tenant = 'mine'").fetchone() == (0,)


def settings(connection):
    return connection.execute(
        "SELECT current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan')"
    ).fetchone()


def test_no_transaction_is_open_while_the_provider_is_asked(database, versions, embedders):
    for options in ({"autocommit": False}, {"autocommit": True}):
        reader = database.connect(**options)
        seen = []
        embedders.before_answer.append(lambda: seen.append(reader.info.transaction_status))  # noqa: B023
        with Searcher(reader, "documents", open_embedder=embedders) as searcher:
            searcher.search("q")
        assert seen == [TransactionStatus.IDLE]
        assert reader.info.transaction_status == TransactionStatus.IDLE
        assert settings(reader) == ("40", "off")


def test_aborted_transaction_is_an_error_and_no_retry(database, versions, embedders):
    reader = database.connect(autocommit=False)
    with pytest.raises(pg.DivisionByZero):
        reader.execute("SELECT 1 / 0")
    with (
        Searcher(reader, "documents", open_embedder=embedders) as searcher,
        pytest.raises(DatabaseError, match="current transaction is aborted"),
    ):
        searcher.search("q")
    assert embedders.asked == []


def test_callers_row_factory_and_prepared_statements_do_not_matter(database, versions, embedders):
    reader = database.connect(row_factory=psycopg.rows.dict_row, prepare_threshold=0)
    reader.execute("SELECT 1 AS one", prepare=True)
    with Searcher(reader, "documents", open_embedder=embedders) as searcher:
        assert ids(searcher.search("q")) == ranking(versions[0].contract, "q")
    kept = reader.execute("SELECT count(*) AS n FROM pg_prepared_statements WHERE statement = 'SELECT 1 AS one'")
    assert kept.fetchone() == {"n": 1}


def test_own_connection_of_a_dsn_comes_back(database, connection, versions, embedders):
    with Searcher(database.dsn, "documents", open_embedder=embedders) as searcher:
        assert searcher.search("q").version == "v1"
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgvmig search' "
            "AND datname = current_database()"
        )
        with pytest.raises(DatabaseError):
            searcher.search("q")
        assert searcher.search("q").version == "v1"
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgvmig search' AND state = 'active'"
    assert connection.execute(left).fetchone() == (0,)


def test_vectors_are_remembered_by_space_and_text(database, connection, versions, embedders):
    with Searcher(database.connect(), "documents", open_embedder=embedders, remember=2) as searcher:
        for text in ("a", "a", "b", "a"):
            searcher.search(text)
        assert embedders.asked == [("one", "a"), ("one", "b")]
        cut_over(connection, versions[1])
        searcher.search("a")
        assert embedders.asked[2:] == [("two", "a")]
        searcher.search("b", version="v1")
        assert embedders.asked[3:] == [("one", "b")]
    assert embedders.opened == embedders.closed[::-1] == ["one", "two"]


def test_a_failed_embedding_is_not_remembered(searcher, embedders):
    def fail():
        raise TimeoutError("provider")

    embedders.before_answer.append(fail)
    with pytest.raises(TimeoutError):
        searcher.search("q")
    assert searcher.search("q").version == "v1"


# Whose rows


@pytest.fixture
def role(connection):
    name = f"{connection.info.dbname}_service"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_an_ordinary_role_under_row_level_security(database, connection, role, embedders):
    connection.execute(sql.SQL("GRANT SELECT ON documents TO {}").format(sql.Identifier(role)))
    version = add_version(connection, "documents", "v1", V1)
    write(connection, version, vectors(version.contract))
    cut_over(connection, version)
    connection.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    connection.execute("CREATE POLICY even ON documents USING (id % 2 = 0)")
    reader = database.connect()
    reader.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    with Searcher(reader, "documents", open_embedder=embedders) as searcher:
        found = ids(searcher.search("q"))
    assert found == [number for number in ranking(version.contract, "q", 20) if number % 2 == 0]


def test_without_select_on_the_table_there_is_no_search(database, connection, versions, role, embedders):
    reader = database.connect()
    reader.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    with (
        Searcher(reader, "documents", open_embedder=embedders) as searcher,
        pytest.raises(DatabaseError, match="permission denied for view documents_v1"),
    ):
        searcher.search("q")


# Providers from the configuration, and a standby


def test_provider_comes_from_the_configuration(connection, monkeypatch, tmp_path):
    version = add_version(connection, "documents", "v1", V1 | {"query_prefix": "query: "})
    own = dict(zip(TEXTS, HashModel("one", DIMENSIONS).embed(list(TEXTS.values())), strict=True))
    write(connection, version, own)
    cut_over(connection, version)
    monkeypatch.chdir(tmp_path)
    with serving({"new": HashModel("one", DIMENSIONS)}) as server:
        monkeypatch.setenv("PGVMIG_NEW_BASE_URL", server.base_url("new"))
        with Searcher(connection, "documents") as searcher:
            result = searcher.search("q", limit=20)
        assert [request.texts for request in server.requests] == [("query: q",)]
    (query,) = HashModel("one", DIMENSIONS).embed(["query: q"])
    assert ids(result) == sorted(own, key=lambda number: -float(own[number] @ query))


@pytest.mark.standby
def test_a_standby_answers_as_well(replicated_database, embedders):
    primary = replicated_database.connect()
    install(primary)
    primary.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    with primary.cursor() as cursor:
        cursor.executemany("INSERT INTO documents (id, body) VALUES (%s, %s)", TEXTS.items())
    version = add_version(primary, "documents", "v1", V1)
    write(primary, version, vectors(version.contract))
    cut_over(primary, version)
    replicated_database.wait_for_replay()
    with Searcher(replicated_database.standby_dsn, "documents", open_embedder=embedders) as searcher:
        assert ids(searcher.search("q", where="id > 0")) == ranking(version.contract, "q")

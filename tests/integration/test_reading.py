"""The search helper: one space from resolving to ranking, whatever happens in between, and nothing left behind."""

import threading
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
from lifecycle import add_version, install
from psycopg import errors as pg
from psycopg import sql
from psycopg.pq import TransactionStatus
from vectors import cut_over, literal, write

from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel
from pgvmig.errors import DatabaseError, NotFoundError, UsageError
from pgvmig.reading import Searcher

pytestmark = pytest.mark.layouts

DIMENSIONS = 8
V1 = {"model": "one", "dimensions": DIMENSIONS}
V2 = {"model": "two", "dimensions": DIMENSIONS}
TEXTS = {number: f"text number {number}" for number in range(1, 21)}


def model(contract):
    """Return the model of a contract: another name, prefix or length is another space."""
    return HashModel(contract.model, contract.dimensions, salt=contract.query_prefix)


def vectors(contract, texts=TEXTS):
    return dict(zip(texts, model(contract).embed(list(texts.values())), strict=True))


def ranking(contract, text, limit=10):
    """Return the ids that exact cosine search must find."""
    (query,) = model(contract).embed([text])
    all_vectors = vectors(contract)
    return sorted(all_vectors, key=lambda number: -float(all_vectors[number] @ query))[:limit]


class Embedders:
    """Opens embedders that remember what they were asked; `before_answer` happens while a query is embedded."""

    def __init__(self):
        self.opened = []
        self.closed = []
        self.asked = []
        self.before_answer = []

    def __call__(self, contract):
        self.opened.append(contract.model)
        return _Embedder(self, contract)


class _Embedder:
    def __init__(self, owner, contract):
        self.owner, self.contract = owner, contract

    def embed_query(self, text):
        self.owner.asked.append((self.contract.model, text))
        if self.owner.before_answer:
            self.owner.before_answer.pop(0)()
        return model(self.contract).embed([text])[0]

    def close(self):
        self.owner.closed.append(self.contract.model)


class Pool:
    """The little of psycopg_pool.ConnectionPool that a searcher uses."""

    def __init__(self, database, **options):
        self.idle = [database.connect(**options) for _ in range(3)]
        self.most = threading.Semaphore(3)

    @contextmanager
    def connection(self):
        with self.most:
            connection = self.idle.pop()
            try:
                yield connection
            finally:
                assert connection.info.transaction_status == TransactionStatus.IDLE
                self.idle.append(connection)


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, tenant text DEFAULT 'a', body text)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO documents (id, body) VALUES (%s, %s)", TEXTS.items())
    return connection


@pytest.fixture
def versions(connection):
    """v1 and v2, of the same dimensions, complete; v1 is active."""
    found = []
    for name, contract in (("v1", V1), ("v2", V2)):
        version = add_version(connection, "documents", name, contract)
        write(connection, version, vectors(version.contract))
        found.append(version)
    cut_over(connection, found[0])
    return found


@pytest.fixture
def embedders():
    return Embedders()


@pytest.fixture
def searcher(database, versions, embedders):
    """On a connection of its own, as psycopg opens it by default: not in autocommit mode."""
    with Searcher(database.connect(autocommit=False), "documents", open_embedder=embedders) as searcher:
        yield searcher


def ids(result):
    return [row["id"] for row in result.rows]


def retire(connection, version):
    connection.execute("SELECT pgvmig.retire(%s::oid, %s)", (version.relation, version.version))


def replace(connection, name, contract):
    """Drop a version with its vectors and add another contract's under the same name."""
    connection.execute("SELECT pgvmig.drop_version('documents', %s, destroy => true)", (name,))
    version = add_version(connection, "documents", name, contract)
    write(connection, version, vectors(version.contract))
    return version


# One space


@pytest.mark.majors(18, 16)
def test_active_version_is_searched_with_its_own_model(searcher, versions):
    result = searcher.search("what is it?", limit=5)
    v1 = versions[0].contract
    assert (result.version, result.model, result.model_version) == ("v1", "one", "1")
    assert result.fingerprint == v1.fingerprint
    assert ids(result) == ranking(v1, "what is it?", 5)
    (query,) = model(v1).embed(["what is it?"])
    expected = [1 - float(vectors(v1)[number] @ query) for number in ids(result)]
    assert [row["distance"] for row in result.rows] == pytest.approx(expected, abs=1e-6)
    assert set(result.rows[0]) == {"id", "distance"}


def test_after_a_cutover_it_searches_the_other(searcher, connection, versions):
    assert ids(searcher.search("q")) == ranking(versions[0].contract, "q")
    cut_over(connection, versions[1])
    result = searcher.search("q")
    assert result.version == "v2"
    assert ids(result) == ranking(versions[1].contract, "q")


@pytest.mark.majors(18, 16)
def test_cutover_while_the_query_is_embedded(searcher, connection, versions, embedders):
    embedders.before_answer.append(lambda: cut_over(connection, versions[1]))
    result = searcher.search("q")
    assert result.version == "v1"
    assert ids(result) == ranking(versions[0].contract, "q")
    assert searcher.search("q").version == "v2"


@pytest.mark.majors(18, 16)
def test_version_retired_while_the_query_is_embedded(searcher, connection, versions, embedders):
    def switch_and_retire():
        cut_over(connection, versions[1])
        retire(connection, versions[0])

    embedders.before_answer.append(switch_and_retire)
    result = searcher.search("q")
    assert embedders.asked == [("one", "q"), ("two", "q")]
    assert result.version == "v2"
    assert ids(result) == ranking(versions[1].contract, "q")


@pytest.mark.parametrize("prepare", [None, 0])
@pytest.mark.parametrize("other", [{"model": "three"}, {"dimensions": 4}, {"query_prefix": "query: "}])
def test_version_replaced_under_its_name_while_the_query_is_embedded(database, versions, embedders, other, prepare):
    connection, reader = database.connect(), database.connect(prepare_threshold=prepare)
    with Searcher(reader, "documents", open_embedder=embedders, remember=0) as searcher:
        for _ in range(7):
            assert ids(searcher.search("q", version="v2")) == ranking(versions[1].contract, "q")
        replaced = []
        embedders.before_answer.append(lambda: replaced.append(replace(connection, "v2", V2 | other)))
        result = searcher.search("q", version="v2")
        assert result.fingerprint == replaced[0].contract.fingerprint
        assert ids(result) == ranking(replaced[0].contract, "q")
        assert ids(searcher.search("q", version="v2")) == ranking(replaced[0].contract, "q")


def test_replaced_again_and_again_it_gives_up(searcher, connection, versions, embedders):
    embedders.before_answer += [lambda n=n: replace(connection, "v2", V2 | {"model": f"m{n}"}) for n in range(3)]
    with pytest.raises(NotFoundError, match="the view of documents v2 is gone"):
        searcher.search("q", version="v2")
    assert [name for name, _ in embedders.asked] == ["two", "m0", "m1"]


def test_finding_nothing_is_an_answer(searcher, embedders):
    assert searcher.search("q", where="id > 1000").rows == []
    assert len(embedders.asked) == 1


@pytest.mark.majors(18, 16)
def test_repeatable_read_keeps_to_its_snapshots_version(database, connection, versions, embedders):
    reader = database.connect(autocommit=False)
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with Searcher(reader, "documents", open_embedder=embedders) as searcher, reader.transaction():
        reader.execute("SELECT FROM documents")
        cut_over(connection, versions[1])
        result = searcher.search("q")
        assert result.version == "v1"
        assert ids(result) == ranking(versions[0].contract, "q")
    with reader.transaction():
        assert Searcher(reader, "documents", open_embedder=embedders).search("q").version == "v2"


def test_repeatable_read_whose_version_was_retired_says_so(database, connection, versions, embedders):
    reader = database.connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT FROM pgvmig.version")
    cut_over(connection, versions[1])
    retire(connection, versions[0])
    with Searcher(reader, "documents", open_embedder=embedders) as searcher:
        with pytest.raises(NotFoundError) as caught:
            searcher.search("q")
        assert str(caught.value) == (
            "the view of documents v1 is gone. A REPEATABLE READ transaction that began before the version was retired "
            "still calls it the active one. Next: search again in a new transaction"
        )
        assert reader.execute("SELECT 'still usable'").fetchone() == ("still usable",)
        reader.execute("COMMIT")
        assert searcher.search("q").version == "v2"


def test_prepared_statements_survive_cutovers(database, connection, versions, embedders):
    reader = database.connect(prepare_threshold=0)
    with Searcher(reader, "documents", open_embedder=embedders) as searcher:
        for number in range(12):
            expected = versions[number % 2]
            cut_over(connection, expected)
            result = searcher.search("q")
            assert result.version == expected.version
            assert ids(result) == ranking(expected.contract, "q")
    searches = reader.execute(
        "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE %s", ("%AS distance%",)
    ).fetchall()
    assert searches == [(6,), (6,)]


def test_threads_on_a_pool_while_versions_switch(database, connection, versions, embedders):
    stop = threading.Event()
    answers, errors = [], []

    def search(number):
        while not stop.is_set():
            try:
                answers.append((f"q{number}", searcher.search(f"q{number}", columns=["id", "embedding"])))
            except Exception as error:  # noqa: BLE001  # whatever it is, the test must hear of it
                errors.append(error)

    with Searcher(Pool(database, prepare_threshold=0), "documents", open_embedder=embedders) as searcher:
        threads = [threading.Thread(target=search, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for number in range(20):
            cut_over(connection, versions[(number + 1) % 2])
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    by_name = {version.version: version for version in versions}
    assert {result.version for _, result in answers} == set(by_name)
    for text, result in answers:
        contract = by_name[result.version].contract
        assert ids(result) == ranking(contract, text)
        for row in result.rows:
            own = vectors(contract)[row["id"]]
            assert np.array_equal(np.array(row["embedding"][1:-1].split(","), dtype=np.float32), own)


# Which version


def test_a_version_may_be_named_before_it_is_active(searcher, versions):
    result = searcher.search("q", version="v2")
    assert (result.version, ids(result)) == ("v2", ranking(versions[1].contract, "q"))


def test_a_key_goes_where_the_route_says(searcher, connection, versions):
    assert searcher.search("q", key="customer 7").version == "v1"
    cut_over(connection, versions[1])
    assert searcher.search("q", key="customer 7").version == "v2"


def test_retired_and_unknown_versions(searcher, connection, versions):
    retire(connection, versions[1])
    with pytest.raises(NotFoundError) as caught:
        searcher.search("q", version="v2")
    assert str(caught.value) == "documents v2 is retired. Next: leave version= out to search the active one"
    with pytest.raises(NotFoundError, match="documents has no version v9"):
        searcher.search("q", version="v9")


def test_no_active_version(searcher, connection, versions):
    connection.execute("SELECT pgvmig.roll_back('documents')")
    with pytest.raises(NotFoundError) as caught:
        searcher.search("q")
    assert str(caught.value) == (
        "documents has no active version. Nobody has said yet which version's vectors are complete enough to search. "
        "Next: pgvmig cutover documents VERSION, or search version="
    )
    with pytest.raises(NotFoundError, match="documents has no active version"):
        searcher.search("q", key="k")
    cut_over(connection, versions[1])
    assert searcher.search("q").version == "v2"


def test_unknown_target(database, versions, embedders):
    with (
        Searcher(database.connect(), "nothing", open_embedder=embedders) as searcher,
        pytest.raises(NotFoundError, match="pgvmig has no versions of nothing"),
    ):
        searcher.search("q")


def test_a_table_made_anew_under_its_name(searcher, connection, versions):
    assert searcher.search("q").version == "v1"
    connection.execute("SELECT pgvmig.roll_back('documents')")
    for version in versions:
        connection.execute("SELECT pgvmig.drop_version('documents', %s, destroy => true)", (version.version,))
    connection.execute("ALTER TABLE documents RENAME TO old_documents")
    connection.execute("CREATE TABLE documents (LIKE old_documents INCLUDING ALL)")
    connection.execute("INSERT INTO documents SELECT * FROM old_documents")
    again = add_version(connection, "documents", "v1", V2)
    write(connection, again, vectors(again.contract))
    cut_over(connection, again)
    with pytest.raises(NotFoundError):
        searcher.search("q")
    assert ids(searcher.search("q")) == ranking(again.contract, "q")


# What is asked for


def test_columns_limit_and_condition(searcher, connection):
    connection.execute("UPDATE documents SET tenant = 'b' WHERE id <= 4")
    result = searcher.search(
        "q", limit=3, columns=["body", "embedding_space"], where="tenant = %(tenant)s", parameters={"tenant": "b"}
    )
    assert len(result.rows) == 3
    assert {row["embedding_space"] for row in result.rows} == {"v1"}
    assert {row["body"] for row in result.rows} < {TEXTS[number] for number in range(1, 5)}
    assert set(result.rows[0]) == {"body", "embedding_space", "distance"}


def test_a_condition_is_one_condition(searcher, versions):
    # Without parentheses its OR would take the rest of the WHERE clause with it.
    found = ids(searcher.search("q", limit=20, where="id = 3 OR id = 5"))
    assert found == [number for number in ranking(versions[0].contract, "q", 20) if number in (3, 5)]


def test_a_composed_condition(searcher):
    condition = sql.SQL("{} = ANY (%(wanted)s) AND body LIKE 'text {{}}%%'").format(sql.Identifier("id"))
    assert searcher.search("q", where=condition, parameters={"wanted": [2, 4]}).rows == []
    condition = sql.SQL("{} = ANY (%(wanted)s) AND body LIKE 'text %%'").format(sql.Identifier("id"))
    assert sorted(ids(searcher.search("q", where=condition, parameters={"wanted": [2, 4]}))) == [2, 4]


def test_what_cannot_be_asked_for(searcher, embedders):
    with pytest.raises(UsageError, match="limit is 0"):
        searcher.search("q", limit=0)
    with pytest.raises(UsageError, match="distance is what the result calls the distance"):
        searcher.search("q", columns=["id", "distance"])
    assert embedders.asked == []
    with pytest.raises(DatabaseError, match=r"column w\.nonsense does not exist"):
        searcher.search("q", columns=["nonsense"])
    with pytest.raises(DatabaseError, match='relation "nonsense" does not exist'):
        searcher.search("q", where="id IN (SELECT id FROM nonsense)")


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
@pytest.mark.parametrize(
    ("metric", "distance"),
    [
        ("cosine", lambda a, b: 1 - a @ b),
        ("l2", lambda a, b: np.linalg.norm(a - b)),
        ("inner_product", lambda a, b: -(a @ b)),
        ("l1", lambda a, b: np.abs(a - b).sum()),
    ],
)
def test_metric_and_vector_type_are_the_contracts(connection, embedders, metric, distance, vector_type):
    version = add_version(connection, "documents", "v1", V1 | {"metric": metric, "vector_type": vector_type})
    write(connection, version, vectors(version.contract))
    cut_over(connection, version)
    with Searcher(connection, "documents", open_embedder=embedders) as searcher:
        result = searcher.search("q", limit=20)
    (query,) = model(version.contract).embed(["q"])
    expected = {number: float(distance(vector, query)) for number, vector in vectors(version.contract).items()}
    assert {row["id"]: row["distance"] for row in result.rows} == pytest.approx(expected, abs=5e-3)
    assert [row["distance"] for row in result.rows] == sorted(row["distance"] for row in result.rows)


@pytest.mark.parametrize("target", ['"My App"."Docs %s"."head""line"', '"My App"."Docs %s"'])
def test_names_that_need_quotes(connection, embedders, target):
    connection.execute("CREATE SCHEMA extensions")
    connection.execute("ALTER EXTENSION vector SET SCHEMA extensions")
    connection.execute('CREATE SCHEMA "My App"')
    connection.execute('CREATE TABLE "My App"."Docs %s" ("The Key" bigint PRIMARY KEY, body text)')
    connection.execute('INSERT INTO "My App"."Docs %s" SELECT id, body FROM documents')
    slot = 'head"line' if "head" in target else "embedding"
    version = add_version(connection, "Docs %s", "v1", V1, schema="My App", slot=slot)
    write(connection, version, vectors(version.contract))
    cut_over(connection, version)
    with Searcher(connection, target, open_embedder=embedders) as searcher:
        result = searcher.search("q", where='"The Key" < 100')
    assert [row["The Key"] for row in result.rows] == ranking(version.contract, "q")


def test_a_composite_key_is_returned_whole(connection, embedders):
    connection.execute("CREATE TABLE parts (document bigint, part text, body text, PRIMARY KEY (part, document))")
    connection.execute("INSERT INTO parts SELECT id, 'p', body FROM documents WHERE id = 1")
    version = add_version(connection, "parts", "v1", V1)
    write(connection, version, {"p": vectors(version.contract)[1]})
    cut_over(connection, version)
    with Searcher(connection, "parts", open_embedder=embedders) as searcher:
        (row,) = searcher.search("q").rows
    assert (row["part"], row["document"]) == ("p", 1)


# The index


@pytest.fixture
def indexed(connection, versions):
    """v1 with 500 more rows of 20 tenants, an HNSW index, and a planner that uses it."""
    more = {number: f"more of it, number {number}" for number in range(1000, 1500)}
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO documents (id, tenant, body) VALUES (%s, %s, %s)",
            [(number, f"t{number % 20}", text) for number, text in more.items()],
        )
    write(connection, versions[0], vectors(versions[0].contract, more))
    home = f"{versions[0].vector_table_name} USING hnsw ({versions[0].vector_column} vector_cosine_ops)"
    connection.execute(f"CREATE INDEX searched ON {home}")
    connection.execute("ANALYZE")
    connection.execute("SET enable_seqscan = off")
    connection.execute("SET enable_sort = off")
    return connection


def plain(connection, condition, limit):
    """Return how many rows the same search finds without the helper, and its plan."""
    (query,) = HashModel(V1["model"], DIMENSIONS).embed(["q"])
    statement = f"SELECT id FROM documents_v1 WHERE {condition} ORDER BY embedding <=> %s::vector LIMIT {limit}"
    plan = connection.execute("EXPLAIN " + statement, (literal(query),)).fetchall()
    return len(connection.execute(statement, (literal(query),)).fetchall()), str(plan)


@pytest.mark.majors(18, 16)
@pytest.mark.parametrize(("condition", "limit", "expected"), [("tenant = 't7'", 20, 20), ("true", 200, 200)])
def test_index_scan_goes_on_until_the_limit_is_reached(indexed, embedders, condition, limit, expected):
    found, plan = plain(indexed, condition, limit)
    assert "searched" in plan
    assert found < expected
    with Searcher(indexed, "documents", open_embedder=embedders) as searcher:
        result = searcher.search("q", limit=limit, where=condition)
    assert len(result.rows) == expected
    assert [row["distance"] for row in result.rows] == sorted(row["distance"] for row in result.rows)


def test_helpers_query_is_planned_with_the_index(indexed, embedders):
    with Searcher(indexed, "documents", open_embedder=embedders) as searcher:
        searcher.search("q")
    used = indexed.execute("SELECT pg_stat_force_next_flush()").fetchone()
    assert used is not None
    scans = indexed.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'searched'").fetchone()
    assert scans == (1,)


def test_search_settings_of_the_version_are_used(searcher, connection):
    connection.execute(
        "UPDATE pgvmig.version SET search = %s WHERE version = 'v1'",
        ('{"ef_search": 77, "probes": 5, "iterative_scan": "relaxed_order", "label": "not a setting"}',),
    )
    condition = (
        "current_setting('hnsw.ef_search') = '77' AND current_setting('ivfflat.probes') = '5' "
        "AND current_setting('hnsw.iterative_scan') = 'relaxed_order'"
    )
    assert len(searcher.search("q", where=condition).rows) == 10


# Nothing left behind


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

"""The search helper: one space from resolving to ranking, whatever happens in between."""

import threading

import numpy as np
import psycopg
import pytest
from lifecycle import add_version
from searching import V2, Pool, ids, model, ranking, replace, retire, vectors
from vectors import cut_over, write

from pgvmig.errors import NotFoundError
from pgvmig.reading import Searcher

pytestmark = pytest.mark.layouts


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
    connection.execute("SELECT pgvmig.roll_back('documents', 'v1')")
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
    connection.execute("SELECT pgvmig.roll_back('documents', 'v1')")
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

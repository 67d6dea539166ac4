"""Every vector type, metric, access method and quantisation: built, proved by plans, switched to, searched, dropped."""

from dataclasses import replace

import numpy as np
import psycopg
import pytest
from lifecycle import add_version
from vectors import cut_over, write

from pgvmig import indexing, smoke
from pgvmig.address import address
from pgvmig.checks import gates
from pgvmig.checks.evidence import Options
from pgvmig.checks.verify import verify
from pgvmig.contract import METRICS
from pgvmig.errors import UsageError
from pgvmig.evaluation.judged import Query
from pgvmig.evaluation.searching import Side
from pgvmig.reading import Searcher
from pgvmig.runner import ConnectionRunner
from pgvmig.space import find_space
from pgvmig.terms import Terms

DIMENSIONS = 64
ROWS = 150
V1 = address("documents", "v1")
QUERY = np.ones(DIMENSIONS) / np.sqrt(DIMENSIONS)

SERVING = """
    SELECT pgvmig.serving_index(v, k.definition)::text,
           pgvmig.serving_index(v, k.definition, 'documents_current')::text,
           ARRAY(SELECT i.index::text FROM pgvmig.vector_indexes(v) AS i)
    FROM pgvmig.version v JOIN pgvmig.contract k USING (fingerprint) WHERE v.version = %s
"""


class Fixed:
    """An embedder that makes one vector of every query."""

    def __init__(self, vector):
        self.vector = vector

    def embed_query(self, _text):
        return self.vector

    def close(self):
        pass


def unit_vectors(rows=ROWS, dimensions=DIMENSIONS, seed=1):
    """Return vectors of unit length by key, in no direction more than in another."""
    random = np.random.default_rng(seed).normal(size=(rows, dimensions))
    return dict(enumerate(random / np.linalg.norm(random, axis=1, keepdims=True), start=1))


VECTORS = unit_vectors()


def distances(metric, query, vectors):
    """Return what the metric's operator gives, by key."""
    by = {
        "cosine": lambda v: 1 - v @ query,
        "inner_product": lambda v: -(v @ query),
        "l2": lambda v: np.linalg.norm(v - query),
        "l1": lambda v: np.abs(v - query).sum(),
    }[metric]
    return {key: float(by(vector)) for key, vector in vectors.items()}


def nearest(metric, vectors, limit=10):
    found = distances(metric, QUERY, vectors)
    return sorted(found, key=found.__getitem__)[:limit]


def forms(vector_type):
    """Return metric, method and quantisation, each combination that there is."""
    for metric in METRICS:
        for method in ("hnsw",) if metric == "l1" else ("hnsw", "ivfflat"):
            for quantize in (None, "halfvec", "binary"):
                if (quantize, vector_type) != ("halfvec", "halfvec") and (quantize, metric) != ("binary", "l1"):
                    yield metric, method, quantize


@pytest.fixture
def connection(database):
    connection = database.connect()
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text, tenant int)")
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i, i %% 7 FROM generate_series(1, %s) AS i", [ROWS])
    return connection


def search(connection, limit=10, **options):
    with Searcher(connection, "documents", open_embedder=lambda _: Fixed(QUERY)) as searcher:
        return searcher.search("anything", limit=limit, **options).rows


def plan_of(connection, version):
    """Return which indexes a search of the helper's is planned with, through the version's view."""
    space = find_space(connection, version.relation, version.slot, version.version)
    statement = space.statement(["id"], psycopg.sql.SQL("true"))
    literal = "[" + ",".join(map(str, QUERY)) + "]"
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        rows = connection.execute(
            psycopg.sql.SQL("EXPLAIN (COSTS OFF) ") + statement, {"pgvmig_query": literal, "pgvmig_limit": 10}
        ).fetchall()
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize(
    ("layout", "vector_type", "pg_major"),
    [
        ("column", "vector", 18),
        ("table", "halfvec", 18),
        pytest.param("table", "vector", 16, marks=pytest.mark.pg16),
        pytest.param("column", "halfvec", 16, marks=pytest.mark.pg16),
    ],
)
def test_each_form_serves_both_views_and_the_search_helper(connection, vector_type):
    """One form after another on an active version: its index serves both views, and what the helper searches with."""
    run = ConnectionRunner(connection)
    for number, metric in enumerate(METRICS, start=1):
        contract = {"metric": metric, "vector_type": vector_type, "dimensions": DIMENSIONS}
        version = add_version(connection, "documents", f"v{number}", contract)
        where = address("documents", version.version)
        write(connection, version, VECTORS)
        cut_over(connection, version)
        expected = distances(metric, QUERY, VECTORS)
        for other, method, quantize in forms(vector_type):
            if other != metric:
                continue
            case = (metric, method, quantize)
            assert indexing.build(run, where, method=method, quantize=quantize), case
            assert not indexing.build(run, where, method=method, quantize=quantize), case
            index = f"documents_embedding_{version.version}_{method}"
            assert connection.execute(SERVING, [version.version]).fetchone() == (index, index, [index]), case
            assert f"Index Scan using {index}" in plan_of(connection, version), case
            rows = search(connection)
            found = [row["distance"] for row in rows]
            by_key = [expected[row["id"]] for row in rows]
            assert found == pytest.approx(by_key, abs=2e-3 if vector_type == "halfvec" else 1e-6), case
            assert found == sorted(found), case
            assert len({row["id"] for row in rows} & set(nearest(metric, VECTORS))) >= 9, case
        (gate,) = [g for g in gates.check(run, version.version_id) if g.gate == "index"]
        assert (gate.passed, gate.measured["index"]) == (True, f"public.{index}")
        indexing.drop(run, where, method=method, version_stays=True)
        assert indexing.planned(run, where) is None


@pytest.mark.layouts
@pytest.mark.parametrize(
    ("contract", "quantize", "alone"),
    [
        ({"dimensions": 3072, "vector_type": "vector"}, "halfvec", "Next: quantize='halfvec' or quantize='binary'"),
        ({"dimensions": 5000}, "binary", "Next: quantize='binary'"),
    ],
)
def test_more_dimensions_than_an_index_takes(connection, contract, quantize, alone):
    version = add_version(connection, "documents", "v1", contract)
    vectors = unit_vectors(20, contract["dimensions"])
    connection.execute("DELETE FROM documents WHERE id > 20")
    write(connection, version, vectors)
    run = ConnectionRunner(connection)
    with pytest.raises(UsageError) as raised:
        indexing.build(run, V1)
    assert str(raised.value).endswith(alone)
    assert indexing.planned(run, V1) is None
    indexing.build(run, V1, quantize=quantize)
    (gate,) = [g for g in gates.check(run, version.version_id) if g.gate == "index"]
    assert gate.passed


@pytest.mark.layouts
def test_services_are_told_how_to_ask_a_quantised_index(connection):
    """What active_space() says is enough to write the SQL of docs/indexes.md; set_search() cannot say otherwise."""
    version = add_version(connection, "documents", "v1", {"dimensions": DIMENSIONS})
    write(connection, version, VECTORS)
    run = ConnectionRunner(connection)
    cut_over(connection, version)

    def told():
        return connection.execute("SELECT search FROM pgvmig.active_space('documents')").fetchone()[0]

    assert told() == {}
    indexing.build(run, V1)
    assert told() == {}
    indexing.build(run, V1, quantize="binary")
    assert told() == {"quantize": "binary", "oversample": 10}
    connection.execute("""SELECT pgvmig.set_search('documents', 'v1', '{"oversample": 5}')""")
    assert told() == {"quantize": "binary", "oversample": 5}
    settings = find_space(connection, version.relation, "embedding", "v1").settings(50)
    assert settings["hnsw.ef_search"] == "250"
    indexing.build(run, V1, quantize="halfvec")
    assert told() == {"quantize": "halfvec", "oversample": 5}
    connection.execute("SELECT pgvmig.set_search('documents', 'v1', '{}')")
    indexing.build(run, V1, method="ivfflat", options={"lists": 10})
    assert told() == {"method": "ivfflat", "probes": 4}
    connection.execute("""SELECT pgvmig.set_search('documents', 'v1', '{"probes": 2}')""")
    assert told() == {"method": "ivfflat", "probes": 2}
    for wrong in ('{"quantize": "binary"}', '{"oversample": 0}', '{"oversample": 101}'):
        with pytest.raises(psycopg.Error, match="search settings that cannot be") as raised:
            connection.execute("SELECT pgvmig.set_search('documents', 'v1', %s)", [wrong])
        assert "oversample 1 to 100" in raised.value.diag.message_hint
        assert "quantize is what the index is" in raised.value.diag.message_hint


@pytest.mark.layouts
@pytest.mark.parametrize(
    ("method", "options", "quantize"),
    [("hnsw", {}, None), ("ivfflat", {"lists": 40}, None), ("hnsw", {}, "binary"), ("hnsw", {}, "halfvec")],
    ids=["hnsw", "ivfflat", "binary", "halfvec"],
)
def test_a_filtered_search_returns_as_many_rows_as_were_asked_for(database, connection, method, options, quantize):
    """The condition holds for rows far from the query only. Without an iterative scan none of them would be found."""
    version = add_version(connection, "documents", "v1", {"dimensions": DIMENSIONS})
    write(connection, version, VECTORS)
    far = sorted(VECTORS, key=lambda key: VECTORS[key] @ QUERY)[:15]
    connection.execute("UPDATE documents SET tenant = -1 WHERE id = ANY (%s)", [far])
    indexing.build(ConnectionRunner(connection), V1, method=method, options=options, quantize=quantize)
    cut_over(connection, version)
    connection.execute("ANALYZE")
    reader = database.connect()
    reader.execute(
        "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off; SET hnsw.ef_search = 5"
    )
    asked = {"where": "w.tenant = %(tenant)s", "parameters": {"tenant": -1}}
    found = {row["id"] for row in search(reader, limit=4, **asked)}
    assert len(found) == 4
    assert found <= set(far)
    settings = {"iterative_scan": "off", "probes": 1, "oversample": 1}
    connection.execute("SELECT pgvmig.set_search('documents', 'v1', %s)", [psycopg.types.json.Jsonb(settings)])
    assert len(search(reader, limit=4, **asked)) < 4


def test_smoke_queries_and_evaluations_ask_in_the_form_of_the_index(connection):
    """A pilot compares every candidate, so it does without."""
    version = add_version(connection, "documents", "v1", {"dimensions": DIMENSIONS})
    write(connection, version, VECTORS)
    indexing.build(ConnectionRunner(connection), V1, quantize="binary")
    cut_over(connection, version)
    connection.execute("SET enable_seqscan = off; SET enable_sort = off")
    smoke.add(connection, "documents", "anything", str(nearest("cosine", VECTORS, 1)[0]))
    (outcome,) = smoke.run(connection, "documents", open_embedder=lambda _: Fixed(QUERY))
    assert (outcome.as_expected, outcome.error) == (True, None)
    assert connection.execute("SELECT sum(scans) FROM pgvmig.own_index_scan").fetchone() == (1,)
    space = find_space(connection, version.relation, "embedding", "v1")
    side = Side(version_id=version.version_id, space=space, key_columns=["id"])
    asked = Query(id="q", text="anything")
    assert '"binary_quantize"(w."embedding")::bit(64)' in side.statement(asked)
    assert side.settings(1, 20)["hnsw.ef_search"] == "200"
    pilot = replace(side, condition=psycopg.sql.SQL("true"))
    assert "binary_quantize" not in pilot.statement(asked)


def test_recall_is_that_of_the_search_that_ranks_again(connection):
    """A bit of each component alone would not do; its candidates ranked by the vectors do. The gate measures that."""
    rows = 500
    connection.execute(
        "INSERT INTO documents SELECT i, 'text ' || i, 0 FROM generate_series(%s::int, %s) AS i", [ROWS + 1, rows]
    )
    version = add_version(connection, "documents", "v1", {"dimensions": DIMENSIONS})
    write(connection, version, unit_vectors(rows))
    indexing.build(ConnectionRunner(connection), V1, quantize="binary")
    connection.execute("ANALYZE; SET enable_seqscan = off; SET enable_sort = off")

    def recall(**search):
        connection.execute("SELECT pgvmig.set_search('documents', 'v1', %s)", [psycopg.types.json.Jsonb(search)])
        (result,) = verify(connection, version, Terms(), Options(queries=10), only=["recall"])
        return result

    alone, ranked = recall(oversample=1), recall(oversample=30)
    assert alone.measured["recall"] < 0.7
    assert (alone.passed, ranked.passed) == (False, True)
    assert alone.next.startswith("pgvmig tune documents v1 --oversample 2, or build the index with other m")
    assert "with hnsw.ef_search = 330, hnsw.iterative_scan = strict_order" in ranked.found
    own = "SELECT sum(scans) FROM pgvmig.own_index_scan"
    assert connection.execute(own).fetchone() == (20,)

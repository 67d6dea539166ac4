"""The search helper: what is asked for, through the index where there is one."""

import numpy as np
import pytest
from lifecycle import add_version
from psycopg import sql
from searching import DIMENSIONS, TEXTS, V1, ids, model, ranking, vectors
from vectors import cut_over, literal, write

from pgvmig.demo.models import HashModel
from pgvmig.errors import DatabaseError, UsageError
from pgvmig.reading import Searcher

pytestmark = pytest.mark.layouts


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

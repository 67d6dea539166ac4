"""Evaluations: what is measured through the real views, what the verdict is, what is kept, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import pytest
from evaluating import AXES, ORIGIN, ROWS, Rankings, judged, run, settle, two_versions
from lifecycle import add_version, install
from vectors import write

from pgvmig import indexing
from pgvmig.address import address
from pgvmig.errors import DatabaseError, NotFoundError, TooEarlyError, UsageError
from pgvmig.evaluation.judged import JudgedSet, Query
from pgvmig.evaluation.store import Origin
from pgvmig.evaluation.verdict import Thresholds
from pgvmig.runner import ConnectionRunner

SECOND = 1 / math.log2(3)


@pytest.fixture
def connection(database):
    return database.connect()


@pytest.fixture
def versions(connection):
    return two_versions(connection)


def metric(evaluation, name="nDCG@10"):
    return evaluation.figures["metrics"][name]


@pytest.mark.layouts
def test_a_better_version_is_go_and_everything_is_kept(connection, versions):
    indexing.build(ConnectionRunner(connection), address("documents", "v2"))
    embedders = Rankings(one=2, two=1)
    found = run(connection, embedders)
    assert (found.verdict, found.pilot) == ("GO", False)
    assert found.reason == ("nDCG@10 changed by +0.369 (95 % interval +0.369 to +0.369); it may fall by 0.01")
    assert metric(found) == {
        "old": pytest.approx(SECOND), "new": 1, "new_low": 1, "new_high": 1, "difference": pytest.approx(1 - SECOND),
        "low": pytest.approx(1 - SECOND), "high": pytest.approx(1 - SECOND), "wins": 24, "losses": 0, "ties": 0,
    }  # fmt: skip
    assert (metric(found, "MRR@10")["old"], metric(found, "recall@10")["old"]) == (0.5, 1)
    row = connection.execute(
        "SELECT verdict, reason, pilot, thresholds, figures, queries, judged_set_id FROM pgvmig.evaluation"
    ).fetchone()
    assert row[:4] == ("GO", found.reason, False, {"max_drop": {"nDCG@10": 0.01}})
    assert row[4]["metrics"]["nDCG@10"]["wins"] == 24
    assert row[5][0]["id"] == "q1"
    assert row[5][0]["new"]["found"][0] == "1"
    assert connection.execute("SELECT name, owner, judged_on::text FROM pgvmig.judged_set").fetchall() == [
        ("faq", "ann", "2026-11-01")
    ]
    # each query by both models, turn about, after one for each to open what must be opened
    assert embedders.asked[:6] == [
        ("one", "q1"), ("two", "q1"), ("one", "q1"), ("two", "q1"), ("two", "q2"), ("one", "q2")
    ]  # fmt: skip


def test_what_got_worse_is_no_go_or_inconclusive(connection, versions):
    worse = Rankings(one=1, two=2)
    assert run(connection, worse).verdict == "NO-GO"
    assert run(connection, worse, thresholds=Thresholds(max_drop={"nDCG@10": 0.4})).verdict == "GO"
    some = Rankings(1, 1, two_but={f"q{n}": 2 for n in range(1, 4)})
    found = run(connection, some, thresholds=Thresholds(max_drop={"nDCG@10": 0.05}))
    assert found.verdict == "INCONCLUSIVE"
    assert "neither kept nor broken for certain: about" in found.reason
    assert (metric(found)["losses"], metric(found)["ties"]) == (3, 21)
    few = run(connection, Rankings(), judged(19))
    assert (few.verdict, few.reason) == (
        "INCONCLUSIVE", "19 judged queries are too few, whatever they show: give 20 or more"
    )  # fmt: skip
    none = run(connection, worse, thresholds=Thresholds(min={"MRR@10": 0.6}))
    assert (none.verdict, none.reason) == (
        "NO-GO", "MRR@10 is 0.500 (95 % interval 0.500 to 0.500); it must be 0.6 or more"
    )  # fmt: skip


def test_latency_is_measured_in_every_round(connection, versions):
    found = run(connection, rounds=3, thresholds=Thresholds(max_p95_ratio=1000))
    assert found.verdict == "GO"
    assert {len(query["old"]["search"]) for query in found.queries} == {3}
    latency = found.figures["latency"]["new"]
    assert 0 < latency["search"]["p50"] <= latency["search"]["p95"] <= latency["search"]["p99"]
    assert latency["queries_per_second"] > 0
    assert run(connection, rounds=3, thresholds=Thresholds(max_p95_ratio=0.001)).verdict == "NO-GO"


def test_groups_and_grades(connection, versions):
    queries = tuple(Query(id=f"q{n}", text=f"q{n}", group="a" if n <= 8 else "b") for n in range(1, 25))
    found = run(
        connection,
        Rankings(2, 2, two_but={f"q{n}": 1 for n in range(1, 9)}),
        JudgedSet(queries=queries, judgements={f"q{n}": {str(n): 2, "30": 0} for n in range(1, 25)}),
    )
    a, b = found.figures["groups"]
    assert (a["name"], a["queries"], a["metrics"]["nDCG@10"]["wins"]) == ("a", 8, 8)
    assert (b["name"], b["queries"], b["metrics"]["nDCG@10"]["ties"]) == ("b", 16, 16)


def test_without_judgements_there_is_no_verdict(connection, versions):
    only = JudgedSet(queries=judged(2).queries, judgements={})
    found = run(connection, Rankings(one=1, two=1), only)
    assert (found.verdict, found.figures["metrics"]) == (None, {})
    assert found.figures["agreement"] == {"overlap@10": 1, "kendall_tau": 1}
    backwards = Rankings(1, 1, one_but={"q1": list(range(1, 11))}, two_but={"q1": list(range(10, 0, -1))})
    agreement = run(connection, backwards, JudgedSet(queries=only.queries[:1], judgements={})).figures["agreement"]
    assert agreement == {"overlap@10": 1, "kendall_tau": pytest.approx(-1)}


@pytest.mark.layouts
def test_a_pilot_is_about_rows_with_both_vectors(connection):
    two_versions(connection, rows=range(1, 23))
    # of the rows that v2 does not have yet, v1 would rank eight before the answer
    found = run(connection, Rankings(one=9, two=1))
    assert (found.pilot, found.verdict) == (True, "GO")
    assert found.reason.startswith("pilot on 73 % of the rows: nDCG@10 changed by ")
    figures = found.figures
    assert (figures["judged"], figures["coverage"]) == (22, {"embedded": 22, "total": 30})
    assert figures["left_out"] == {
        "queries_not_judged": 0, "queries_without_relevant_rows": 2, "judgements_of_unknown_queries": 0,
        "judgements_of_missing_rows": 2,
    }  # fmt: skip
    assert {row for query in found.queries for row in query["old"]["found"]} <= {str(row) for row in range(1, 23)}
    assert metric(found, "MRR@10")["old"] == 1
    with pytest.raises(TooEarlyError, match="the backfill of documents v2 is not complete: 8 of 30 rows have no vec"):
        run(connection, judged_set=JudgedSet(queries=judged().queries, judgements={}))
    only_late = JudgedSet(queries=judged().queries, judgements={"q1": {"30": 1}})
    with pytest.raises(TooEarlyError, match="no query has a relevant row with a vector in both versions yet"):
        run(connection, judged_set=only_late)


def test_what_cannot_be_used_is_left_out_and_counted(connection, versions):
    good = judged()
    queries = (*good.queries, Query(id="new", text="q1"), Query(id="zero", text="q2"), Query(id="gone", text="q3"))
    judgements = {**good.judgements, "zero": {"2": 0}, "gone": {"4000": 1, "no key": 1}, "else": {"1": 1, "2": 1}}
    judgements["q1"] = {"01": 1, "999": 2}
    found = run(connection, judged_set=JudgedSet(queries=queries, judgements=judgements))
    assert found.figures["left_out"] == {
        "queries_not_judged": 1, "queries_without_relevant_rows": 2, "judgements_of_unknown_queries": 2,
        "judgements_of_missing_rows": 3,
    }  # fmt: skip
    assert (found.figures["queries"], found.figures["judgements"], metric(found)["new"]) == (24, 24, 1)


def test_rows_that_have_no_vector_count_against_a_version(connection, versions):
    connection.execute(
        "UPDATE documents SET embedding_v2 = NULL, embedding_v2_version_id = NULL, "
        "embedding_v2_source_hash = NULL, embedding_v2_embedded_at = NULL WHERE id = 1"
    )
    connection.execute(
        "INSERT INTO pgvmig.documents_v2_outcome (key_id, kind, source_hash) "
        "VALUES (1, 'empty', pgvmig.source_hash('row 1'))"
    )
    found = run(connection)
    assert (found.pilot, found.figures["rows_without_vector"]) == (False, {"old": 0, "new": 1})
    assert metric(found, "recall@10")["new"] == pytest.approx(23 / 24)


def test_wrong_files_are_told(connection, versions):
    with pytest.raises(UsageError, match=r"none of the queries is judged\. Judged are queries such as 'x1'"):
        run(connection, judged_set=JudgedSet(queries=judged().queries, judgements={"x1": {"1": 1}}))
    with pytest.raises(
        UsageError, match=r"none of the judged rows is in documents: 'c1', 'c10', 'c11', \.\.\."
    ) as error:
        run(connection, judged_set=by_code())
    assert error.value.next_step == "name the column that holds the judged ids with --doc-column"
    with pytest.raises(UsageError, match="no query has a relevant row that exists"):
        run(connection, judged_set=JudgedSet(queries=judged().queries, judgements={"q1": {"1": 0}}))
    with pytest.raises(UsageError, match="documents has no column 'nothing'"):
        run(connection, doc_column="nothing")
    with pytest.raises(UsageError, match="documents v2 would be compared with itself"):
        run(connection, old="v2")
    assert connection.execute("SELECT count(*) FROM pgvmig.judged_set").fetchone() == (0,)


def by_code(number=24):
    plain = judged(number)
    return JudgedSet(queries=plain.queries, judgements={q: {f"c{q[1:]}": 1} for q in plain.judgements})


def test_judged_ids_may_be_another_column(connection, versions):
    found = run(connection, judged_set=by_code(), doc_column="code")
    assert (metric(found)["new"], found.queries[0]["new"]["found"][0]) == (1, "c1")


def test_a_document_of_several_rows_is_where_its_best_row_is(connection):
    two_versions(connection)
    connection.execute("ALTER TABLE documents DROP CONSTRAINT documents_code_key")
    # rows 30 to 21 are the chunks of one document, which fill the first ten places
    connection.execute("UPDATE documents SET code = 'long' WHERE id BETWEEN 21 AND 30")
    settle(connection)
    found = run(connection, Rankings(one=2, two=12), by_code(), doc_column="code")
    assert found.queries[0]["old"]["found"][:2] == ("long", "c1")
    assert found.queries[0]["new"]["found"][0] == "long"
    assert "c1" in found.queries[0]["new"]["found"]
    assert len(set(found.queries[0]["new"]["found"])) == 10


@pytest.mark.majors(18, 16)
def test_keys_of_several_columns(connection):
    install(connection)
    connection.execute("CREATE TABLE documents (tenant text, id int, body text, PRIMARY KEY (tenant, id))")
    connection.execute("INSERT INTO documents SELECT 'a', i, 'row ' || i FROM generate_series(1, 30) AS i")
    for name, model in (("v1", "one"), ("v2", "two")):
        version = add_version(connection, "documents", name, {"model": model, "dimensions": len(ROWS)})
        write(connection, replace(version, key_columns=["id"], queue_columns=["key_id"]), AXES)
    settle(connection)
    connection.execute("DELETE FROM pgvmig.stale_row")
    plain = judged()
    found = run(
        connection,
        judged_set=JudgedSet(
            queries=plain.queries, judgements={q: {f"a,{q[1:]}": 1, "a": 1, "a,b": 1} for q in plain.judgements}
        ),
    )
    assert (metric(found)["new"], found.queries[0]["new"]["found"][0]) == (1, "a,1")
    assert found.figures["left_out"]["judgements_of_missing_rows"] == 48


def test_searches_are_made_with_the_version_s_settings_and_leave_none_behind(connection, versions):
    connection.execute("""UPDATE pgvmig.version SET search = '{"ef_search": 77}' WHERE version = 'v1'""")
    shown = "SELECT current_setting('hnsw.ef_search')::bigint FROM {view} LIMIT 1"
    connection.execute("LOAD 'vector'")
    found = run(connection, judged_set=JudgedSet(queries=judged(3).queries, judgements={}), sql=shown)
    assert {(query["old"]["found"], query["new"]["found"]) for query in found.queries} == {(("77",), ("40",))}
    assert found.figures["search"] == {"old": {"ef_search": 77}, "new": {}}
    assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("40",)


HYBRID = """
-- the nearest rows and those with the word, by their places in both lists {this is no placeholder}
WITH near AS (
    SELECT id, row_number() OVER (ORDER BY distance) AS place
    FROM (SELECT d.id, d.embedding <=> %(query)s AS distance FROM {view} AS d ORDER BY 2 LIMIT 40) AS d
), words AS (
    SELECT d.id, row_number() OVER (ORDER BY ts_rank(to_tsvector('simple', d.body), q) DESC) AS place
    FROM {view} AS d, to_tsquery('simple', %(word)s) AS q
    WHERE to_tsvector('simple', d.body) @@ q AND d.body LIKE 'row %%' LIMIT 40
)
SELECT id, sum(1.0 / (60 + place)) AS score
FROM (SELECT * FROM near UNION ALL SELECT * FROM words) AS found
GROUP BY id ORDER BY score DESC LIMIT %(limit)s;
"""


@pytest.mark.parametrize("rows", [ROWS, range(1, 23)], ids=["complete", "pilot"])
def test_a_hybrid_search_is_compared_as_it_runs(connection, rows):
    two_versions(connection, rows)
    judged_set = JudgedSet(
        queries=tuple(Query(id=f"q{n}", text=f"q{n}", parameters={"word": str(n)}) for n in range(1, 25)),
        judgements=judged().judgements,
    )
    # by distance alone both have the answer in place 5; the word brings it to the top
    found = run(connection, Rankings(one=5, two=5), judged_set, sql=HYBRID)
    assert (metric(found)["old"], metric(found)["new"], found.pilot) == (1, 1, len(rows) < 30)
    assert found.figures["sql"] == HYBRID


def test_a_query_has_its_own_statement(connection, versions):
    one, *others = judged().queries
    own = replace(one, sql="SELECT id, body FROM {view} WHERE embedding_space = %(version)s AND id > 20 ORDER BY id")
    found = run(connection, judged_set=JudgedSet(queries=(own, *others), judgements=judged().judgements))
    assert found.queries[0]["new"]["found"] == tuple(str(row) for row in range(21, 31))
    assert found.queries[1]["new"]["found"][0] == "2"


INCOMPARABLE = [
    ("SELECT id FROM documents", "the SQL does not name {view}"),
    ("SELECT nothing FROM {view}", "query 'q1' in v1: column \"nothing\" does not exist"),
    ("SELECT id FROM {view} WHERE id = %(number)s", "query 'q1' in v1: query parameter missing: number"),
    ("SELECT id FROM {view} WHERE body LIKE 'r%'", "query 'q1' in v1: "),
    ("SELECT FROM {view}", "the SQL of query 'q1' does not return id"),
    ("WITH w AS (DELETE FROM documents RETURNING id) SELECT w.id FROM w, {view}", "query 'q1' in v1 writes: "),
    ("SELECT id FROM {view}; COMMIT; DELETE FROM documents", "query 'q1' in v1: cannot insert multiple commands"),
]


def test_statements_that_cannot_be_compared(connection, versions):
    for statement, said in INCOMPARABLE:
        with pytest.raises(UsageError) as error:
            run(connection, sql=statement)
        assert error.value.found.startswith(said)
    with pytest.raises(UsageError, match="query 'q1' has a parameter 'limit', which every statement is given"):
        run(connection, judged_set=judged(24, parameters={"limit": 3}))
    assert connection.execute("SELECT count(*) FROM documents").fetchone() == (30,)
    assert connection.execute("SELECT count(*) FROM pgvmig.evaluation").fetchone() == (0,)


def test_a_search_has_no_more_time_than_it_is_given(connection, versions):
    with pytest.raises(DatabaseError) as error:
        run(connection, sql="SELECT id FROM {view}, pg_sleep(20)", timeout=0.05)
    assert error.value.found == "query 'q1' in v1 took longer than 0.05 s"


def test_a_version_that_is_gone(connection, versions):
    dropped = []

    class Dropping(Rankings):
        def rows(self, model, text):
            if text == "q2" and not dropped:
                dropped.append(connection.execute("SELECT pgvmig.drop_version('documents', 'v2', destroy => true)"))
            return super().rows(model, text)

    with pytest.raises(NotFoundError, match="the view of documents v2 is gone"):
        run(connection, Dropping())


def test_our_own_scans_are_noted(connection, versions):
    _, v2 = versions
    indexing.build(ConnectionRunner(connection), address("documents", "v2"))
    connection.execute("SET enable_seqscan = off")
    run(connection, rounds=2)
    scans = connection.execute(
        "SELECT sum(scans) FROM pgvmig.own_index_scan WHERE version_id = %s", [v2.version_id]
    ).fetchone()
    assert scans == (48,)


def test_the_same_set_again_is_the_same_set(connection, versions):
    first = run(connection).judged_set
    again = run(
        connection, origin=Origin(name="faq 2", owner=None, judged_on=date(2026, 6, 1), file_date=date(2026, 11, 3))
    )
    assert again.judged_set.judged_set_id == first.judged_set_id
    assert (again.judged_set.owner, again.judged_set.old, first.old) == ("ann", True, False)
    third = run(connection, judged_set=judged(23), origin=replace(ORIGIN, owner=None, judged_on=None))
    assert third.judged_set.judged_set_id != first.judged_set_id
    assert third.judged_set.judged_on == ORIGIN.file_date

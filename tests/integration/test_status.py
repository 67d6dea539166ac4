"""`pgvmig status` on the way to a switch and back: who serves the keys, what was proved, what is next at each step."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from lifecycle import find, prove
from vectors import SKIPPED, cut_over, roll_back

from pgvmig.address import address
from pgvmig.watch import triggers
from pgvmig.watch.judging import Trigger


@pytest.fixture
def connection(site):
    """v1 active, and v2 backfilled."""
    site.documents(20)
    cut_over(site.connection, site.version("v1"))
    site.version("v2", model="other", provider="other")
    site.run()
    return site.connection


@pytest.fixture
def status(site, pgvmig):
    """Run `pgvmig status` twice: what it prints, and what it says of each version in JSON."""

    def run(*arguments):
        text, machine = pgvmig("status", *arguments), pgvmig("status", *arguments, "--json")
        assert (text.code, machine.code) == (0, 0)
        found = machine.json
        return text.out, {version["version"]: version for version in found["versions"]}, found["routes"][0]

    return run


@pytest.fixture
def v2(connection):
    return find(connection, address("documents", "v2"))


INDEX = "CREATE INDEX searched ON documents USING hnsw (embedding_v2 vector_cosine_ops)"


def test_the_way_to_a_switch(connection, v2, status):
    _, versions, route = status()
    assert versions["v2"]["next"] == "pgvmig index documents v2"
    assert (route["active"], route["candidate"], route["percent"], route["served"]) == ("v1", None, 0, {})

    connection.execute(INDEX)
    text, versions, _ = status()
    assert versions["v2"]["next"] == "pgvmig verify documents v2"
    assert (versions["v2"]["verify"], versions["v2"]["evaluation"]) == (None, None)
    assert "verify:" not in text

    prove(connection, v2)
    text, versions, _ = status()
    assert versions["v2"]["next"] == (
        "pgvmig cutover documents v2, or as a revision: pgvmig scaffold cutover documents v2"
    )
    assert versions["v2"]["verify"]["passed"] == ["hashes", "health", "recall", "identity", "visibility"]
    assert re.search(r"documents v2 verify: 5 passed, \d+ s ago", text)

    connection.execute(
        "UPDATE pgvmig.version SET thresholds = '{\"max_drop\": {\"nDCG@10\": 0.01}}' WHERE version = 'v2'"
    )
    text, versions, _ = status()
    assert versions["v2"]["next"] == ("pgvmig evaluate documents v1 v2 --queries queries.jsonl --qrels qrels.tsv")
    assert "documents v2 evaluation: required, and there is none yet" in text
    connection.execute(EVALUATED)
    text, versions, _ = status()
    assert versions["v2"]["next"].startswith("pgvmig cutover documents v2")
    assert re.search(r"documents v2 evaluation: GO against v1, \d+ s ago", text)


EVALUATED = """
    WITH judged AS (
        INSERT INTO pgvmig.judged_set (relation, slot, hash, name, judged_on, queries, judgements)
        VALUES ('documents', 'embedding', 'x', 'q', now(), '[]', '{}') RETURNING judged_set_id)
    INSERT INTO pgvmig.evaluation (old_version_id, new_version_id, judged_set_id, verdict, reason, pilot, thresholds,
                                   figures, queries)
    SELECT o.version_id, n.version_id, judged_set_id, 'GO', 'it is better', false, n.thresholds,
           jsonb_build_object('search', jsonb_build_object('new', n.search)), '[]'
    FROM judged, pgvmig.version o, pgvmig.version n WHERE o.version = 'v1' AND n.version = 'v2'"""


def test_what_was_proved_and_no_longer_holds(connection, v2, status):
    connection.execute(INDEX)
    prove(connection, v2, ["hashes", "recall", "identity"])
    connection.execute(
        "SELECT pgvmig.record_evidence(%s, 'health', false, '3 vectors are zero', 'none', NULL, '{}', "
        "pgvmig.evidence_about(v, 'health'), clock_timestamp() - interval '2 hours') "
        "FROM pgvmig.version v WHERE version = 'v2'",
        (v2.version_id,),
    )
    connection.execute("DROP INDEX searched")
    connection.execute(INDEX)
    text, versions, _ = status()
    verify = versions["v2"]["verify"]
    assert (verify["passed"], verify["missing"]) == (["hashes", "identity"], ["visibility"])
    assert verify["failed"] == [{"gate": "health", "found": "3 vectors are zero"}]
    assert [outdated["gate"] for outdated in verify["outdated"]] == ["recall"]
    assert (
        "documents v2 verify: 2 passed, failed: health, outdated: recall, not looked at: visibility, 2.0 h ago" in text
    )
    assert versions["v2"]["next"] == "pgvmig verify documents v2"
    assert status("--no-count")[1]["v2"]["verify"]["outdated"] == []


def test_evidence_gets_too_old(connection, v2, status):
    connection.execute(INDEX)
    prove(connection, v2)
    connection.execute(
        "UPDATE pgvmig.evidence SET measured_at = measured_at - interval '25 hours' WHERE gate = 'recall'"
    )
    assert status()[1]["v2"]["next"] == "pgvmig verify documents v2"


def test_a_rollout_and_what_production_says(connection, v2, status):
    connection.execute(INDEX)
    prove(connection, v2)
    connection.execute(
        "SELECT pgvmig.set_route('documents', 'v2', 10, add_keys => '{alice,bob}', skip => %s, reason => 'a test')",
        (SKIPPED,),
    )
    connection.execute(
        "SELECT pgvmig.record_outcome('documents', v, 'served', n), pgvmig.record_outcome('documents', v, 'errors', e) "
        "FROM (VALUES ('v1', 900, 0.25), ('v2', 100, 0.5), ('v1', 3, 0.75)) AS r (v, n, e)"
    )
    connection.execute(
        "INSERT INTO pgvmig.production_metric (version_id, metric, value, at) "
        "SELECT version_id, m, 99, now() - interval '61 min' "
        "FROM pgvmig.version, unnest('{served,clicks}'::text[]) AS m"
    )
    text, versions, route = status()
    assert (route["candidate"], route["percent"], route["keys"]) == ("v2", 10, ["alice", "bob"])
    assert route["served"] == {"v1": 903, "v2": 100}
    assert [versions[v]["route"]["percent"] for v in ("v1", "v2")] == [90, 10]
    assert [versions[v]["metrics"] for v in ("v1", "v2")] == [
        [{"metric": "errors", "values": 2, "mean": 0.5, "p95": 0.725}],
        [{"metric": "errors", "values": 1, "mean": 0.5, "p95": 0.5}],
    ]
    assert "Route documents: v2 serves 10 % of the keys and alice, bob, v1 the others" in text
    assert "served in the last hour: v1 90.0%, v2 10.0% of 1,003 searches" in text
    assert [line.split() for line in text.splitlines() if line.startswith("errors ")] == [
        ["errors", "documents", "v1", "2", "0.5", "0.725"],
        ["errors", "documents", "v2", "1", "0.5", "0.5"],
    ]
    assert versions["v2"]["next"] == ("pgvmig cutover documents v2, or a greater share first")
    assert max(len(line.rstrip()) for line in text.split("Workers")[0].splitlines() if "Next" not in line) <= 80


def test_after_the_switch_and_back(connection, v2, status):
    cut_over(connection, v2)
    _, versions, _ = status()
    assert (versions["v2"]["next"], versions["v1"]["next"]) == (
        None,
        "pgvmig retire documents v1, when nobody needs the way back any more",
    )
    triggers.declare(
        connection, v2, Trigger(metric="errors", comparison="above", bound=0.05, over=timedelta(minutes=5))
    )
    _, versions, route = status()
    assert (versions["v2"]["next"], route["triggers"]) == ("pgvmig watch documents", 1)

    roll_back(connection, v2)
    connection.execute("INSERT INTO documents (body) VALUES ('a text that v2 has not seen')")
    text, versions, _ = status()
    assert (versions["v2"]["paused"], versions["v2"]["next"]) == (True, None)
    assert "Next, to go on: pgvmig resume documents v2" in text

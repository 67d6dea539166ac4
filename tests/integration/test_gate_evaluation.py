"""The gate that asks for an evaluation: what it says when there is none, or one that says nothing about this switch."""

from __future__ import annotations

import psycopg
import pytest
from evaluating import Rankings, judged, run, two_versions
from vectors import cut_over

from pgvmig.checks import gates
from pgvmig.evaluation import store
from pgvmig.evaluation.verdict import Thresholds
from pgvmig.runner import ConnectionRunner

REQUIRED = Thresholds(max_drop={"nDCG@10": 0.02})


@pytest.fixture
def connection(database):
    return database.connect()


@pytest.fixture
def v2(connection):
    """Complete, v1 being active; an evaluation is required."""
    _, version = two_versions(connection)
    store.require(connection, version, REQUIRED, "as agreed")
    return version


def asked(connection, version, **terms):
    (found,) = [
        g for g in gates.check(ConnectionRunner(connection), version.version_id, **terms) if g.gate == "evaluation"
    ]
    return found


def test_none_is_required_unless_somebody_says_so(connection):
    _, v2 = two_versions(connection)
    found = asked(connection, v2)
    assert (found.passed, found.found) == (True, "no evaluation is required of it")
    assert store.require(connection, v2, REQUIRED, "as agreed") is True
    assert store.require(connection, v2, REQUIRED) is False
    assert asked(connection, v2).passed is False
    assert store.require(connection, v2, None) is True
    assert asked(connection, v2).passed is True
    events = connection.execute(
        "SELECT source, verb, version, reason, detail -> 'thresholds' FROM pgvmig.event "
        "WHERE verb LIKE 'require%' ORDER BY event_id"
    ).fetchall()
    assert events == [
        ("cli", "require evaluation", "v2", "as agreed", {"max_drop": {"nDCG@10": 0.02}}),
        ("cli", "require no evaluation", "v2", None, None),
    ]


def test_there_is_none(connection, v2):
    found = asked(connection, v2)
    assert (found.passed, found.found) == (
        False, "no evaluation against v1 by the required thresholds since the backfill is complete"
    )  # fmt: skip
    assert found.wanted == (
        'a GO against the active version, by {"max_drop": {"nDCG@10": 0.02}}, newer than nine in ten vectors'
    )
    assert found.next == "pgvmig evaluate documents v1 v2 --queries queries.jsonl --qrels qrels.tsv"


def test_a_go_by_other_thresholds_or_against_another_version_is_none(connection, v2):
    run(connection, thresholds=Thresholds(max_drop={"nDCG@10": 0.5}))
    assert not asked(connection, v2).passed
    connection.execute(
        "UPDATE pgvmig.version SET thresholds = '{\"max_drop\": {\"nDCG@10\": 0.01}}' WHERE version = 'v1'"
    )
    assert run(connection, Rankings(1, 1), old="v2", new="v1").verdict == "GO"
    assert not asked(connection, v2).passed


def test_by_the_required_thresholds_it_goes_without_saying(connection, v2):
    evaluation = run(connection)
    assert (evaluation.verdict, evaluation.thresholds) == ("GO", {"max_drop": {"nDCG@10": 0.02}})
    found = asked(connection, v2)
    assert found.passed
    assert (
        found.found
        == f"GO against v1 on {evaluation.evaluated_at:%Y-%m-%d %H:%M} UTC, and 0 % of the vectors are newer"
    )
    assert found.measured["evaluation_id"] == evaluation.evaluation_id


def test_the_newest_counts(connection, v2):
    run(connection)
    run(connection, Rankings(one=1, two=2))
    found = asked(connection, v2)
    assert not found.passed
    assert found.found == (
        "the newest evaluation against v1 says NO-GO: "
        "nDCG@10 changed by -0.369 (95 % interval -0.369 to -0.369); it may fall by 0.02"
    )
    run(connection, judged_set=judged(19))
    assert asked(connection, v2).found.startswith("the newest evaluation against v1 says INCONCLUSIVE: 19 judged")


def test_a_pilot_is_none(connection):
    _, v2 = two_versions(connection, rows=range(1, 23))
    store.require(connection, v2, REQUIRED)
    assert (run(connection).verdict, run(connection).pilot) == ("GO", True)
    assert asked(connection, v2).found.startswith("no evaluation against v1 by the required thresholds")


@pytest.mark.layouts
def test_vectors_that_are_newer_are_others(connection, v2):
    run(connection)
    write_again(connection, v2, 3)
    assert asked(connection, v2).found.endswith("and 10 % of the vectors are newer")
    assert asked(connection, v2).passed
    write_again(connection, v2, 4)
    assert asked(connection, v2).found.endswith("and 13 % of the vectors are newer")
    assert not asked(connection, v2).passed


def write_again(connection, version, rows):
    """Let the first rows' vectors be newer than all that was found about them."""
    table, key = ("documents_v2_vectors", "key_id") if version.layout == "table" else ("documents", "id")
    connection.execute(f"UPDATE {table} SET {version.embedded_at_column} = clock_timestamp() WHERE {key} <= %s", [rows])


def test_other_search_settings_find_other_rows(connection, v2):
    run(connection)
    connection.execute("UPDATE pgvmig.version SET search = '{\"ef_search\": 10}' WHERE version = 'v2'")
    found = asked(connection, v2)
    assert (found.passed, found.found) == (
        False, 'it was evaluated with the search settings {}, and has {"ef_search": 10}'
    )  # fmt: skip


def test_the_way_back_needs_none(connection, v2):
    assert asked(connection, v2, way_back=True).passed
    run(connection)
    cut_over(connection, v2)
    assert asked(connection, v2).found == "there is no other active version to compare with"


def test_thresholds_that_nothing_can_show_are_refused(connection, v2):
    for thresholds, what in (
        ("{}", "nothing"),
        ('{"max_dorp": {"nDCG@10": 0.1}}', "max_dorp"),
        ('{"max_drop": {"map": 0.1}}', "max_drop of map"),
        ('{"min": {"nDCG@10": "high"}, "max_p95_ratio": "2"}', "max_p95_ratio, min of nDCG@10"),
        ('{"min": 0.3}', "min of nothing"),
    ):
        with pytest.raises(psycopg.Error, match=f"no evaluation can show {what}") as error:
            connection.execute("SELECT pgvmig.require_evaluation('documents', 'v2', %s)", [thresholds])
        assert error.value.sqlstate == "PV004"

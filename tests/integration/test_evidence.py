"""What `pgvmig verify` found, as the gates of a switch read it: for how long it is good, and what ends that."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from gating import V2, Gated
from lifecycle import EVIDENCE, add_version, embed, find, prove, retire

from pgvmig import indexing, switch
from pgvmig.errors import GateError
from pgvmig.terms import Terms

NEXT = "pgvmig verify documents v2"


@pytest.fixture
def table(database):
    """v1 is active; v2 is complete and indexed, and everything about it was proved just now."""
    table = Gated(database)
    table.add("v1", indexed=True)
    v2 = table.add("v2", indexed=True, dimensions=4)
    table.execute(f"UPDATE {v2.vector_table_name} SET {v2.embedded_at_column} = now() - interval '10 days'")
    prove(table.connection, v2)
    return table


def asked(table, **how):
    return {result.gate: result for result in table.ask_all(**how) if result.gate in EVIDENCE}


def shut(table, **how):
    """Which of the gates are shut, and what they say; what was found seconds ago on a slow machine is 0 s old."""
    return {
        gate: re.sub(r"\b\d s ago", "0 s ago", result.found)
        for gate, result in asked(table, **how).items()
        if not result.passed
    }


def test_fresh_evidence_opens_the_gates(table):
    results = asked(table)
    assert list(results) == EVIDENCE
    assert {(r.passed, r.found, r.wanted) for r in results.values()} == {
        (True, "as a test (0 s ago)", "a test; verified within 24 h")
    }
    (newest,) = table.execute("SELECT max(evidence_id) FROM pgvmig.evidence")[0]
    assert max(r.measured["evidence_id"] for r in results.values()) == newest
    assert switch.cut_over(table.run, V2)["changed"]


def test_without_evidence_nothing_is_cut_over(table):
    table.execute("DELETE FROM pgvmig.evidence")
    assert shut(table) == {
        "hashes": "nobody has verified that the vectors are of their rows' texts yet",
        "health": "nobody has verified that the vectors are sound yet",
        "recall": "nobody has verified the recall of the index yet",
        "identity": "nobody has verified that the provider still makes these vectors yet",
        "visibility": "nobody has verified that readers see the same rows yet",
    }
    with pytest.raises(GateError) as error:
        switch.cut_over(table.run, V2)
    assert str(error.value) == (
        f"documents v2 is not ready: nobody has verified that the vectors are of their rows' texts yet. Next: {NEXT}"
    )
    assert set(error.value.data["gates"]) == set(EVIDENCE)
    outcome = switch.cut_over(table.run, V2, Terms.forced(f"{','.join(EVIDENCE)}: a drill"))
    assert outcome["skipped"] == EVIDENCE
    event = "SELECT reason, detail -> 'skipped' FROM pgvmig.event WHERE verb = 'cut over' AND reason IS NOT NULL"
    assert ("a drill", EVIDENCE) in table.execute(event)


def test_it_grows_old(table):
    table.execute("UPDATE pgvmig.evidence SET measured_at = measured_at - interval '25 h' WHERE gate = 'recall'")
    result = asked(table)["recall"]
    assert (result.passed, result.found, result.wanted, result.next) == (
        False,
        "nobody has verified the recall of the index lately: what was found is 25 h old",
        "a test; verified within 24 h",
        NEXT,
    )
    assert set(shut(table)) == {"recall"}
    assert shut(table, terms=Terms(max_evidence_age=timedelta(hours=26))) == {}


POLICY = "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON documents USING (id > 3)"
REBUILT = (
    "DROP INDEX documents_embedding_v2_hnsw; CREATE INDEX documents_embedding_v2_hnsw ON documents "
    "USING hnsw (embedding_v2 vector_cosine_ops) WITH (m = 4)"
)
LEFT = "; ".join(
    f"UPDATE pgvmig.version SET state = '{state}' WHERE version = '{version}'"
    for version, state in [("v2", "ready"), ("v1", "retained"), ("v2", "active"), ("v2", "retained")]
)
PLANTED = {
    "another contract": (
        "UPDATE pgvmig.evidence SET fingerprint = repeat('0', 64) WHERE gate = 'identity'",
        {"identity": "was about vectors of another contract"},
    ),
    "another index": (
        REBUILT,
        {"recall": "was about another index: it was built, rebuilt or dropped since"},
    ),
    "other settings": (
        """UPDATE pgvmig.version SET search = '{"ef_search": 10}' WHERE version = 'v2'""",
        {"recall": 'was about other search settings: {} then, {"ef_search": 10} now'},
    ),
    "other policies": (POLICY, {"visibility": "was about other row-level security: it was changed since"}),
    "other vectors": (
        "UPDATE documents SET embedding_v2_embedded_at = now() + interval '1 s' WHERE id <= 3",
        dict.fromkeys(EVIDENCE, "was about other vectors: 15 % of them were written since"),
    ),
    "a tenth of other vectors": (
        "UPDATE documents SET embedding_v2_embedded_at = now() + interval '1 s' WHERE id <= 2",
        {},
    ),
    "other vectors of another version": (
        "UPDATE documents SET embedding_v1_embedded_at = now() + interval '1 s'",
        {},
    ),
}


def test_it_is_about_what_was_there(table):
    what = {
        "hashes": "that the vectors are of their rows' texts",
        "health": "that the vectors are sound",
        "recall": "the recall of the index",
        "identity": "that the provider still makes these vectors",
        "visibility": "that readers see the same rows",
    }
    for name, (statement, said) in PLANTED.items():
        with table.connection.transaction(force_rollback=True):
            for part in statement.split("; "):
                table.execute(part)
            expected = {
                gate: f"nobody has verified {what[gate]} lately: what was found 0 s ago {words}"
                for gate, words in said.items()
            }
            assert shut(table) == expected, name
            assert shut(table, way_back=True).keys() == said.keys(), name  # it never served
            table.execute(LEFT)
            assert shut(table, way_back=True) == {}, name
    assert shut(table) == {}


@pytest.mark.layouts
def test_vectors_that_were_made_anew(table):
    retire(table.run, V2)
    again = add_version(table.connection, "documents", "v2", {"dimensions": 4})
    embed(table.connection, again)
    indexing.build(table.run, V2)
    assert set(shut(table)) == set(EVIDENCE)
    assert "was about vectors that are gone: these were made since" in shut(table)["health"]


@pytest.mark.layouts
def test_the_share_that_was_written_since(table):
    vectors = find(table.connection, V2)
    column = vectors.embedded_at_column
    table.execute(f"UPDATE {vectors.vector_table_name} SET {column} = now() + interval '1 s'")
    assert "100 % of them were written since" in shut(table)["hashes"]


def test_what_was_found_wrong(table):
    """The newest counts; on the way back, too, until what it was about is gone."""
    record = (
        "SELECT pgvmig.record_evidence(v.version_id, 'health', %s, '3 are zero', 'none', 'mend them', '{}', "
        "pgvmig.evidence_about(v, 'health'), clock_timestamp()) FROM pgvmig.version v WHERE version = 'v2'"
    )
    switch.cut_over(table.run, V2)
    switch.roll_back(table.run, V2)
    table.execute(record, False)
    for way_back in (False, True):
        (found,) = shut(table, way_back=way_back).items()
        assert found[0] == "health"
        assert re.fullmatch(r"3 are zero \(\d+ s ago\)", found[1])
    assert asked(table)["health"].next == "mend them"
    table.execute("UPDATE pgvmig.evidence SET measured_at = measured_at - interval '3 days'")
    assert shut(table, way_back=True) == {"health": "3 are zero (3 days ago)"}
    with table.connection.transaction(force_rollback=True):
        table.execute("UPDATE documents SET embedding_v2_embedded_at = now()")
        assert shut(table, way_back=True) == {}
    table.execute(record, True)
    assert shut(table, way_back=True) == {}


def test_the_way_back_needs_none(table):
    switch.cut_over(table.run, V2)
    table.execute("DELETE FROM pgvmig.evidence")
    results = asked(table, version="v1", way_back=True)
    assert results["recall"].found == (
        "nobody has verified the recall of the index yet; enough for the way back, it has served before"
    )
    assert switch.roll_back(table.run, V2)["changed"]

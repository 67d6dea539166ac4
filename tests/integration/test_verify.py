"""`pgvmig verify`: what it measures, each with its fault planted on real parts, and what it stores of that."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import psycopg
import pytest
from lifecycle import EVIDENCE, add_version, adopt_version, cut_over, find, record_outcome, stale

from pgvmig import indexing, switch
from pgvmig.address import address
from pgvmig.catalog import own_scans
from pgvmig.catalog.connection import connect
from pgvmig.checks import identity, visibility
from pgvmig.checks.evidence import Options, Task
from pgvmig.checks.verify import verify
from pgvmig.demo.models import HashModel, unit
from pgvmig.demo.providers import Provider
from pgvmig.errors import UsageError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

ROWS = 200
COSINES = "; cosines: worst 1.000, median 1.000"
V1, V2 = address("documents", "v1"), address("documents", "v2")


@pytest.fixture
def v2(site):
    """Complete, with vectors that the provider made; without an index."""
    site.documents(ROWS)
    site.version()
    site.run()
    return find(site.connection, V2)


@pytest.fixture
def indexed(site, v2):
    """With an index, which the planner uses."""
    indexing.build(ConnectionRunner(site.connection), V2)
    site.execute("SET enable_seqscan = off; SET enable_sort = off")
    return v2


@pytest.fixture
def look(site, v2):
    """Verify v2 by the gates named; with one name, return what that one says."""

    def look(*only, **options):
        results = verify(site.connection, v2, Terms(), Options(**options), only=only)
        return results[0] if len(only) == 1 else results

    return look


def stored(site):
    """What is stored, the oldest first."""
    return site.execute("SELECT gate, passed FROM pgvmig.evidence ORDER BY evidence_id").fetchall()


def speak(site, model, provider="new"):
    """From now on the provider has that model."""
    site.server._providers[provider] = Provider(model)


def vectors_of(version):
    """The table, the key column and the vector column that hold its vectors."""
    key = "id" if version.layout == "column" else version.queue_columns[0]
    return version.vector_table_name, key, version.vector_column


@pytest.mark.layouts
@pytest.mark.majors(18, 16)
def test_what_is_sound_passes_and_is_stored(site, indexed, look):
    results = {result.gate: result for result in look()}
    assert [gate for gate, result in results.items() if not result.passed] == []
    assert sorted(stored(site)) == sorted((gate, True) for gate in EVIDENCE)
    assert [results[gate].found for gate in ("hashes", "health", "identity")] == [
        f"the hashes of {ROWS} texts are those that the vectors were made of",
        f"{ROWS} vectors of 8 dimensions; lengths 1 to 1",
        f"hash of provider 'new' makes the 32 sampled vectors again as they are stored{COSINES}",
    ]
    recall = results["recall"]
    assert recall.found == (
        f"recall@10 is {recall.measured['recall']:.3f} over 50 searches with hnsw.ef_search = 40, "
        "hnsw.iterative_scan = strict_order"
    )
    assert set(recall.measured) == {
        "recall", "worst", "queries", "limit", "method", "settings", "approximate_seconds", "exact_seconds"
    }  # fmt: skip
    assert switch.cut_over(ConnectionRunner(site.connection), V2)["changed"]


@pytest.mark.layouts
def test_rows_that_changed_while_triggers_were_off(site, v2, look):
    enable = [
        f"ALTER TABLE documents ENABLE ALWAYS TRIGGER {name}"
        for (name,) in site.execute(
            "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'documents'::regclass AND NOT tgisinternal"
        )
    ]
    site.execute("ALTER TABLE documents DISABLE TRIGGER USER")
    site.execute("UPDATE documents SET body = 'unseen' WHERE id IN (7, 8)")
    site.execute("UPDATE documents SET body = 'poison' WHERE id = 9")
    for statement in enable:
        site.execute(statement)
    site.execute("UPDATE documents SET body = 'seen' WHERE id = 10")
    record_outcome(site.connection, v2, 9, "failed", "poison")
    found = look("hashes")
    assert (found.passed, found.found) == (
        False,
        f"2 of {ROWS} vectors are of another text than the row has, and nobody knows: rows ({keys(found)})",
    )
    assert sorted(found.measured["keys"]) == ["7", "8"]
    assert stored(site) == [("hashes", False)]
    assert found.next.startswith("SELECT pgvmig.queue_outdated('documents', 'v2'), then pgvmig backfill documents v2; ")
    assert site.value(found.next.partition(",  then")[0].partition(", then")[0]) == 2
    assert sorted(stale(site.connection, v2)) == [7, 8, 10]
    site.run()
    assert look("hashes").passed


def keys(found):
    return "; ".join(found.measured["keys"])


@pytest.mark.layouts
@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_vectors_that_are_not_sound(site, vector_type):
    site.documents(30)
    site.version(vector_type=vector_type)
    site.run()
    v2 = find(site.connection, V2)
    (found,) = verify(site.connection, v2, Terms(), Options(), only=["health"])
    assert found.passed
    table, key, vector = vectors_of(v2)
    for number, components in ((3, [0] * 8), (4, [1] * 8), (5, [0.36] * 8)):
        site.execute(f"UPDATE {table} SET {vector} = %s::real[]::{vector_type} WHERE {key} = %s", components, number)
    (found,) = verify(site.connection, v2, Terms(), Options(), only=["health"])
    assert not found.passed
    assert found.found == (
        f"of 30 vectors 1 are zero, 2 are not 1 ± {'0.0105' if vector_type == 'halfvec' else '0.01'} long: "
        f"rows ({keys(found)}); lengths 0 to 2.828"
    )
    assert sorted(found.measured["keys"]) == ["3", "4", "5"]
    assert stored(site) == [("health", True), ("health", False)]
    statement, then = found.next.split("; then ")
    assert then == "SELECT pgvmig.queue_outdated('documents', 'v2'), then pgvmig backfill documents v2"
    assert site.execute(statement).rowcount == 3
    (coverage,) = verify(site.connection, v2, Terms(max_stale_age=timedelta(0)), Options(), only=["coverage"])
    told = "SELECT pgvmig.queue_outdated(" if v2.layout == "table" else "pgvmig backfill"
    assert (coverage.passed, coverage.next.startswith(told)) == (False, True)
    site.execute("SELECT pgvmig.queue_outdated('documents', 'v2')")
    site.run()
    assert verify(site.connection, v2, Terms(), Options(), only=["health"])[0].passed
    assert site.value("SELECT count(*) FROM documents_v2") == 30


def test_an_index_that_finds_too_little(site, indexed, look):
    site.execute("""UPDATE pgvmig.version SET search = '{"ef_search": 1, "iterative_scan": "off"}'""")
    found = look("recall", queries=20)
    assert (found.passed, found.wanted) == (False, "recall@10 of at least 0.95")
    assert found.found == (
        f"recall@10 is {found.measured['recall']:.3f} over 20 searches with hnsw.ef_search = 1, "
        "hnsw.iterative_scan = off"
    )
    assert found.measured["recall"] <= 0.1
    assert found.next == (
        "pgvmig tune documents v2 --ef-search 2, or build the index with other m and ef_construction; "
        "then pgvmig verify documents v2 --only recall"
    )
    assert look("recall", queries=20, min_recall=0.0).passed
    site.execute("""UPDATE pgvmig.version SET search = '{"ef_search": 200}'""")
    assert look("recall", queries=20).measured["recall"] > 0.99


def test_our_own_scans_are_noted(site, indexed, look):
    look("recall", queries=20)
    with own_scans.noted(site.connection, [indexed.version_id]):
        site.execute("SELECT id FROM documents_v2 ORDER BY embedding <=> '[1,1,1,1,1,1,1,1]' LIMIT 3")
    scans = site.value("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'documents_embedding_v2_hnsw'")
    assert scans == site.value("SELECT sum(scans) FROM pgvmig.own_index_scan") == 21


def test_where_no_index_is_used(site, v2, look):
    found = look("recall")
    assert (found.passed, found.found) == (False, "there is no valid index whose recall could be measured")
    assert stored(site) == []
    indexing.build(ConnectionRunner(site.connection), V2)
    found = look("recall")
    assert (found.passed, found.found) == (
        True,
        "searches are exact: on a table of this size the planner compares every vector",
    )


class Relation(HashModel):
    """A model whose vectors are much like HashModel's, as with another prefix."""

    def embed(self, texts):
        return unit(super().embed(texts) + 0.4 * HashModel("relation", self.dimensions).embed(texts))


@pytest.mark.layouts
def test_a_provider_that_is_not_what_it_was(site, v2, look):
    speak(site, HashModel("hash", 8, salt="replaced in silence"))
    found = look("identity")
    assert not found.passed
    assert found.found.startswith("32 of 32 sampled vectors are not what hash of provider 'new' makes now; cosines: ")
    assert found.found.endswith(": another model answers, or another one made these vectors")
    assert found.next == (
        "compare endpoint and model of provider 'new' with the contract of documents v2; vectors of another model or "
        "prefix need a version of their own (op.add_embedding)"
    )
    speak(site, Relation("hash", 8))
    found = look("identity")
    assert found.found.endswith(": the model is a near relation, or prefix, preprocessing or truncation is another")
    assert 0.6 < found.measured["median"] < 0.99
    speak(site, HashModel("hash", 16))
    assert look("identity").found.startswith("provider 'new' answers with what is not of this contract: ")
    speak(site, HashModel("hash", 8))
    assert look("identity").passed
    table, key, vector = vectors_of(v2)
    site.execute(f"UPDATE {table} SET {vector} = '[1,0,0,0,0,0,0,0]' WHERE {key} = 5")
    found = look("identity", sample=ROWS)
    assert found.found.endswith(": the model is the same, but rows (5) have vectors of something else")
    site.execute("UPDATE documents SET body = 'changed' WHERE id = 5")  # no longer of this text: not compared
    assert look("identity", sample=ROWS).measured["sampled"] == ROWS - 1
    assert [passed for _, passed in stored(site)] == [False, False, False, True, False, True]


def test_the_model_that_adopted_vectors_are_said_to_be_of(site):
    """They came without a hash, so that nobody knows of which text they were."""
    site.documents(
        0, "CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, vec vector(8))"
    )
    site.insert(40)
    texts = [body for (body,) in site.execute("SELECT body FROM documents ORDER BY id")]
    for number, vector in enumerate(HashModel("hash", 8).embed(texts), 1):
        site.execute("UPDATE documents SET vec = %s::real[]::vector WHERE id = %s", vector.tolist(), number)
    v1 = adopt_version(site.connection, "documents", "v1", "vec")
    gates = ["identity", "hashes", "recall"]
    results = {r.gate: r for r in verify(site.connection, v1, Terms(), Options(), only=gates)}
    assert [result.passed for result in results.values()] == [True] * 3
    assert results["hashes"].found.endswith("; 40 adopted vectors came without a hash")
    assert results["recall"].found.startswith("the application searched its vectors without an index")
    speak(site, HashModel("hash", 8, salt="what they are said to be"))
    (found,) = verify(site.connection, v1, Terms(), Options(), only=["identity"])
    assert not found.passed


def test_prefixes_are_those_of_the_contract(site):
    site.documents(5)
    site.version(document_prefix="passage: ")
    site.run()
    (found,) = verify(site.connection, find(site.connection, V2), Terms(), Options(), only=["identity"])
    assert (found.passed, found.measured["sampled"]) == (True, 5)
    assert {text[:9] for text in site.texts()} == {"passage: "}


def test_a_provider_that_cannot_be_asked_is_no_evidence(site, v2, look, monkeypatch):
    assert look("identity").passed
    site.server.key = "another"
    found = look("identity")
    assert not found.passed
    assert found.found.startswith("provider 'new' could not be asked: ")
    monkeypatch.setenv("PGVMIG_NEW_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setattr(identity, "_PATIENCE", 0.1)  # not the worker's two minutes
    found = look("identity")
    assert "is not reachable" in found.found
    assert found.next == "pgvmig verify documents v2 --only identity when it answers again"
    monkeypatch.delenv("PGVMIG_NEW_BASE_URL")
    found = look("identity")
    assert (found.passed, found.found) == (False, "provider 'new' could not be asked: provider 'new' has no base_url")
    assert "export PGVMIG_NEW_BASE_URL" in found.next
    assert stored(site) == [("identity", True)]


def test_a_text_that_the_provider_refuses_by_now(site, v2, look):
    site.server.poison = lambda text: text.startswith("passage 7 ")
    found = look("identity", sample=ROWS)
    assert ": the provider refuses texts that it once embedded (" in found.found
    assert found.found.endswith("answered 400: Your input was rejected)")
    assert found.measured["refused"] == 1


@pytest.fixture
def reader(site, v2):
    """A role that reads every view of documents."""
    role = f"{site.database.name}_reader"
    site.execute(f"CREATE ROLE {role}")
    site.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    yield role
    site.execute("RESET SESSION AUTHORIZATION")
    site.execute(f"DROP OWNED BY {role}")
    site.execute(f"DROP ROLE {role}")


@pytest.mark.layouts
def test_readers_see_the_same_rows(site, v2, look, reader, layout):
    found = look("visibility")
    assert (found.passed, found.found) == (
        True,
        "1 role that reads documents can read documents_v2; no row-level security hides rows",
    )
    cut_over(ConnectionRunner(site.connection), V2, Terms(skip=["index"], reason="a test"))
    site.version("v3", model="hash", model_version="2")
    site.run()
    site.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    # a function that finds the other one on the path of whoever searches
    site.execute("CREATE FUNCTION is_even(n bigint) RETURNS boolean RETURN n % 2 = 0")
    site.execute("CREATE FUNCTION is_shown(n bigint) RETURNS boolean LANGUAGE sql AS 'SELECT is_even(n)'")
    site.execute("CREATE POLICY even ON documents USING (is_shown(id))")
    site.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    site.execute("SELECT pgvmig.refresh_views('documents')")
    v3 = find(site.connection, address("documents", "v3"))
    with connect(site.database.dsn) as own:  # with PostgreSQL's own path, as the command has it
        (found,) = verify(own, v3, Terms(), Options(), only=["visibility"])
    assert (found.passed, found.found) == (
        True,
        "1 role that reads public.documents_current sees as many rows through public.documents_v3",
    )
    assert found.measured["counts"] == {reader: [ROWS // 2, ROWS // 2]}
    # four rows without a vector are coverage's business, and none of visibility's
    site.lose_vectors(v3, "id IN (1, 2, 3, 4)")
    (found,) = verify(site.connection, v3, Terms(), Options(), only=["visibility"])
    assert (found.passed, found.measured["counts"]) == (True, {reader: [ROWS // 2, ROWS // 2 - 2]})
    if layout == "column":
        site.execute("ALTER VIEW documents_v3 SET (security_invoker = false)")
        seen = ROWS - 4
    else:
        site.execute("CREATE POLICY few ON documents_v3_vectors AS RESTRICTIVE USING (key_id <= 20)")
        seen = 8
    (found,) = verify(site.connection, v3, Terms(), Options(), only=["visibility"])
    assert (found.passed, found.found) == (
        False,
        f"{reader} sees 100 rows through documents_current and {seen} through documents_v3",
    )
    assert found.next.startswith("SELECT pgvmig.refresh_views('public.documents'); compare pg_policies")


def test_readers_that_we_may_not_act_as(site, v2, reader):
    role = f"{reader}_dba"
    site.execute(f"CREATE ROLE {role}")
    site.execute(f"ALTER TABLE documents OWNER TO {role}; ALTER VIEW documents_v2 OWNER TO {role}")
    site.execute(f"GRANT USAGE ON SCHEMA pgvmig TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA pgvmig TO {role}")
    site.execute(f"GRANT SELECT ON documents, documents_v2 TO {reader}")
    try:
        site.execute(f"SET SESSION AUTHORIZATION {role}")
        found = visibility.look(Task(site.connection, v2))
        assert (found.passed, found.measured["roles"]) == (True, [role])
        assert found.found.endswith(f"; we may not act as ({reader})")
        site.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        found = visibility.look(Task(site.connection, v2))
        assert (found.passed, found.next) == (
            False,
            f"run pgvmig verify as a member of ({reader}) or as a superuser",
        )
    finally:
        site.execute("RESET SESSION AUTHORIZATION")
        site.execute(f"DROP OWNED BY {role} CASCADE")
        site.execute(f"DROP ROLE {role}")


def test_an_unknown_gate(look):
    with pytest.raises(UsageError) as error:
        look("recal")
    assert str(error.value).startswith("there is no gate named recal. Next: use one of capture, coverage, ")


def test_an_empty_table_has_nothing_to_measure(site):
    site.documents(0)
    version = site.version()
    assert verify(site.connection, version, Terms(), Options()) == []
    assert stored(site) == []


def test_a_lost_connection_leaves_nothing_half_stored(site, v2, look):
    """What was finished before stays."""
    assert look("identity").passed
    other = site.database.connect()
    pid = site.connection.info.backend_pid
    site.server.on_request = lambda _: other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    with pytest.raises(psycopg.OperationalError):
        look()
    site.connection = other
    assert stored(site) == [("identity", True)]


@pytest.mark.layouts
def test_keys_of_several_columns_and_other_names(site):
    """A schema, a slot, a key of two columns, one of them renamed since."""
    site.execute('CREATE SCHEMA "App"')
    site.execute('CREATE TABLE "App"."the 10% notes" (a int, "b c" timestamptz, body text, PRIMARY KEY ("b c", a))')
    version = add_version(site.connection, "the 10% notes", "v1", schema="App", slot="title")
    site.execute('ALTER TABLE "App"."the 10% notes" RENAME a TO "100 %"')
    site.execute(
        """INSERT INTO "App"."the 10% notes" SELECT i, '2026-01-01 12:00+00'::timestamptz + i * interval '1 h', """
        "'x' || i FROM generate_series(1, 60) AS i"
    )
    site.run()
    where = address("the 10% notes", "v1", "App", "title")
    indexing.build(ConnectionRunner(site.connection), where)
    site.execute("SET enable_seqscan = off; SET enable_sort = off")
    version = find(site.connection, where)
    results = verify(site.connection, version, Terms(), Options(queries=5))
    assert [result for result in results if not result.passed] == []
    assert next(r.measured["queries"] for r in results if r.gate == "recall") == 5


def test_as_a_command(site, v2, pgvmig):
    code, out, err = pgvmig("verify", "documents", "--queries", "5", "--sample", "3")
    assert code == 4
    assert re.search(r"^identity +yes +hash of provider 'new' makes the 3 sampled vectors", out, re.MULTILINE)
    assert re.search(r"^index +no ", out, re.MULTILINE)
    assert "Error: documents v2 is not ready: there is no vector index on embedding_v2" in err
    assert "Next:  pgvmig index documents v2" in err
    indexing.build(ConnectionRunner(site.connection), V2)
    code, out, _ = pgvmig("verify", "documents", "v2", "--json")
    answer = json.loads(out)
    assert (code, answer["passed"]) == (0, True)
    assert set(answer["gates"][0]) == {"gate", "passed", "found", "wanted", "next", "measured"}
    code, out, _ = pgvmig("verify", "documents", "--only", "health", "--only", "capture", "--json")
    assert [gate["gate"] for gate in json.loads(out)["gates"]] == ["capture", "health"]
    assert pgvmig("verify", "documents", "v2", "--only", "bogus")[0] == 2
    code, out, _ = pgvmig("verify", "documents", "--queries", "5", "--sample", "3")
    assert (code, out.splitlines()[-1]) == (
        0,
        "Next: pgvmig cutover documents v2, or as a revision: pgvmig scaffold cutover documents v2",
    )
    site.execute("SELECT pgvmig.retire('documents', 'v2')")
    code, _, err = pgvmig("verify", "documents")
    assert (code, err.splitlines()[0]) == (1, "Error: documents v2 is retired")

"""Tables that LangChain, LlamaIndex and pgai made and filled: adopted, migrated, asked by them through the views."""

from __future__ import annotations

import json
import re

import pytest
from adopting import versions
from commands import runner
from lifecycle import add_version, find, prove
from storing import ROOT, library

from pgvmig import indexing
from pgvmig.address import address
from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel
from pgvmig.runner import ConnectionRunner

# The recipes of the page, which these tests follow with the real libraries.
RECIPES = re.findall(r"^```sql\n(.*?)^```$", (ROOT / "docs" / "adopt.md").read_text(), re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.stores, pytest.mark.xdist_group("stores")]

langchain, llamaindex, pgai = (library(name) for name in ("langchain", "llamaindex", "pgai"))

NEW = ("--provider", "new", "--model", "hash", "--model-version", "1")
TEXTS = [f"passage number {number}" for number in range(12)]


@pytest.fixture
def model_server():
    """`new` has made what is there; `other` is what is migrated to, and has another length."""
    with serving({"new": HashModel("hash", 8), "other": HashModel("other", 4)}) as running:
        yield running


@pytest.fixture
def pgvmig(site, monkeypatch, capsys):
    return runner(site.database.dsn, monkeypatch, capsys)


@pytest.fixture
def url(site):
    return site.database.url


@pytest.fixture
def models(site):
    """The base URLs of both models."""
    return {provider: site.server.base_url(provider) for provider in ("new", "other")}


@pytest.fixture
def migrate(site):
    """Take a table from its adopted v1 to v2, of the other model; returns v2."""

    def migrate(table, text):
        where = address(table, "v2")
        contract = {"provider": "other", "model": "other", "dimensions": 4, "input": text}
        add_version(site.connection, table, "v2", contract)
        site.run(table, "v2")
        run = ConnectionRunner(site.connection)
        indexing.build(run, where)
        prove(site.connection, find(site.connection, where))
        site.execute("SELECT pgvmig.cut_over(%s, 'v2')", table)
        return find(site.connection, where)

    return migrate


def recipe(beginning):
    """The page's SQL that begins so."""
    (found,) = [text for text in RECIPES if text.startswith(beginning)]
    return found


def nearest(found):
    """The text that was found first, and whether it is the very one: a hash model makes nothing else alike."""
    text, score = found[0]
    return text, round(score, 3)


def test_langchain(site, url, models, langchain, pgvmig, migrate):  # noqa: PLR0917
    langchain("fill", url=url, model=models["new"], collection="docs", texts=TEXTS)
    langchain("fill", url=url, model=models["new"], collection="more", texts=["something more"])
    done = pgvmig("adopt", "--preset", "langchain", *NEW, "--dimensions", "8", "--json")
    assert (done.code, done.checks["identity"]["measured"]["sampled"]) == (0, 13), done.out + done.err
    assert [note["found"] for note in done.json["notes"]] == [
        "langchain_pg_embedding.embedding takes vectors of any dimensions"
    ]
    asked = {"url": url, "collection": "docs", "text": TEXTS[3]}
    before = langchain("search", model=models["new"], **asked)
    migrate("langchain_pg_embedding", "document")
    # the service that still has the old model goes on as before
    assert langchain("search", model=models["new"], **asked) == before
    assert nearest(before) == (TEXTS[3], 0)
    for version, model in (("v1", "new"), ("v2", "other")):
        site.execute(recipe("CREATE SCHEMA langchain_v1").replace("v1", version))
        found = langchain("search", model=models[model], schema=f"langchain_{version}", **asked)
        assert nearest(found) == (TEXTS[3], 0)
    # what is written with the old model is found by the new one, after the worker came by
    langchain("fill", url=url, model=models["new"], collection="docs", texts=["a late passage"])
    site.run("langchain_pg_embedding")
    asked["text"] = "a late passage"
    assert nearest(langchain("search", model=models["other"], schema="langchain_v2", **asked)) == ("a late passage", 0)


def test_langchain_collections_of_different_models(site, url, models, langchain, pgvmig):
    langchain("fill", url=url, model=models["new"], collection="docs", texts=TEXTS)
    langchain("fill", url=url, model=models["other"], collection="short", texts=TEXTS[:2])
    done = pgvmig("adopt", "--preset", "langchain", *NEW, "--dimensions", "8", "--json")
    (uuid,) = site.execute("SELECT uuid::text FROM langchain_pg_collection WHERE name = 'short'").fetchone()
    assert (done.code, done.checks["dimensions"]["found"]) == (
        4,
        f"mixed: of 14 vectors 12 (85.7%) have 8 dimensions, 2 have 4 (collection_id 'short' ({uuid}))",
    )
    assert done.checks["identity"]["found"].endswith(f". By collection_id: 'short' ({uuid}): 0 of 2 fit")
    assert versions(site) == []
    site.execute(recipe("CREATE TABLE langchain_short"))
    assert pgvmig("adopt", "--preset", "langchain", *NEW, "--dimensions", "8").code == 0
    other = ("--provider", "other", "--model", "other", "--model-version", "1", "--dimensions", "4")
    assert pgvmig("adopt", "langchain_short", "--preset", "langchain", *other).code == 0


def test_langchain_v2(site, url, models, langchain, pgvmig, migrate):  # noqa: PLR0917
    langchain("fill_v2", url=url, model=models["new"], table="documents", texts=TEXTS, dimensions=8)
    done = pgvmig("adopt", "documents", "--preset", "langchain-v2", *NEW, "--json")
    assert (done.code, [note["found"] for note in done.json["notes"]]) == (
        0,
        ["documents.embedding is NOT NULL", "documents.embedding has no index"],
    )
    migrate("documents", "content")
    for table, model in (("documents", "new"), ("documents_v1", "new"), ("documents_v2", "other"),
                         ("documents_current", "other")):  # fmt: skip
        found = langchain("search_v2", url=url, model=models[model], table=table, text=TEXTS[5])
        assert nearest(found) == (TEXTS[5], 0), table
    langchain("add_v2", url=url, model=models["new"], table="documents", texts=["a late passage"])
    with pytest.raises(AssertionError, match="ON CONFLICT specification"):
        langchain("add_v2", url=url, model=models["other"], table="documents_v2", texts=["no"])
    site.run("documents")
    found = langchain("search_v2", url=url, model=models["other"], table="documents_v2", text="a late passage")
    assert nearest(found) == ("a late passage", 0)
    site.execute("SELECT pgvmig.roll_back('documents', 'v2')")
    found = langchain("search_v2", url=url, model=models["new"], table="documents_current", text="a late passage")
    assert nearest(found) == ("a late passage", 0)


@pytest.mark.parametrize(
    "options", [{}, {"use_jsonb": True, "use_halfvec": True}], ids=["as it comes", "jsonb, halfvec"]
)
def test_llamaindex(site, url, models, llamaindex, pgvmig, migrate, options):  # noqa: PLR0917
    asked = {"url": url, **options}
    embedded = llamaindex("fill", model=models["new"], table="docs", texts=TEXTS, dimensions=8, **asked)
    text = "pgvmig.llamaindex_text(metadata_, text)"
    # what the function says was embedded is what LlamaIndex did embed: metadata by its templates, then the text
    assert [row for (row,) in site.execute(f"SELECT {text} FROM data_docs ORDER BY id")] == embedded
    assert embedded[1] == "year: 1991\ndraft: False\nauthor: None\ntitle: a {key}\n\npassage number 1"
    # the text alone is what was embedded of nodes without metadata only
    done = pgvmig("adopt", "data_docs", "--preset", "llamaindex", "--input", "text", *NEW, "--json")
    assert (done.code, done.checks["identity"]["measured"]["fit"]) == (4, 4)
    done = pgvmig("adopt", "data_docs", "--preset", "llamaindex", *NEW, "--json")
    assert (done.code, done.checks["identity"]["measured"]["fit"]) == (0, 12), done.out + done.err
    migrate("data_docs", text)
    for table, model in (("docs", "new"), ("docs_v1", "new"), ("docs_v2", "other"), ("docs_current", "other")):
        # it compares a query's dimensions with its own setting
        dimensions = site.server.models[model].dimensions
        found = llamaindex("search", model=models[model], table=table, text=embedded[4], dimensions=dimensions, **asked)
        assert nearest(found) == (TEXTS[4], 1), table


def test_pgai(site, url, models, pgai, pgvmig, migrate):  # noqa: PLR0917
    site.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    pgai("create", dsn=site.database.dsn, source="documents", url=models["new"], model="hash", dimensions=8)
    site.execute(
        "INSERT INTO documents SELECT n, 'first of ' || n || '. second of ' || n FROM generate_series(1, 9) AS n"
    )
    work = {"dsn": site.database.dsn, "source": "documents", "url": models["new"]}
    assert pgai("work", **work) == 18
    # model, dimensions and chunking are what pgai has written down
    done = pgvmig("adopt", "documents_embedding_store", "--preset", "pgai", "--provider", "new", "--model-version", "1",
                  "--json")  # fmt: skip
    assert (done.code, done.checks["identity"]["measured"]["fit"]) == (0, 18), done.out + done.err
    assert site.execute(
        "SELECT definition ->> 'model', definition ->> 'chunking', definition ->> 'input' FROM pgvmig.contract"
    ).fetchall() == [("hash", "character_text_splitter", "chunk")]
    migrate("documents_embedding_store", "chunk")
    # pgai goes on chunking and embedding with its own model; pgvmig's worker follows its chunks
    site.execute("UPDATE documents SET body = 'third of 1. fourth of 1' WHERE id = 1")
    site.execute("INSERT INTO documents VALUES (10, 'first of 10')")
    assert pgai("work", **work) == 3
    site.run("documents_embedding_store")
    view = {"dsn": site.database.dsn, "view": "documents_embedding", "url": models["new"], "text": "fourth of 1"}
    assert pgai("search_view", **view)[0] == ["fourth of 1", "third of 1. fourth of 1"]
    for table, model, dimensions in (
        ("documents_embedding_store", "new", 8),
        ("documents_embedding_store_v1", "new", 8),
        ("documents_embedding_store_v2", "other", 4),
    ):
        asked = {"url": url, "source": "documents", "table": table, "model": models[model], "dimensions": dimensions}
        chunk, distance, parent = pgai("search_model", text="fourth of 1", **asked)[0]
        assert (chunk, round(distance, 3), parent) == ("fourth of 1", 0, 1), table


def test_a_preset_that_names_no_table_says_which_is_meant(site, pgvmig):
    for preset, example in (("llamaindex", "data_documents"), ("pgai", "documents_embedding_store")):
        done = pgvmig("adopt", "--preset", preset, *NEW)
        assert (done.code, done.err.splitlines()[-1]) == (2, f"Next:  pgvmig adopt {example} --version v1 ...")


def test_metadata_that_is_no_nodes_is_left_out(site):
    """Rows that were not written by LlamaIndex: their text is what was embedded."""
    call = "SELECT pgvmig.llamaindex_text(%s::json, %s)"
    nodes = ("{}", '{"metadata": {}}', '{"metadata": 5}', "no", "[]", "7", "")
    for metadata in (None, "{}", '{"year": 1990}', "7", *(json.dumps({"_node_content": node}) for node in nodes)):
        assert site.value(call, metadata, "text") == "text"
    node = json.dumps({"metadata": {"a": 1}, "excluded_embed_metadata_keys": "a"})
    assert site.value(call, json.dumps({"_node_content": node}), None) == "a: 1"

"""What autogenerate makes of a declaration and the versions there are. The database's part is tested with databases."""

from dataclasses import replace

import pytest
from declaring import embedding

from pgvmig.alembic_plugin import ops
from pgvmig.alembic_plugin.compare import Subject, compare, contract_of
from pgvmig.alembic_plugin.notice import NoticeOp
from pgvmig.alembic_plugin.recorded import RecordedSlot, RecordedVersion
from pgvmig.index_plan import IndexPlan
from pgvmig.lifecycle import State

MODELS = {"v1": "one", "v2": "two", "v3": "three"}


def version(name, state, **options):
    facts = {
        "contract": embedding(model=MODELS[name]).contract,
        "adopted": False,
        "search": {},
        "index": IndexPlan(),
        "planned": True,
        "activated_from": None,
        "revision": None,
        "vector_column": "embedding",
        "retired_by": None,
    }
    return RecordedVersion(name=name, state=State(state), **(facts | options))


def subject(declaration, *versions, **facts):
    slot = RecordedSlot(
        schema="public",
        table="documents",
        visible=True,
        slot=declaration.slot,
        view_columns=["id", "body", "embedding"],
        key_columns=["id"],
        shows_all=True,
        versions=list(versions),
    )
    there = {"columns": ["id", "body"], "key": ["id"], "vectors": {}}
    return Subject(
        place=(None, "documents"), embedding=declaration, recorded=slot if versions else None, **(there | facts)
    )


def compared(declaration, *versions, **facts):
    return [each.to_diff_tuple()[:5] for each in compare(subject(declaration, *versions, **facts))]


def added(name):
    return [(verb, None, "documents", "embedding", name) for verb in ("add_embedding", "index_embedding")]


WAY = [
    [("v1", "active"), ("v2", "added")],
    [("v1", "active"), ("v2", "backfilling")],
    [("v1", "active"), ("v2", "ready")],
    [("v1", "retained"), ("v2", "active")],
    [("v1", "retired"), ("v2", "active")],
    [("v1", "active"), ("v2", "retained")],  # rolled back, and still declared
]


@pytest.mark.parametrize("states", WAY, ids=str)
def test_nothing_is_to_be_done_on_the_way_to_what_is_declared(states):
    assert compared(embedding(model="two"), *(version(*each) for each in states)) == []


@pytest.mark.parametrize("states", WAY[:3], ids=str)
def test_what_nobody_declares_any_more_is_named_while_the_active_version_is_declared(states, caplog):
    assert compared(embedding(model="one"), *(version(*each) for each in states)) == []
    (said,) = caplog.messages
    assert said == (
        f"documents declares the contract of v1, which is active; v2 is {states[1][1]} and nobody declares it. "
        "Next: pgvmig retire documents v2 gives it up"
    )


def test_after_a_rollback_that_the_models_follow_all_is_well(caplog):
    assert compared(embedding(model="one"), version("v1", "active"), version("v2", "retained")) == []
    assert caplog.messages == []


def test_the_first_version():
    assert compared(embedding(model="two")) == added("v1")


@pytest.mark.parametrize("states", WAY, ids=str)
def test_another_contract_is_the_next_version(states):
    assert compared(embedding(model="four"), *(version(*each) for each in states)) == added("v3")


def test_a_number_is_never_used_twice():
    states = [("v1", "active"), ("v3", "retired")]
    assert compared(embedding(model="four"), *(version(*each) for each in states)) == added("v4")
    # the contract of a retired version needs its vectors made anew
    assert compared(embedding(model="three"), *(version(*each) for each in states)) == added("v4")


def test_declaring_what_was_active_before_is_a_rollback():
    versions = version("v1", "retained"), version("v2", "active", activated_from="v1", revision="0042")
    (back,) = compare(subject(embedding(model="one"), *versions))
    assert back.to_diff_tuple() == ("roll_back_embedding", None, "documents", "embedding", "v2")
    assert back.after == "0042"
    assert back.reverse().to_diff_tuple() == ("cut_over_embedding", None, "documents", "embedding", "v2")


@pytest.mark.parametrize(
    "states",
    [
        [("v1", "retained"), ("v2", "retained"), ("v3", "active")],  # a rollback leads to v2
        [("v1", "retained"), ("v2", "active"), ("v3", "backfilling")],
        [("v1", "ready"), ("v2", "active"), ("v3", "ready")],
    ],
    ids=str,
)
def test_declaring_an_older_version_that_no_rollback_leads_to_is_said(states, caplog):
    versions = [version(*each, activated_from="v2" if each[0] == "v3" else "v1") for each in states]
    (notice,) = compare(subject(embedding(model="one"), *versions))
    text = (
        f"documents: the declared contract is that of v1, which is {states[0][1]}, and v3 is newer. "
        "Next: pgvmig retire documents v3, or declare the contract of v3"
    )
    assert notice.to_diff_tuple() == ("pgvmig", text)
    assert caplog.messages == [text]


def test_an_index_of_another_kind_is_another_index_and_no_version():
    there = version("v1", "active", index=IndexPlan("hnsw", {"m": 24}))
    for declaration in (
        embedding(model="one", index_options={"m": 32}),
        embedding(model="one"),
        embedding(model="one", quantize="halfvec", index_options={"m": 24}),
        embedding(model="one", index="ivfflat"),
    ):
        (change,) = compare(subject(declaration, there))
        assert (change.method, change.options or {}, change.quantize) == (
            declaration.index,
            declaration.index_options,
            declaration.quantize,
        )
        back = change.reverse()
        assert isinstance(back, ops.IndexEmbeddingOp)
        assert (back.method, back.options, back.quantize, back.after_backfill) == ("hnsw", {"m": 24}, None, True)


def test_a_renamed_column_is_the_same_space():
    """The versions follow a rename; their contracts have the name of the day."""
    there = version("v1", "active", contract=embedding(input="lower(Body) || ' body' || \"T\"").contract)
    followed = embedding(input="lower(text_) || ' body' || \"New T\"")
    here = subject(followed, there)
    assert len(compare(here)) == 2
    renamed = replace(here.recorded, renamed={"body": "text_", "T": "New T", "lower": "upper"})
    assert compare(replace(here, recorded=renamed)) == []
    assert compare(replace(here, embedding=embedding(input=there.contract.input), recorded=renamed)) == []
    other = embedding(input="upper(text_) || ' body' || \"New T\"")
    assert len(compare(replace(here, embedding=other, recorded=renamed))) == 2


def test_an_index_that_is_the_same_in_other_words():
    default = version("v1", "active", index=IndexPlan("hnsw", {"m": 16, "ef_construction": 64}))
    assert compared(embedding(model="one"), default) == []
    assert compared(embedding(model="one", index_options={"m": 16}), version("v1", "active")) == []
    lists = version("v1", "active", index=IndexPlan("ivfflat", {"lists": 100}))
    assert compared(embedding(model="one", index="ivfflat"), lists) == []


def test_an_index_that_is_not_there_and_one_that_is_not_declared():
    (build,) = compare(subject(embedding(model="one"), version("v1", "active", index=None, planned=False)))
    assert build.reverse().to_diff_tuple() == ("drop_embedding_index", None, "documents", "embedding", "v1")
    assert build.reverse().version_stays
    (drop,) = compare(subject(embedding(model="one", index=None), version("v1", "active")))
    assert drop.to_diff_tuple() == ("drop_embedding_index", None, "documents", "embedding", "v1")
    assert drop.version_stays
    assert drop.reverse().to_diff_tuple() == ("index_embedding", None, "documents", "embedding", "v1", "hnsw", {}, None)
    assert compared(embedding(model="one", index=None), version("v1", "active", index=None)) == []


def test_an_adopted_columns_index_is_the_applications_until_one_is_asked_for():
    there = {"adopted": True, "planned": False}
    assert compared(embedding(model="one"), version("v1", "active", index=None, **there)) == []
    other = IndexPlan("ivfflat", {"lists": 10})
    assert compared(embedding(model="one"), version("v1", "active", index=other, **there)) == []
    (change,) = compare(
        subject(embedding(model="one"), version("v1", "active", index=other, **(there | {"planned": True})))
    )
    assert isinstance(change, ops.IndexEmbeddingOp)


def test_how_it_is_searched_changes_no_space():
    there = version("v1", "active", search={"ef_search": 40})
    (change,) = compare(subject(embedding(model="one", search={"ef_search": 100}), there))
    assert change.to_diff_tuple()[-1] == {"ef_search": 100}
    assert change.reverse().search == {"ef_search": 40}
    assert change.reverse().reverse() is change
    # declared nowhere, it is whoever operates it that decides
    assert compared(embedding(model="one"), there) == []


@pytest.mark.parametrize(
    ("facts", "declaration", "said"),
    [
        ({"columns": None}, {}, "there is no such table"),
        ({"key": None}, {}, "it has no primary key and no unique key without NULLs, so nobody could say which row a"),
        (
            {"columns": ["id", "embedding"], "vectors": {"embedding": {"type": "vector", "dimensions": 8}}},
            {},
            "the table has a column embedding, which is what the views call the vector. Next: adopt='embedding' takes",
        ),
        (
            {"columns": ["id", "embedding"]},
            {},
            "the table has a column embedding, which is what the views call the vector. Next: name another slot with",
        ),
        ({}, {"adopt": "old"}, "there is no column old to adopt. Next: name another with adopt=, or leave it out"),
        (
            {"columns": ["id", "old"], "vectors": {"old": {"type": "vector", "dimensions": 16}}},
            {"adopt": "old"},
            "old is vector(16), the declaration says vector(8), so the vectors there are of another model. Next: ",
        ),
    ],
)
def test_what_cannot_be_written_is_said(facts, declaration, said, caplog):
    (notice,) = compare(subject(embedding(**declaration), **facts))
    assert isinstance(notice, NoticeOp)
    assert notice.text.startswith(f"documents: {said}")
    assert caplog.messages == [notice.text]


@pytest.mark.parametrize("dimensions", [8, -1])
def test_a_column_is_adopted(dimensions):
    facts = {"columns": ["id", "old", "body"], "vectors": {"old": {"type": "vector", "dimensions": dimensions}}}
    adopt, search = compare(subject(embedding(adopt="old", search={"ef_search": 9}), **facts))
    assert adopt.to_diff_tuple()[:6] == ("adopt_embedding", None, "documents", "embedding", "v1", "old")
    assert (adopt.columns, adopt.key) == (["id", "body"], ["id"])
    assert adopt.reverse().to_diff_tuple() == ("release_embedding", None, "documents", "embedding", "v1")
    assert adopt.reverse().reverse() is adopt
    assert (search.search, search.reverse().search) == ({"ef_search": 9}, {})
    # what comes after it is a version like any other
    assert compared(embedding(adopt="old", model="four"), version("v1", "active", adopted=True)) == added("v2")


def test_the_contract_is_written_with_what_was_given_and_what_no_default_says():
    short = {"model": "hash", "model_version": "1", "dimensions": 8, "input": "body"}
    assert contract_of(embedding(provider="openai")) == short | {"provider": "openai"}
    assert contract_of(embedding(query_prefix="q: ", metric="cosine")) == short | {
        "provider": "new",
        "metric": "cosine",
        "query_prefix": "q: ",
    }
    # the type that the dimensions chose: another release may choose otherwise
    assert contract_of(embedding(dimensions=3072))["vector_type"] == "halfvec"

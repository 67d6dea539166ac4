"""The contract: what it refuses, and that its fingerprint is what it was."""

from dataclasses import FrozenInstanceError, fields
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgvmig.contract import Contract, render_diff
from pgvmig.errors import ContractError

GIVEN = {"model": "m", "model_version": "1", "dimensions": 3, "input": "title || 'ü'"}

# One other value for each field that makes a legal contract.
OTHER = {
    "model": "n",
    "model_version": "2",
    "dimensions": 4,
    "input": "title",
    "provider": "other",
    "metric": "l2",
    "vector_type": "halfvec",
    "document_prefix": "passage: ",
    "query_prefix": "query: ",
    "normalized": False,
    "max_input": 8_000,
    "too_long": "truncate",
    "preprocessing": "p1",
    "chunking": "c1",
}

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
CONTRACTS = st.fixed_dictionaries(
    {
        "model": TEXT.filter(str.strip),
        "model_version": TEXT.filter(lambda text: text.strip().lower() not in {"", "latest"}),
        "dimensions": st.integers(1, 2_000),
        "input": TEXT.filter(str.strip),
    },
    optional={
        "provider": TEXT,
        "metric": st.sampled_from(["cosine", "l2", "inner_product", "l1"]),
        "vector_type": st.sampled_from(["vector", "halfvec"]),
        "document_prefix": TEXT,
        "query_prefix": TEXT,
        "normalized": st.booleans(),
        "max_input": st.none() | st.integers(1),
        "too_long": st.sampled_from(["error", "truncate"]),
        "preprocessing": TEXT,
        "chunking": TEXT,
    },
)


def refused(**changes):
    with pytest.raises(ContractError) as error:
        Contract.of({**GIVEN, **changes})
    return str(error.value)


def test_canonical_form_and_fingerprint_are_what_databases_already_hold():
    contract = Contract.of(GIVEN)
    assert contract.canonical() == (
        '{"chunking":"none","dimensions":3,"document_prefix":"","input":"title || \'ü\'","max_input":null,'
        '"metric":"cosine","model":"m","model_version":"1","normalized":true,"preprocessing":"none",'
        '"provider":"openai","query_prefix":"","too_long":"error","vector_type":"vector"}'
    )
    assert contract.fingerprint == "c9e32eec1680f93cf39d46fe0b61d9ca580474ed2697d6d1443288012d102a79"


def test_other_has_a_value_for_every_field():
    assert list(OTHER) == [field.name for field in fields(Contract)]


@pytest.mark.parametrize("name", OTHER)
def test_every_field_makes_another_space(name):
    before, after = Contract.of(GIVEN), Contract.of({**GIVEN, name: OTHER[name]})
    assert before.diff(after) == [(name, getattr(before, name), OTHER[name])]
    assert before.fingerprint != after.fingerprint


@given(CONTRACTS, CONTRACTS)
def test_fingerprints_are_equal_exactly_when_contracts_are(one, other):
    here, there = Contract.of(one), Contract.of(other)
    assert (here.fingerprint == there.fingerprint) == (here == there) == (here.diff(there) == [])


@given(CONTRACTS)
def test_contract_comes_back_from_its_own_fields(given_contract):
    contract = Contract.of(given_contract)
    again = Contract.of(dict(reversed(contract.as_dict().items())))
    assert again == contract
    assert again.fingerprint == sha256(contract.canonical().encode()).hexdigest()


def test_contract_is_frozen():
    contract = Contract.of(GIVEN)
    with pytest.raises(FrozenInstanceError):
        contract.model = "other"
    assert Contract.of(contract) is contract


def test_diff_names_each_field_with_both_values():
    before = Contract.of(GIVEN)
    after = Contract.of({**GIVEN, "model": "n", "query_prefix": "query: "})
    assert render_diff(before, after) == (
        "model         'm' -> 'n'\n"
        "query_prefix  '' -> 'query: '\n"
        f"another space: {before.fingerprint[:12]} -> {after.fingerprint[:12]}, every row is embedded again"
    )
    assert render_diff(before, before) == f"same space ({before.fingerprint[:12]})"


@pytest.mark.parametrize(
    ("dimensions", "vector_type", "by_itself"),
    [(2_000, "vector", False), (2_001, "halfvec", True), (4_001, "halfvec", True)],
)
def test_halfvec_is_chosen_where_only_it_can_be_indexed(dimensions, vector_type, by_itself):
    contract = Contract.of({**GIVEN, "dimensions": dimensions})
    assert (contract.vector_type, contract.halfvec_by_itself) == (vector_type, by_itself)


REFUSALS = [
    (
        {"modle": "m"},
        (
            "the contract has no key 'modle'. A misspelt key would silently leave its default in force. "
            "Next: did you mean 'model'? use one of chunking, dimensions, document_prefix, input, max_input, metric, "
            "model, model_version, normalized, preprocessing, provider, query_prefix, too_long, vector_type"
        ),
    ),
    (
        {"model": None, "input": None},
        (
            "the contract lacks model, input. Without them nobody can tell later which space the vectors are in. "
            "Next: add 'model' to the contract"
        ),
    ),
    ({"model": " "}, "model is empty. Next: name the model as its provider does"),
    (
        {"model_version": " Latest "},
        (
            "model_version is ' Latest '. What `latest` means changes at the provider, and the vectors of two meanings "
            "do not compare. Next: pin the model's version or release date, such as '2024-01-25'"
        ),
    ),
    (
        {"model_version": ""},
        (
            "model_version is ''. What `latest` means changes at the provider, and the vectors of two meanings do not "
            "compare. Next: pin the model's version or release date, such as '2024-01-25'"
        ),
    ),
    ({"metric": "dot"}, "metric is 'dot'. Next: use one of cosine, l2, inner_product, l1"),
    ({"vector_type": "bit"}, "vector_type is 'bit'. Next: use one of vector, halfvec"),
    ({"too_long": "drop"}, "too_long is 'drop'. Next: use one of error, truncate"),
    ({"input": "\t"}, "input is empty. Next: give an SQL expression over the row, such as 'title || body'"),
    ({"max_input": 0}, "max_input is 0. Next: give a number of characters from 1 up"),
    ({"dimensions": "3"}, "dimensions is '3', a str. Next: write a number, without quotes"),
    ({"dimensions": True}, "dimensions is True, a bool. Next: write a number, without quotes"),
    ({"dimensions": 3.0}, "dimensions is 3.0, a float. Next: write a number, without quotes"),
    ({"normalized": 1}, "normalized is 1, a int. Next: write True or False, without quotes"),
    ({"max_input": True}, "max_input is True, a bool. Next: write a number, without quotes"),
    ({"provider": None}, "provider is None, a NoneType. Next: write a text, in quotes"),
    (
        {"query_prefix": "a\0b"},
        (
            "query_prefix holds a character that is no text (NUL or half of a surrogate pair). PostgreSQL's text "
            "cannot store it."
        ),
    ),
    (
        {"query_prefix": "a\ud800b"},
        (
            "query_prefix holds a character that is no text (NUL or half of a surrogate pair). PostgreSQL's text "
            "cannot store it."
        ),
    ),
    ({"dimensions": 0}, "dimensions is 0. Next: give a number from 1 to 16,000"),
    ({"dimensions": 16_001}, "dimensions is 16,001. Next: give a number from 1 to 16,000"),
    (
        {"dimensions": 4_001, "metric": "l1"},
        (
            "4,001 dimensions under l1: an index takes 4,000, or a bit of each, and bits rank by angle only. Found at "
            "CREATE INDEX it would come after the whole embedding bill. Next: ask for fewer dimensions (many models "
            "shorten on request), or metric 'cosine'"
        ),
    ),
    (
        {"dimensions": 4_001, "metric": "inner_product", "normalized": False},
        (
            "4,001 dimensions under inner_product of vectors that need not have unit length: an index takes 4,000, or "
            "a bit of each, and bits rank by angle only. Found at CREATE INDEX it would come after the whole embedding "
            "bill. Next: ask for fewer dimensions (many models shorten on request), or metric 'cosine'"
        ),
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSALS, ids=[repr(changes) for changes, _ in REFUSALS])
def test_refusals_say_what_was_found_and_what_is_allowed(changes, message):
    assert refused(**changes) == message


def test_a_key_that_is_like_no_other_is_not_guessed_at():
    with pytest.raises(ContractError, match="Next: use one of chunking, "):
        Contract.of({"colour": "green"})

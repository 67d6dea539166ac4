"""What a provider answers is believed when every promise of the contract holds."""

import base64
import json
import logging

import numpy as np
import pytest
from embedding import KEY, TAMPERED, assert_vectors_of, contract, opened
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pgvmig.config import ProviderSettings, Secret
from pgvmig.demo.faults import Fault
from pgvmig.embedders import answers
from pgvmig.errors import (
    AnswerRejectedError,
)


@pytest.mark.parametrize("encoding_format", ["base64", "float"])
@pytest.mark.parametrize("kind", TAMPERED)
def test_an_answer_that_cannot_be_trusted_is_asked_for_again_and_then_refused(server, kind, encoding_format):
    with opened(server, answer_attempts=2, encoding_format=encoding_format) as embedder:
        server.faults.append(Fault(kind=kind))
        assert_vectors_of(embedder.embed_documents(["a", "b"]), ["a", "b"])
        assert len(server.requests) == 2

        server.faults.append(Fault(kind=kind, times=None))
        with pytest.raises(AnswerRejectedError) as error:
            embedder.embed_documents(["a", "b"])
    assert len(server.requests) == 4
    assert (error.value.data["kind"], TAMPERED[kind][1] in error.value.found) == (TAMPERED[kind][0], True)


def test_a_norm_is_nobodys_business_unless_the_contract_says_normalized(server):
    server.faults.append(Fault(kind="norm", every=True))
    with opened(server, contract=contract(normalized=False)) as embedder:
        found = embedder.embed_documents(["a", "b"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 2, rtol=1e-6)


def test_another_model_in_the_answer_is_a_warning_once(server, monkeypatch, caplog):
    def rename(body, count, **other):
        content = json.loads(body) | {"model": "something-else"}
        return answer_reader(json.dumps(content).encode(), count, **other)

    answer_reader = answers.read
    monkeypatch.setattr(answers, "read", rename)
    with caplog.at_level(logging.WARNING, logger="pgvmig.embedders"), opened(server) as embedder:
        embedder.embed_documents(["a"])
        embedder.embed_documents(["b"])
    (message,) = caplog.messages
    assert message.endswith("was asked for model 'hash' and says that 'something-else' answered")


def answer(vectors, *, indexes=None, **other):
    items = [
        {"index": index, "embedding": vector}
        for index, vector in zip(indexes or range(len(vectors)), vectors, strict=True)
    ]
    return json.dumps({"data": items, "model": "m", **other}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"data": null}',
        b'{"data": {"0": 1}}',
        b'{"data": [1]}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"index": 0, "embedding": null}]}',
        b'{"data": [{"index": 0, "embedding": [null]}]}',
        b'{"data": [{"index": 0, "embedding": ["1"]}]}',
        b'{"data": [{"index": 0, "embedding": [true]}]}',
        b'{"data": [{"index": 0, "embedding": [[1.0]]}]}',
        b'{"data": [{"index": 0, "embedding": "####"}]}',
        b'{"data": [{"index": 0, "embedding": "AAAA"}]}',
        b'{"data": [{"index": 0, "embedding": "\xc3\xa4"}]}',
        b'{"data": [{"index": 0, "embedding": [1' + b"0" * 400 + b"]}]}",
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_told_from_one(body):
    with pytest.raises(AnswerRejectedError) as error:
        answers.read(body, 1)
    assert error.value.data["kind"] == "format"
    assert len(error.value.found) < 400


def test_an_error_inside_a_200_is_shown_without_the_key():
    chosen = ProviderSettings(name="x", api_key=Secret(KEY))
    body = json.dumps({"error": {"message": f"quota of {KEY} is used up"}}).encode()
    with pytest.raises(AnswerRejectedError, match=r"quota of \*\*\* is used up"):
        answers.read(body, 1, hide=chosen.without_secrets)


@pytest.mark.parametrize("indexes", [[1, 0], [0, 0], [1, 2], [0, None], ["0", "1"], [0.0, 1.0], [False, True], [-1, 0]])
def test_only_the_indexes_0_to_n_in_order_are_taken(indexes):
    with pytest.raises(AnswerRejectedError) as error:
        answers.read(answer([[1.0], [1.0]], indexes=indexes), 2)
    assert error.value.data["kind"] == "indexes"


components = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(components, min_size=3, max_size=3), min_size=1, max_size=5), st.booleans())
def test_base64_and_numbers_are_read_alike(vectors, as_base64):
    wanted = np.array(vectors, dtype=np.float32)
    sent = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in wanted] if as_base64 else vectors
    found = answers.read(answer(sent), len(vectors))
    np.testing.assert_array_equal(np.array(found.vectors, dtype=np.float32), wanted)
    assert found.model == "m"


@given(
    st.lists(st.lists(st.floats(), min_size=1, max_size=4), max_size=4),
    st.integers(0, 4),
    st.sampled_from(["vector", "halfvec"]),
    st.booleans(),
)
def test_whatever_comes_either_every_promise_holds_or_it_is_refused(vectors, count, vector_type, normalized):
    about = contract(dimensions=3, vector_type=vector_type, normalized=normalized)
    try:
        found = answers.check([np.array(vector) for vector in vectors], count, about, norm_tolerance=0.01)
    except AnswerRejectedError as error:
        event(error.data["kind"])
        return
    assert (found.shape, found.dtype) == ((count, 3), np.float32)
    stored = found.astype(np.float16 if vector_type == "halfvec" else np.float32).astype(np.float64)
    norms = np.linalg.norm(stored, axis=1)
    assert np.isfinite(stored).all()
    assert (norms > 0).all()
    assert not normalized or (np.abs(norms - 1) <= 0.01).all()


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 64), st.sampled_from([np.float16, "bfloat16"]))
def test_unit_vectors_of_half_precision_pass(seed, dimensions, precision):
    vector = np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)
    vector /= np.linalg.norm(vector)
    if precision == "bfloat16":
        vector = (vector.view(np.uint32) & 0xFFFF0000).view(np.float32)  # cut, which is worse than rounded
    else:
        vector = vector.astype(precision)
    answers.check([vector], 1, contract(dimensions=dimensions), norm_tolerance=ProviderSettings.norm_tolerance)


@pytest.mark.parametrize(
    ("vector", "kind"), [([1e5, 0], "not_finite"), ([1e-9, 0], "zero"), ([0.6, 0.8], None), ([60_000, 0], None)]
)
def test_a_halfvec_is_judged_by_what_will_be_stored(vector, kind):
    about = contract(dimensions=2, vector_type="halfvec", normalized=False)
    if kind is None:
        assert answers.check([np.array(vector)], 1, about, norm_tolerance=0.01).tolist()[0] == pytest.approx(vector)
        return
    with pytest.raises(AnswerRejectedError) as error:
        answers.check([np.array(vector)], 1, about, norm_tolerance=0.01)
    assert error.value.data["kind"] == kind


def test_a_rejected_answer_teaches():
    with pytest.raises(AnswerRejectedError) as error:
        answers.check([np.array([0.6, 0.0])], 1, contract(dimensions=2), norm_tolerance=0.01)
    assert str(error.value) == (
        "vector 1 of 1 has length 0.6, the contract says normalized. Inner products and distances would not compare "
        "with the other rows'. Next: if the model does not normalise, say normalized: false in the contract; otherwise "
        "the provider is at fault"
    )

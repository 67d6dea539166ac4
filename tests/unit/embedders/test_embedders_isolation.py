"""One text that a provider refuses, or always answers wrongly, is found and spoils no other."""

import math
from collections import Counter

import pytest
from embedding import MODEL, TAMPERED, assert_vectors_of, contract, opened, texts_of
from hypothesis import given
from hypothesis import strategies as st

from pgvmig.demo.faults import Fault
from pgvmig.embedders import Failure, Part, embed_or_isolate
from pgvmig.embedders.split import HARMLESS
from pgvmig.errors import (
    AnswerRejectedError,
    InputRejectedError,
    ProviderError,
    ProviderUnavailableError,
)


def is_poison(text):
    return "poison" in text


def check_isolated(found, texts, kind):
    for text, result in zip(texts, found, strict=True):
        if is_poison(text):
            assert isinstance(result, Failure)
            assert result.kind == kind
        else:
            assert_vectors_of(result[None], [text])


@pytest.mark.parametrize("position", [0, 21, 63])
def test_one_poison_text_costs_a_few_requests_and_stands_alone(server, position):
    texts = texts_of(64)
    texts[position] = "poison"
    server.poison = is_poison
    with opened(server, batch_size=64) as embedder:
        found = embed_or_isolate(embedder, texts)
    check_isolated(found, texts, "refused")
    assert found[position].error.endswith("answered 400: Your input was rejected")
    assert len(server.requests) == 1 + 1 + 2 * int(math.log2(64))  # the batch, the harmless text, both halves each time


def test_batches_without_poison_are_sent_once(server):
    texts = texts_of(40)
    texts[17] = "poison"
    server.poison = is_poison
    with opened(server, batch_size=10) as embedder:
        check_isolated(embed_or_isolate(embedder, texts), texts, "refused")
    answered = Counter(text for request in server.requests if request.status == 200 for text in request.texts)
    assert answered == Counter([*texts, HARMLESS]) - Counter(["poison"])
    sent = Counter(text for request in server.requests for text in request.texts)
    assert {sent[text] for number, text in enumerate(texts) if number // 10 != 1} == {1}


def test_neighbouring_poison_texts_are_all_found(server):
    texts = [*texts_of(5), "poison 1", "poison 2", "poison 3", "poison 4", "last"]
    server.poison = is_poison
    with opened(server, batch_size=4) as embedder:
        check_isolated(embed_or_isolate(embedder, texts), texts, "refused")


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("nan", "not_finite"),
        ("zero", "zero"),
        ("norm", "norm"),
        ("dimensions", "dimensions"),
        ("short", "count"),
        ("garbage", "format"),
    ],
)
def test_a_text_that_is_always_answered_wrongly_stands_alone(server, kind, label):
    texts = [*texts_of(5), "poison", *texts_of(2)]
    server.faults.append(Fault(kind=kind, containing="poison", times=None))
    with opened(server, answer_attempts=1) as embedder:
        check_isolated(embed_or_isolate(embedder, texts), texts, label)


@pytest.mark.parametrize("kind", ["nan", "zero", "norm", "dimensions", "short", "extra", "garbage", "shuffled"])
def test_a_provider_that_is_always_wrong_blames_no_row(server, kind):
    server.faults.append(Fault(kind=kind, times=None))
    with opened(server, answer_attempts=1) as embedder, pytest.raises(AnswerRejectedError) as error:
        embed_or_isolate(embedder, texts_of(64))
    assert error.value.data["kind"] == dict(TAMPERED, shuffled=("indexes",))[kind][0]
    assert len(server.requests) <= 2


def test_a_provider_that_refuses_everything_blames_no_row(server):
    server.faults.append(Fault(kind="status", status=400, message="Unknown parameter: 'encoding_format'.", times=None))
    with opened(server) as embedder, pytest.raises(ProviderError) as error:
        embed_or_isolate(embedder, texts_of(64))
    assert type(error.value) is ProviderError
    assert "Unknown parameter: 'encoding_format'; the text 'hello' was refused as well" in error.value.found
    assert len(server.requests) == 2


def test_a_batch_that_is_too_large_goes_through_in_pieces(server):
    def limit(request):
        if len(request.texts) > 8:
            server.faults.append(Fault(kind="status", status=413))

    server.on_request = limit
    texts = texts_of(32)
    with opened(server, batch_size=32, concurrency=1) as embedder:
        check_isolated(embed_or_isolate(embedder, texts), texts, None)
    assert [len(request.texts) for request in server.requests] == [32, 1, 16, 8, 8, 16, 8, 8]


def test_texts_that_are_refused_here_cost_no_request_and_no_splitting(server):
    texts = ["ok", "poison, far too long", " ", "fine"]
    with opened(server, contract=contract(max_input=5)) as embedder:
        found = embed_or_isolate(embedder, texts)
    assert [getattr(result, "kind", None) for result in found] == [None, "too_long", "empty", None]
    assert found[1].error == "the text has 20 characters; the contract's max_input is 5"
    assert [request.texts for request in server.requests] == [("ok", "fine")]


def test_a_provider_that_is_down_blames_no_row(server):
    server.faults.append(Fault(kind="status", status=503, times=None))
    with opened(server, max_retry_time=0) as embedder, pytest.raises(ProviderUnavailableError):
        embed_or_isolate(embedder, texts_of(4))


class FakeEmbedder:
    """Answers from memory what a provider would, with poison texts; counts the requests."""

    def __init__(self, batch_size=1_000):
        self.batch_size = batch_size
        self.requests = 0

    def embed_parts(self, texts):
        starts = range(0, len(texts), self.batch_size)
        return [self._part(range(start, min(start + self.batch_size, len(texts))), texts) for start in starts]

    def _part(self, positions, texts):
        self.requests += 1
        if any(is_poison(texts[position]) for position in positions):
            return Part(tuple(positions), InputRejectedError("refused", kind="refused"))
        return Part(tuple(positions), MODEL.embed([texts[position] for position in positions]))


@given(st.integers(1, 70), st.sets(st.integers(0, 69)), st.integers(1, 20))
def test_exactly_the_poison_texts_fail(count, poisoned, batch_size):
    texts = [f"poison {n}" if n in poisoned else f"text {n}" for n in range(count)]
    check_isolated(embed_or_isolate(FakeEmbedder(batch_size), texts), texts, "refused")


@given(st.integers(1, 600), st.data())
def test_one_poison_text_among_n_costs_o_of_log_n_requests(count, data):
    texts = texts_of(count)
    texts[data.draw(st.integers(0, count - 1))] = "poison"
    embedder = FakeEmbedder()
    embed_or_isolate(embedder, texts)
    assert embedder.requests <= 2 + 2 * math.ceil(math.log2(count))

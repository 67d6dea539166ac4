"""Embedders against a real HTTP server that misbehaves on request, and their pure parts alone."""

import base64
import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import numpy as np
import pytest
import tenacity
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pgvmig.config import ProviderSettings, Secret
from pgvmig.contract import Contract
from pgvmig.demo.faults import Fault
from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel
from pgvmig.embedders import Failure, Part, answers, embed_or_isolate, open_embedder, retries
from pgvmig.embedders.retries import retry_after
from pgvmig.embedders.split import HARMLESS
from pgvmig.errors import (
    AnswerRejectedError,
    ConfigError,
    ContractError,
    InputRejectedError,
    ProviderError,
    ProviderUnavailableError,
    StoppedError,
)

MODEL = HashModel(dimensions=8)
KEY = "sk-very-secret-1234567890"


def contract(**other):
    return Contract.of(
        {"model": MODEL.name, "model_version": "1", "dimensions": 8, "input": "body", "provider": "local", **other}
    )


def texts_of(count):
    return [f"text {number}" for number in range(count)]


@pytest.fixture
def _short_backoff(monkeypatch):
    """The same backoff at a tenth of its length; how long it really is has a test of its own."""
    monkeypatch.setattr(retries, "_backoff", tenacity.wait_random_exponential(multiplier=0.05, max=2))


@pytest.fixture(scope="module")
def running_server():
    with serving({"local": MODEL}) as started:
        yield started


@pytest.fixture
def server(running_server, _short_backoff):
    """The server without faults, key, poison and memories of other tests."""
    running_server.faults.clear()
    running_server.requests.clear()
    running_server.key = running_server.poison = running_server.on_request = None
    return running_server


@contextmanager
def opened(server, *, should_stop=None, contract=contract(), **other):  # noqa: B008  # frozen
    chosen = ProviderSettings(name="local", base_url=server.base_url("local"), **({"max_retry_time": 10.0} | other))
    with closing(open_embedder(contract, chosen, should_stop=should_stop)) as embedder:
        yield embedder


def assert_vectors_of(found, texts):
    """Each vector is its text's: the order was kept."""
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, MODEL.embed(texts), atol=1e-6)


# Documents and queries


@pytest.mark.parametrize("encoding_format", ["base64", "float"])
def test_texts_become_vectors_in_their_order(server, encoding_format):
    texts = texts_of(23)
    with opened(server, batch_size=5, concurrency=3, encoding_format=encoding_format) as embedder:
        assert_vectors_of(embedder.embed_documents(texts), texts)
        query = embedder.embed_query("text 7")
    assert query.shape == (8,)
    np.testing.assert_allclose(query, MODEL.embed(["text 7"])[0], atol=1e-6)
    sizes = [len(request.texts) for request in server.requests]
    assert sorted(sizes) == [1, 3, 5, 5, 5, 5]
    assert {request.dimensions for request in server.requests} == {None}


def test_no_texts_are_no_request(server):
    with opened(server) as embedder:
        assert embedder.embed_documents([]).shape == (0, 8)
        assert embedder.embed_parts([]) == []
    assert server.requests == []


def test_concurrency_is_used_and_bounds_the_requests_of_all_threads(server):
    in_flight, together, peak = threading.Lock(), threading.Barrier(3), Counter()

    def meet(_request):
        with in_flight:
            peak["now"] += 1
            peak["most"] = max(peak["most"], peak["now"])
        together.wait(timeout=20)  # nobody gets here unless three are in flight
        with in_flight:
            peak["now"] -= 1

    server.on_request = meet
    with opened(server, batch_size=1, concurrency=3) as embedder:
        results = {}
        threads = [
            threading.Thread(target=lambda own=own: results.update({own: embedder.embed_documents([own] * 3)}))
            for own in ("a", "b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert peak["most"] == 3
    for own in ("a", "b"):
        assert_vectors_of(results[own], [own] * 3)


def test_dimensions_are_asked_for_only_when_told_to(server):
    shorter = contract(dimensions=4)
    with (
        opened(server, contract=shorter, answer_attempts=1) as embedder,
        pytest.raises(AnswerRejectedError, match="has 8 dimensions, the contract says 4"),
    ):
        embedder.embed_documents(["a"])
    with opened(server, contract=shorter, send_dimensions=True) as embedder:
        assert embedder.embed_documents(["a"]).shape == (1, 4)
    assert [request.dimensions for request in server.requests] == [None, 4]


def test_prefixes_are_sent(server):
    with opened(server, contract=contract(document_prefix="doc: ", query_prefix="find: ")) as embedder:
        embedder.embed_documents(["a"])
        embedder.embed_query("a")
    assert [request.texts for request in server.requests] == [("doc: a",), ("find: a",)]


def test_a_text_that_is_too_long_is_refused_before_anything_is_paid(server):
    with opened(server, contract=contract(document_prefix="doc: ", max_input=10)) as embedder:
        with pytest.raises(InputRejectedError) as error:
            embedder.embed_documents(["short", "longer"])
        assert server.requests == []
        assert_vectors_of(embedder.embed_documents(["short"]), ["doc: short"])
        with pytest.raises(InputRejectedError, match="the text has 11 characters; the contract's max_input is 10"):
            embedder.embed_query("0123456789x")
    assert str(error.value) == (
        "the text has 11 characters, 5 of them the prefix; the contract's max_input is 10. Most models cut longer "
        "texts without a word, and the rest is not found by any search. Next: split or shorten the text, or make a "
        "version with another max_input or too_long: truncate"
    )


def test_truncating_counts_the_prefix_too(server):
    cut = contract(document_prefix="doc: ", max_input=10, too_long="truncate")
    with opened(server, contract=cut) as embedder:
        embedder.embed_documents(["longer", "five5"])
    assert server.requests[0].texts == ("doc: longe", "doc: five5")


def test_a_prefix_that_leaves_no_room_for_text_is_refused(server):
    with (
        pytest.raises(ContractError, match="max_input is 5 and a prefix has 5 characters already"),
        opened(server, contract=contract(query_prefix="find:", max_input=5, too_long="truncate")),
    ):
        pass


@pytest.mark.parametrize("text", ["", " \n\t", "\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}"])
def test_empty_texts_never_leave_the_machine(server, text):
    with opened(server, contract=contract(document_prefix="doc: ")) as embedder:
        with pytest.raises(InputRejectedError, match="empty or only white space"):
            embedder.embed_documents(["a", text])
        with pytest.raises(InputRejectedError, match="empty or only white space"):
            embedder.embed_query(text)
    assert server.requests == []


# Distrust


TAMPERED = {
    "short": ("count", "1 vectors came back for 2 texts"),
    "extra": ("count", "3 vectors came back for 2 texts"),
    "shuffled": ("indexes", "embedding 1 of 2 has index 1"),
    "duplicate_index": ("indexes", "embedding 2 of 2 has index 0"),
    "dimensions": ("dimensions", "vector 2 of 2 has 7 dimensions, the contract says 8"),
    "nan": ("not_finite", "vector 2 of 2 holds nan as vector"),
    "infinity": ("not_finite", "vector 2 of 2 holds inf as vector"),
    "zero": ("zero", "vector 2 of 2 is zero"),
    "norm": ("norm", "vector 2 of 2 has length 2, the contract says normalized"),
    "garbage": ("format", "the answer is no JSON"),
}


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


# Errors over HTTP


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=429),
        Fault(kind="status", status=500),
        Fault(kind="status", status=503),
        Fault(kind="status", status=529),
        Fault(kind="status", status=408),
        Fault(kind="status", status=409),
        Fault(kind="drop"),
        Fault(kind="cut"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_what_passes_by_itself_is_waited_out(server, fault):
    server.faults.extend([fault, fault])
    with opened(server) as embedder:
        assert_vectors_of(embedder.embed_documents(["a"]), ["a"])
        assert len(server.requests) == 3
        server.faults.append(fault)
        embedder.embed_query("a")


def test_a_timeout_is_ours_and_is_waited_out(server):
    server.faults.append(Fault(kind="latency", seconds=5))
    with opened(server, timeout=0.3) as embedder:
        assert_vectors_of(embedder.embed_documents(["a"]), ["a"])
    assert len(server.requests) >= 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "headers",
    [
        lambda: {"retry-after": "1"},
        lambda: {"retry-after-ms": "1000", "retry-after": "60"},
        # Whole seconds are left of it: at least one.
        lambda: {"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)},
    ],
    ids=["seconds", "milliseconds", "date"],
)
def test_retry_after_is_honoured(server, status, headers):
    arrived = []

    def refuse_the_first(_request):
        arrived.append(time.monotonic())
        if len(arrived) == 1:
            server.faults.append(Fault(kind="status", status=status, headers=headers()))

    server.on_request = refuse_the_first
    with opened(server) as embedder:
        embedder.embed_documents(["a"])
    ((first, second),) = pairwise(arrived)
    assert second - first >= 0.99


def test_a_provider_that_stays_away_is_given_up_in_bounded_time(server):
    server.faults.append(Fault(kind="status", status=503, message="Overloaded.", times=None))
    with opened(server, max_retry_time=2) as embedder, pytest.raises(ProviderUnavailableError) as error:
        embedder.embed_documents(["a"])
    assert error.value.data["status"] == 503
    assert error.value.data["attempts"] == len(server.requests) > 1
    found, rest = str(error.value).split("; given up after ")
    assert found == f"provider 'local' at {server.base_url('local')} answered 503: Overloaded"
    assert rest.partition(" s. ")[2] == (
        "Nothing was written: the rows stay as they were, and no row counts as failed. Next: run the same command "
        "again when the provider is back; lower concurrency if it limits the rate, raise max_retry_time (now 2 s) of "
        "[providers.local] to wait longer"
    )


def test_being_asked_to_wait_longer_than_we_may_ends_at_once(server):
    server.faults.append(Fault(kind="status", status=429, headers={"retry-after": "3600"}))
    with opened(server) as embedder, pytest.raises(ProviderUnavailableError, match="it asks to wait 3,600 s"):
        embedder.embed_documents(["a"])
    assert len(server.requests) == 1


def test_nobody_there():
    with serving({"local": MODEL}) as server:
        url = server.base_url("local")
    chosen = ProviderSettings(name="local", base_url=url, max_retry_time=0)
    with closing(open_embedder(contract(), chosen)) as embedder, pytest.raises(ProviderUnavailableError) as error:
        embedder.embed_documents(["a"])
    assert error.value.found.startswith(f"provider 'local' at {url} is not reachable (")
    assert error.value.found.endswith("given up after 1 attempt in 0 s")


@pytest.mark.parametrize(("status", "sent"), [(400, "Bad."), (413, "Too large."), (422, "Not so."), (400, "x" * 2000)])
def test_a_refused_batch_is_not_retried_and_carries_the_providers_words(server, status, sent):
    server.faults.append(Fault(kind="status", status=status, message=sent))
    with opened(server) as embedder, pytest.raises(InputRejectedError) as error:
        embedder.embed_documents(["a"])
    assert len(server.requests) == 1
    assert f"answered {status}: {sent[:500].rstrip('.')}" in error.value.found
    assert len(error.value.found) < 600
    assert error.value.data == {"kind": "refused", "provider": "local", "status": status}


def test_an_unknown_model_is_an_error_at_once(server):
    with (
        opened(server, contract=contract(model="other")) as embedder,
        pytest.raises(ProviderError, match="check that the provider serves 'other' under that name") as error,
    ):
        embedder.embed_documents(["a"])
    assert (type(error.value), error.value.data["status"]) == (ProviderError, 404)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "next_step"),
    [
        (402, "check the account's balance"),
        (403, "check that the key in PGVMIG_LOCAL_API_KEY may use the model 'hash'"),
        (405, "check base_url of provider 'local'"),
    ],
)
def test_what_waiting_does_not_help_is_an_error_at_once(server, status, next_step):
    server.faults.append(Fault(kind="status", status=status))
    with opened(server) as embedder, pytest.raises(ProviderError) as error:
        embedder.embed_documents(["a"])
    assert (type(error.value), error.value.next_step) == (ProviderError, next_step)
    assert len(server.requests) == 1


def test_a_wrong_key_is_an_error_at_once_and_is_never_shown(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.key = "another"
    with opened(server, api_key=Secret(KEY), api_key_env="MY_KEY") as embedder:
        with pytest.raises(ProviderError) as error:
            embedder.embed_documents(["a"])
        assert KEY not in repr(vars(embedder))
    assert str(error.value) == (
        f"provider 'local' at {server.base_url('local')} does not accept the key (401). Next: check MY_KEY"
    )
    assert KEY not in caplog.text


def test_a_key_is_sent_and_its_echo_is_taken_out(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.key = KEY
    server.faults.append(Fault(kind="status", status=403, message=f"No access for {KEY}\0\ud800 to it."))
    with opened(server, api_key=Secret(KEY)) as embedder:
        with pytest.raises(ProviderError, match=r"answered 403: No access for \*\*\*\? to it\. Next"):
            embedder.embed_documents(["a"])
        assert_vectors_of(embedder.embed_documents(["a"]), ["a"])
    assert KEY not in caplog.text


def sent_headers(embedder):
    """Return a list that fills with the headers of each request as it leaves."""
    left = []
    embedder._client._client._client.event_hooks["request"].append(lambda request: left.append(dict(request.headers)))
    return left


def test_openais_own_environment_is_not_taken_to_other_providers(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", KEY)
    monkeypatch.setenv("OPENAI_PROJECT_ID", KEY)
    with opened(server) as embedder:
        headers = sent_headers(embedder)
        embedder.embed_documents(["a"])
    assert headers[0]["authorization"] == "Bearer none"
    assert KEY not in repr(headers)


def test_user_and_password_of_a_url_go_into_a_header_and_not_into_logs(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.faults.append(Fault(kind="status", status=400, message="No, p%40ss."))
    url = server.base_url("local").replace("http://", "http://me:p%40ss@")
    with closing(open_embedder(contract(), ProviderSettings(name="local", base_url=url))) as embedder:
        headers = sent_headers(embedder)
        with pytest.raises(InputRejectedError) as error:
            embedder.embed_documents(["a"])
    assert headers[0]["authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert "p%40ss" not in caplog.text
    assert f"at {server.base_url('local')} answered" in str(error.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:30 GMT"}, 30),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:30 -0000"}, 30),
        ({"retry-after": "Sun, 31 Dec 2023 23:59:30 GMT"}, 0),
        ({"retry-after": "Mon, 99 Jan 2024 00:00:30 GMT"}, None),
    ],
)
def test_forms_of_retry_after(headers, seconds):
    assert retry_after(headers, datetime(2024, 1, 1, tzinfo=UTC)) == seconds


def failed_attempt(number, **data):
    state = tenacity.RetryCallState(None, None, (), {})
    state.attempt_number = number
    error = ProviderUnavailableError("down", **data)
    state.set_exception((type(error), error, None))
    return state


@given(st.integers(1, 1000))
def test_backoff_is_random_and_doubles_up_to_20_seconds(attempt):
    waits = [retries._wait(failed_attempt(attempt)) for _ in range(20)]
    assert 0 <= min(waits) < max(waits) <= min(0.5 * 2**attempt, 20)


@given(st.integers(1, 1000), st.floats(0, 1e6))
def test_what_the_provider_asks_for_is_waited_and_a_little_more(attempt, asked):
    waits = [retries._wait(failed_attempt(attempt, retry_after=asked)) for _ in range(20)]
    assert asked <= min(waits) < max(waits) <= asked + 0.25


# Being stopped


def test_a_wait_ends_at_once_when_asked_to_stop(server):
    server.faults.append(Fault(kind="status", status=429, headers={"retry-after": "100"}, times=None))
    stop = threading.Event()
    server.on_request = lambda _request: threading.Timer(0.2, stop.set).start()
    begin = time.monotonic()
    with (
        opened(server, max_retry_time=1000, should_stop=stop.is_set) as embedder,
        pytest.raises(StoppedError, match="asked to stop while waiting for provider 'local'") as error,
    ):
        embedder.embed_documents(["a"])
    assert error.value.exit_code == 3
    assert time.monotonic() - begin < 50  # of 100 s that the provider asked for


def test_closing_ends_the_waits_of_other_threads(server):
    server.faults.append(Fault(kind="status", status=429, headers={"retry-after": "100"}, times=None))
    raised = []

    def embed(embedder):
        try:
            embedder.embed_documents(["a"])
        except StoppedError as error:
            raised.append(error)

    arrived = threading.Event()
    server.on_request = lambda _request: arrived.set()
    with opened(server, max_retry_time=1000) as embedder:
        thread = threading.Thread(target=embed, args=(embedder,))
        thread.start()
        assert arrived.wait(20)
    thread.join(50)
    assert len(raised) == 1


def test_one_failure_for_good_spares_the_requests_that_had_not_left(server):
    server.faults.append(Fault(kind="status", status=403, times=None))
    with opened(server, batch_size=1, concurrency=1) as embedder, pytest.raises(ProviderError):
        embedder.embed_documents(texts_of(50))
    assert len(server.requests) < 50


# Isolation


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


def test_a_provider_that_is_not_configured_is_found_when_opening(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PGVMIG_NOWHERE_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="provider 'nowhere' has no base_url"):
        open_embedder(contract(provider="nowhere"))


def test_the_settings_of_the_contracts_provider_are_the_default(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGVMIG_LOCAL_BASE_URL", server.base_url("local"))
    with closing(open_embedder(contract())) as embedder:
        assert_vectors_of(embedder.embed_documents(["a"]), ["a"])


@pytest.mark.parametrize("module", ["numpy", "openai"])
def test_a_missing_package_names_the_extra(module):
    code = f"import sys; sys.modules[{module!r}] = None; import pgvmig.embedders"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].endswith(
        f"ConfigError: embedding needs {module}, which is not installed. Next: pip install 'pgvmig[worker]'"
    )

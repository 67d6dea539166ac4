"""Providers that fail over HTTP: waited out where waiting helps, else an error at once, and nobody sees the key."""

import base64
import logging
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
import tenacity
from embedding import KEY, MODEL, assert_vectors_of, contract, opened, texts_of
from hypothesis import given
from hypothesis import strategies as st

from pgvmig.config import ProviderSettings, Secret
from pgvmig.demo.faults import Fault
from pgvmig.demo.model_server import serving
from pgvmig.embedders import open_embedder, retries
from pgvmig.embedders.retries import retry_after
from pgvmig.errors import (
    InputRejectedError,
    ProviderError,
    ProviderUnavailableError,
    StoppedError,
)


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

"""The model server answers as a vendor does, and goes wrong as it is told. Asked with the client that pgvmig uses."""

import base64
import contextlib
import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import openai
import pytest

from pgvmig.demo.model_process import spawned
from pgvmig.demo.model_server import Fault, main, serving
from pgvmig.demo.models import HashModel
from pgvmig.errors import ConfigError, UsageError

OLD, NEW = HashModel("old-model", 64), HashModel("new-model", 96)
TWO = ["one", "two"]


class Counting:
    """A model that tells how it was used, and waits for `gate` before it embeds."""

    name, version, dimensions, shortens = "counting", "1", 8, False

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.at_once, self.most_at_once = 0, 0

    def embed(self, texts):
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.busy.set()
        assert self.gate.wait(60)
        self.batches.append(list(texts))
        self.at_once -= 1
        return HashModel(dimensions=8).embed(texts)


@pytest.fixture
def server():
    with serving({"old": OLD, "new": NEW}) as server:
        yield server


@pytest.fixture
def client(server):
    with client_of(server, "old") as client:
        yield client


def client_of(server, provider, key="any"):
    return openai.OpenAI(base_url=server.base_url(provider), api_key=key, max_retries=0, timeout=60)


def embed(client, texts, model=OLD.name, **more):
    return client.embeddings.create(model=model, input=texts, **more)


def vectors(answer):
    return np.array([item.embedding for item in answer.data], dtype=np.float32)


def embed_or_be_cut_off(client):
    with contextlib.suppress(openai.APIConnectionError):
        embed(client, TWO)


def raw(server, method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_vectors_are_the_models_in_the_order_of_the_texts(server, encoding):
    body = json.dumps({"model": OLD.name, "input": TWO, "encoding_format": encoding}).encode()
    status, answer = raw(server, "POST", "/old/v1/embeddings", body)
    content = json.loads(answer)
    embedded = [item.pop("embedding") for item in content["data"]]
    if encoding == "base64":
        embedded = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in embedded]
    assert status == 200
    assert content == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "model": OLD.name,
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    np.testing.assert_array_equal(np.array(embedded, dtype=np.float32), OLD.embed(TWO))


def test_the_client_gets_them(client):
    np.testing.assert_array_equal(vectors(embed(client, TWO)), OLD.embed(TWO))
    np.testing.assert_array_equal(vectors(embed(client, "one", user="somebody")), OLD.embed(["one"]))


def test_each_provider_has_its_model_under_its_own_address(server):
    with client_of(server, "new") as new:
        assert vectors(embed(new, TWO, NEW.name)).shape == (2, 96)
        with pytest.raises(openai.NotFoundError) as error:
            embed(new, TWO, OLD.name)
        assert [model.id for model in new.models.list()] == [NEW.name]
        assert new.models.retrieve(NEW.name).id == NEW.name
    assert error.value.code == "model_not_found"
    assert error.value.body == {
        "message": "The model `old-model` does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }


def test_fewer_dimensions_from_a_model_that_shortens(client):
    first = OLD.embed(["one"])[0][:16]
    shortened = vectors(embed(client, "one", dimensions=16))[0]
    np.testing.assert_allclose(shortened, first / np.linalg.norm(first), rtol=1e-5)
    assert vectors(embed(client, "one", dimensions=64)).shape == (1, 64)


@pytest.mark.parametrize("dimensions", [7, 9])
def test_other_dimensions_from_a_model_that_does_not(dimensions):
    with serving({"p": Counting()}) as server, client_of(server, "p") as client:
        with pytest.raises(openai.BadRequestError, match=f"counting does not give {dimensions} dimensions"):
            embed(client, "one", "counting", dimensions=dimensions)
        assert vectors(embed(client, "one", "counting", dimensions=8)).shape == (1, 8)


def test_more_dimensions_than_there_are(client):
    with pytest.raises(openai.BadRequestError, match="old-model does not give 65 dimensions"):
        embed(client, "one", dimensions=65)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "We could not parse the JSON body of your request."),
        (b"[]", "We could not parse the JSON body of your request."),
        (b'{"input": "one"}', "you must provide a model parameter"),
        (b'{"model": "old-model"}', "'$.input' is invalid: give a string or a list of strings, no tokens"),
        (b'{"model": "old-model", "input": [1, 2]}', "'$.input' is invalid: give a string or a list of strings"),
        (b'{"model": "old-model", "input": [[1, 2]]}', "'$.input' is invalid: give a string or a list of strings"),
        (b'{"model": "old-model", "input": []}', "'input' must hold 1 to 2048 texts, not 0"),
        (b'{"model": "old-model", "input": ["a", ""]}', "'$.input' is invalid: a text is empty"),
        (
            json.dumps({"model": "old-model", "input": ["a"] * 2049}).encode(),
            "'input' must hold 1 to 2048 texts, not 2049",
        ),
        (b'{"model": "old-model", "input": "a", "encoding_format": "hex"}', "'hex' is not one of ['float', 'base64']"),
        (b'{"model": "old-model", "input": "a", "dimensions": 0}', "'0' is not an integer from 1 up"),
        (b'{"model": "old-model", "input": "a", "dimensions": true}', "'True' is not an integer from 1 up"),
    ],
)
def test_what_is_no_request_for_embeddings_is_refused_in_the_apis_shape(server, body, message):
    status, answer = raw(server, "POST", "/old/v1/embeddings", body)
    error = json.loads(answer)["error"]
    assert status == 400
    assert error["message"].startswith(message)
    assert (error["type"], set(error)) == ("invalid_request_error", {"message", "type", "param", "code"})


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/old/v1/embeddings", 405, "Not allowed to GET on /old/v1/embeddings"),
        ("POST", "/old/v1/models", 405, "Not allowed to POST on /old/v1/models"),
        ("POST", "/older/v1/embeddings", 404, "Invalid URL (POST /older/v1/embeddings)"),
        ("POST", "/v1/embeddings", 404, "Invalid URL (POST /v1/embeddings)"),
        ("GET", "/old/v1/models/gpt-7", 404, "The model `gpt-7` does not exist or you do not have access to it."),
    ],
)
def test_other_addresses(server, method, path, status, message):
    answered, body = raw(server, method, path)
    assert (answered, json.loads(body)["error"]["message"]) == (status, message)


def test_a_key_is_asked_for_when_there_is_one():
    with serving({"old": OLD}, key="right") as server:
        with client_of(server, "old", "right") as client:
            assert len(embed(client, TWO).data) == 2
        with client_of(server, "old", "wrong") as client, pytest.raises(openai.AuthenticationError) as error:
            embed(client, TWO)
        assert raw(server, "GET", "/old/v1/models")[0] == 401
    assert error.value.code == "invalid_api_key"
    assert "right" not in str(error.value)


def test_a_connection_is_kept_after_answers_and_after_errors(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    good = json.dumps({"model": OLD.name, "input": "one"}).encode()
    sockets = []
    for body, status in ((good, 200), (b"bad", 400), (good, 200)):
        connection.request("POST", "/old/v1/embeddings", body)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
        sockets.append(connection.sock)
    connection.close()
    assert sockets[0] is not None
    assert sockets[0] is sockets[1] is sockets[2]


@pytest.mark.parametrize("provider", ["", "Old", "a/b", "-a"])
def test_what_is_no_providers_name_is_refused(provider):
    with (
        pytest.raises(UsageError, match=r"is not a provider's name\. Next: use a-z, 0-9, _ and -"),
        serving({provider: OLD}),
    ):
        pass


def test_an_address_of_no_provider(server):
    with pytest.raises(UsageError) as error:
        server.base_url("newest")
    assert str(error.value) == "no provider 'newest'. Next: use one of old, new"


def test_a_text_is_embedded_once():
    model = Counting()
    with serving({"p": model}) as server, client_of(server, "p") as client:
        first = vectors(embed(client, ["a", "b", "a"], "counting"))
        second = vectors(embed(client, ["b", "c"], "counting"))
        assert server.counts() == {"p": {"requests": 2, "texts": 5, "embedded": 3}}
        assert json.loads(raw(server, "GET", "/counts")[1]) == server.counts()
    assert model.batches == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(first[1], second[0])


def test_a_text_is_embedded_once_when_many_ask_for_it_at_once():
    model = Counting()
    model.gate.clear()
    with serving({"p": model}) as server, client_of(server, "p") as client:
        askers = [threading.Thread(target=embed, args=(client, ["a", "b"], "counting")) for _ in range(8)]
        for asker in askers:
            asker.start()
        wait_until(lambda: len(server.requests) == 8)
        model.gate.set()
        for asker in askers:
            asker.join()
        assert server.counts() == {"p": {"requests": 8, "texts": 16, "embedded": 2}}
    assert model.batches == [["a", "b"]]
    assert model.most_at_once == 1


def test_known_texts_do_not_wait_for_a_batch():
    model = Counting()
    with serving({"p": model}) as server, client_of(server, "p") as client:
        embed(client, "known", "counting")
        model.gate.clear()
        model.busy.clear()
        asker = threading.Thread(target=embed, args=(client, ["new"], "counting"))
        asker.start()
        assert model.busy.wait(60)
        assert vectors(embed(client, "known", "counting")).shape == (1, 8)
        assert model.batches == [["known"]]
        model.gate.set()
        asker.join()


def test_requests_are_recorded_with_their_outcome(server, client):
    embed(client, TWO, dimensions=16)
    with pytest.raises(openai.BadRequestError):
        embed(client, "")
    [first, second] = server.requests
    assert (first.provider, first.path, first.model) == ("old", "/old/v1/embeddings", OLD.name)
    assert (first.texts, first.dimensions, first.status) == (("one", "two"), 16, 200)
    assert (second.texts, second.status) == (("",), 400)


def test_a_test_may_act_in_the_middle_of_a_request(server, client):
    seen = []
    server.on_request = lambda request: seen.append((request.texts, request.status))
    embed(client, TWO)
    assert seen == [(("one", "two"), None)]


def test_faults_in_the_vectors(server, client):
    server.faults.extend(Fault(kind=kind) for kind in ("dimensions", "nan", "infinity", "zero", "norm"))
    right = OLD.embed(TWO)
    answers = [[item.embedding for item in embed(client, TWO).data] for _ in range(6)]
    for answer in answers:
        np.testing.assert_array_equal(np.array(answer[0], dtype=np.float32), right[0])
    dimensions, nan, infinity, zero, norm, after = (answer[1] for answer in answers)
    assert len(dimensions) == 63
    assert math.isnan(nan[0])
    assert infinity[0] == math.inf
    assert set(zero) == {0.0}
    np.testing.assert_allclose(norm, right[1] * 2, rtol=1e-6)
    np.testing.assert_array_equal(np.array(after, dtype=np.float32), right[1])
    assert not server.faults


def test_a_fault_in_every_vector(server, client):
    server.faults.append(Fault(kind="dimensions", every=True))
    assert vectors(embed(client, TWO)).shape == (2, 63)


@pytest.mark.parametrize(
    ("kind", "indexes", "texts"),
    [
        ("short", [0], ["one"]),
        ("extra", [0, 1, 2], ["one", "two", "two"]),
        ("shuffled", [1, 0], ["two", "one"]),
        ("duplicate_index", [0, 0], ["one", "two"]),
    ],
)
def test_faults_in_the_list(server, client, kind, indexes, texts):
    server.faults.append(Fault(kind=kind))
    answer = embed(client, TWO)
    assert [item.index for item in answer.data] == indexes
    np.testing.assert_array_equal(vectors(answer), OLD.embed(texts))


def test_short_of_the_only_vector(server, client):
    server.faults.append(Fault(kind="short"))
    with pytest.raises(ValueError, match="No embedding data received"):
        embed(client, "one")


@pytest.mark.parametrize("kind", ["shuffled", "duplicate_index"])
def test_a_fault_that_would_not_show_waits(server, client, kind):
    server.faults.append(Fault(kind=kind))
    assert embed(client, "one").data[0].index == 0
    assert len(server.faults) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, openai.BadRequestError), (429, openai.RateLimitError), (503, openai.InternalServerError)],
)
def test_a_status_with_its_headers(server, client, status, error):
    server.faults.append(
        Fault(kind="status", status=status, headers={"retry-after": "7", "retry-after-ms": "7000"}, message="Not now.")
    )
    with pytest.raises(error, match=r"Not now\.") as caught:
        embed(client, TWO)
    headers = caught.value.response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("7", "7000")
    assert headers["x-request-id"]
    assert len(embed(client, TWO).data) == 2
    assert [request.status for request in server.requests] == [status, 200]


@pytest.mark.parametrize(("kind", "status"), [("drop", None), ("cut", 200)])
def test_a_connection_that_ends(server, client, kind, status):
    server.faults.append(Fault(kind=kind))
    with pytest.raises(openai.APIConnectionError):
        embed(client, TWO)
    assert server.requests[0].status == status
    assert len(embed(client, TWO).data) == 2


def test_garbage(server, client):
    server.faults.append(Fault(kind="garbage"))
    with pytest.raises(json.JSONDecodeError):
        embed(client, TWO)


def test_faults_come_in_order_and_as_often_as_they_say(server, client):
    server.faults.extend([Fault(kind="status", status=500, times=2), Fault(kind="status", status=503)])
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            embed(client, TWO)
    embed(client, TWO)
    assert [request.status for request in server.requests] == [500, 500, 503, 200]


def test_a_standing_fault_stays_until_it_is_cleared(server, client):
    server.faults.append(Fault(kind="status", times=None))
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            embed(client, TWO)
    server.faults.clear()
    embed(client, TWO)


def test_faults_wait_for_their_provider_and_text(server, client):
    server.faults.extend(
        [Fault(kind="status", provider="new"), Fault(kind="status", status=503, containing="^tw"), Fault(kind="nan")]
    )
    assert math.isnan(embed(client, "one").data[0].embedding[0])
    with pytest.raises(openai.InternalServerError):
        embed(client, TWO)
    with client_of(server, "new") as new, pytest.raises(openai.InternalServerError):
        embed(new, "one", NEW.name)
    assert [request.status for request in server.requests] == [200, 503, 500]


@pytest.mark.parametrize("poison", [re.compile("bad"), lambda text: "bad" in text])
def test_poison_has_the_whole_request_refused(server, client, poison):
    server.poison = poison
    with pytest.raises(openai.BadRequestError, match=r"Your input was rejected\."):
        embed(client, ["one", "a bad one"])
    assert server.counts()["old"]["embedded"] == 0
    embed(client, ["one"])


def test_latency(server, client):
    server.latency = 0.2
    server.faults.append(Fault(kind="latency", seconds=0.4))
    began = time.monotonic()
    embed(client, TWO)
    after_fault = time.monotonic()
    embed(client, TWO)
    assert after_fault - began >= 0.4
    assert time.monotonic() - after_fault >= 0.2


def test_the_end_of_the_block_ends_waiting_requests_and_all_threads():
    before = set(threading.enumerate())
    with serving({"old": OLD}, faults=[Fault(kind="latency", seconds=100_000)]) as server:
        client = client_of(server, "old")
        asker = threading.Thread(target=embed_or_be_cut_off, args=(client,))
        asker.start()
        wait_until(lambda: server.requests)
    asker.join(60)
    assert not asker.is_alive()
    assert set(threading.enumerate()) <= before
    client.close()


def test_a_server_in_its_own_process():
    with spawned({"old": "hash-32", "new": "hash-b-48"}, key="secret") as server:
        with client_of(server, "new", "secret") as client:
            found = vectors(embed(client, TWO, "hash-b-48"))
        assert server.counts()["new"] == {"requests": 1, "texts": 2, "embedded": 2}
        assert os.getsid(server.pid) != os.getsid(0)
        with client_of(server, "old", "wrong") as client, pytest.raises(openai.AuthenticationError):
            embed(client, TWO, "hash-32")
    np.testing.assert_array_equal(found, HashModel("hash-b-48", 48).embed(TWO))
    assert not answers(server.port)


def test_the_key_is_not_among_the_process_arguments(monkeypatch):
    commands = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: commands.append(command) or start(command, **more))
    with spawned({"old": "hash-32"}, key="secret"):
        pass
    assert len(commands) == 1
    assert "secret" not in " ".join(commands[0])


def test_the_process_ends_with_the_one_that_started_it():
    script = """
import sys
from pgvmig.demo.model_process import spawned
with spawned({"old": "hash-32"}) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with parent:
        port = int(parent.stdout.readline())
        assert answers(port)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not answers(port))


def test_a_process_that_cannot_serve_says_why():
    with pytest.raises(ConfigError) as error, spawned({"old": "word-llama"}):
        pass
    assert str(error.value) == (
        "no local model 'word-llama'. Next: use one of wordllama, all-MiniLM-L6-v2, paraphrase-MiniLM-L3-v2"
    )


def test_a_process_that_fails_before_it_can_say_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigError, match="the model server did not start"), spawned({"old": "hash-32"}):
        pass


def test_the_program_wants_a_provider_and_a_model(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--serve", "old"])
    assert stopped.value.code == 2
    assert "'old' is not PROVIDER=MODEL" in capsys.readouterr().err


def answers(port):
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=60):
        return True
    return False


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

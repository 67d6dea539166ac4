"""Embedders against a real HTTP server: documents and queries become vectors."""

import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing

import numpy as np
import pytest
from embedding import MODEL, assert_vectors_of, contract, opened, texts_of

from pgvmig.embedders import open_embedder
from pgvmig.errors import (
    AnswerRejectedError,
    ConfigError,
    ContractError,
    InputRejectedError,
)


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

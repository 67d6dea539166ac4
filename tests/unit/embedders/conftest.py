"""The server that the embedders are tested against."""

import pytest
import tenacity
from embedding import MODEL

from pgvmig.demo.model_server import serving
from pgvmig.embedders import retries


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

"""What tests of the embedders share: a model behind the server that misbehaves, and an embedder for it."""

from __future__ import annotations

from contextlib import closing, contextmanager

import numpy as np

from pgvmig.config import ProviderSettings
from pgvmig.contract import Contract
from pgvmig.demo.models import HashModel
from pgvmig.embedders import open_embedder

MODEL = HashModel(dimensions=8)
KEY = "sk-very-secret-1234567890"


def contract(**other):
    """Return the contract of the model's space, changed as told."""
    return Contract.of(
        {"model": MODEL.name, "model_version": "1", "dimensions": 8, "input": "body", "provider": "local", **other}
    )


def texts_of(count):
    """Return so many texts."""
    return [f"text {number}" for number in range(count)]


# What each fault of the server is called by us, and how it is said.
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


@contextmanager
def opened(server, *, should_stop=None, contract=contract(), **other):  # noqa: B008  # frozen
    """Open an embedder for the server."""
    chosen = ProviderSettings(name="local", base_url=server.base_url("local"), **({"max_retry_time": 10.0} | other))
    with closing(open_embedder(contract, chosen, should_stop=should_stop)) as embedder:
        yield embedder


def assert_vectors_of(found, texts):
    """Each vector is its text's: the order was kept."""
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, MODEL.embed(texts), atol=1e-6)

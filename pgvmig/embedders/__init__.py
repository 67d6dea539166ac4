"""Embedding providers behind one protocol: batching, retries, distrust of answers, isolation of poison texts.

Must not know about PostgreSQL, Alembic or the command line. Start reading in base.py.
"""

from __future__ import annotations

from pgvmig.config import ProviderSettings, provider
from pgvmig.contract import Contract
from pgvmig.errors import ConfigError

try:
    from pgvmig.embedders.base import Embedder, Part, ShouldStop, Vectors
    from pgvmig.embedders.batching import BatchingEmbedder
    from pgvmig.embedders.openai import OpenAIClient
    from pgvmig.embedders.split import Failure, embed_or_isolate
except ModuleNotFoundError as missing:
    raise ConfigError(
        f"embedding needs {missing.name}, which is not installed", next_step="pip install 'pgvmig[worker]'"
    ) from missing

__all__ = ["Embedder", "Failure", "Part", "Vectors", "embed_or_isolate", "open_embedder"]


def open_embedder(
    contract: Contract, settings: ProviderSettings | None = None, *, should_stop: ShouldStop | None = None
) -> Embedder:
    """Return an embedder for the contract, by default with the settings of its provider. Close it in the end.

    `should_stop` is asked during every wait between retries; when it says yes the wait ends with StoppedError.
    """
    settings = settings or provider(contract.provider)
    return BatchingEmbedder(contract, settings, OpenAIClient(contract, settings), should_stop)

"""An embedder over any client: cuts texts into requests, keeps several in flight, checks every vector."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import cast

import numpy as np

from pgvmig.config import ProviderSettings
from pgvmig.contract import Contract
from pgvmig.embedders import answers
from pgvmig.embedders.base import Client, Part, Rejection, ShouldStop, Vectors
from pgvmig.embedders.inputs import Inputs
from pgvmig.embedders.pool import Pool
from pgvmig.embedders.retries import Retries
from pgvmig.errors import AnswerRejectedError, InputRejectedError


class BatchingEmbedder:
    """See Embedder. `concurrency` bounds the requests of all threads that share it."""

    def __init__(
        self, contract: Contract, settings: ProviderSettings, client: Client, should_stop: ShouldStop | None = None
    ) -> None:
        self._contract = contract
        self._settings = settings
        self._client = client
        self._inputs = Inputs(contract)
        self._closed = threading.Event()
        self._retries = Retries(settings, lambda: self._closed.is_set() or bool(should_stop and should_stop()))
        self._pool = Pool[Vectors](settings.concurrency)

    @property
    def trouble(self) -> str | None:
        """See Embedder."""
        return self._retries.trouble

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """See Embedder. A text that is refused here is refused before anything is sent and paid."""
        prepared = {position: self._inputs.document(text) for position, text in enumerate(texts)}
        vectors = np.empty((len(texts), self._contract.dimensions), dtype=np.float32)
        for part in self._send(prepared):
            if isinstance(part.result, Exception):
                raise part.result
            vectors[list(part.positions)] = part.result
        return vectors

    def embed_parts(self, texts: Sequence[str]) -> Sequence[Part]:
        """See Embedder."""
        refused: list[Part] = []
        prepared: dict[int, str] = {}
        for position, text in enumerate(texts):
            try:
                prepared[position] = self._inputs.document(text)
            except InputRejectedError as error:
                refused.append(Part((position,), error))
        return refused + self._send(prepared)

    def embed_query(self, text: str) -> Vectors:
        """See Embedder. A search does not queue behind the documents."""
        (vector,) = self._answer([self._inputs.query(text)])
        return cast("Vectors", vector)

    def close(self) -> None:
        """End waits, let requests in flight finish, close the connections."""
        self._closed.set()
        self._pool.close()
        self._client.close()

    def _send(self, prepared: Mapping[int, str]) -> list[Part]:
        positions = list(prepared)
        size = self._settings.batch_size
        requests = [positions[start : start + size] for start in range(0, len(positions), size)]
        futures = [self._pool.submit(partial(self._answer, [prepared[i] for i in these])) for these in requests]
        try:
            return [Part(tuple(these), _result(future)) for these, future in zip(requests, futures, strict=True)]
        finally:
            # When one raised there is no use in asking, and paying, for the others.
            for future in futures:
                future.cancel()

    def _answer(self, texts: list[str]) -> Vectors:
        def ask() -> Vectors:
            vectors = self._client.request(texts)
            return answers.check(vectors, len(texts), self._contract, norm_tolerance=self._settings.norm_tolerance)

        return self._retries(ask)


def _result(future: Future[Vectors]) -> Vectors | Rejection:
    try:
        return future.result()
    except (InputRejectedError, AnswerRejectedError) as rejection:
        return rejection

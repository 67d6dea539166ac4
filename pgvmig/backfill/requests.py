"""Batches at their providers: as many at once as the provider's settings allow, with what came of each."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from pgvmig import config
from pgvmig.backfill.batches import Answer, Batch
from pgvmig.backfill.in_flight import InFlight
from pgvmig.backfill.lane import Lane
from pgvmig.catalog.versions import Version
from pgvmig.config import ProviderSettings
from pgvmig.embedders import Embedder, Failure, embed_or_isolate, open_embedder
from pgvmig.embedders.base import EMPTY, Vectors
from pgvmig.errors import ProviderUnavailableError
from pgvmig.layouts.rows import SourceRow

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

Answered = tuple[Lane, Batch]


class Requests:
    """Sends batches and collects them. With `persist`, a provider that is down is asked again after a while."""

    def __init__(self, stop: Callable[[], bool], *, persist: bool) -> None:
        self._stop = stop
        self._persist = persist
        self._embedders: dict[int, tuple[Embedder, ProviderSettings]] = {}
        self._sent: Counter[int] = Counter()
        self._pauses: dict[int, tuple[float, float]] = {}
        self._in_flight: InFlight[Answered, Sequence[Vectors | Failure]] = InFlight()

    def __len__(self) -> int:
        return len(self._in_flight)

    def open(self, version: Version) -> None:
        """Make sure of a version's provider. Raises ConfigError."""
        settings = config.provider(version.contract.provider)
        embedder = open_embedder(version.contract, settings, should_stop=self._stop)
        self._embedders[version.version_id] = embedder, settings

    def size(self, version: Version) -> int:
        """Return how many texts one request of this version holds at most."""
        return self._embedders[version.version_id][1].batch_size

    def room(self, version: Version) -> bool:
        """Whether another batch of this version may be sent."""
        identity = version.version_id
        _, until = self._pauses.get(identity, (0.0, 0.0))
        return self._sent[identity] < self._embedders[identity][1].concurrency and time.monotonic() >= until

    def send(self, lane: Lane, batch: Batch) -> None:
        """Have a batch embedded."""
        identity = lane.version.version_id
        embedder, _ = self._embedders[identity]
        texts = [row.text for row in batch.to_embed]
        self._sent[identity] += 1
        began = time.monotonic()

        def embed() -> Sequence[Vectors | Failure]:
            answers = embed_or_isolate(embedder, texts)
            batch.answer_seconds = time.monotonic() - began
            return answers

        self._in_flight.send((lane, batch), embed)

    def collect(self, timeout: float) -> Answered | None:
        """Return the next batch that has its answers, None when there is none within `timeout` seconds.

        Raises what the provider did to the whole batch, whose lease is then given back.
        """
        finished = self._in_flight.collect(timeout)
        if finished is None:
            return None
        lane, batch = finished.of
        identity = lane.version.version_id
        self._sent[identity] -= 1
        if finished.result is None:
            lane.settle(batch, complete=False)
            self._refused(identity, finished.error)
            return None
        self._pauses.pop(identity, None)
        batch.answers += map(_answer, batch.to_embed, finished.result)
        batch.to_embed = []
        return lane, batch

    def trouble(self, version: Version) -> str | None:
        """Why a version's provider is being asked again, None when it answers."""
        return self._embedders[version.version_id][0].trouble

    def close(self) -> None:
        """Close the connections; whoever is still asking is not waited for."""
        for embedder, _ in self._embedders.values():
            threading.Thread(target=embedder.close, daemon=True).start()

    def _refused(self, identity: int, error: Exception | None) -> None:
        if error is None:
            raise AssertionError
        if not (self._persist and isinstance(error, ProviderUnavailableError)):
            raise error
        pause = min(2 * self._pauses.get(identity, (_FIRST_PAUSE / 2, 0.0))[0], _LONGEST_PAUSE)
        self._pauses[identity] = pause, time.monotonic() + pause


def _answer(row: SourceRow, result: Vectors | Failure) -> Answer:
    if not isinstance(result, Failure):
        return Answer(row, "vector", vector=result)
    if result.kind == EMPTY:
        return Answer(row, "empty")
    return Answer(row, "failed", error=result.error)

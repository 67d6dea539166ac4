"""Find the text that a provider refuses by halving its batch, so that one poison row does not stop the others.

Every request may be on a bill. What came with an accepted request is never sent again; one poison text among n costs
about 2·log2(n) more requests with 2·n texts in all. Before anything is blamed on a text, one harmless text asks whether
the provider refuses everything, so that wrong settings cost one short request and not a failed row for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgvmig.embedders import answers
from pgvmig.embedders.base import EMPTY, TOO_LONG, Embedder, Rejection, Vectors
from pgvmig.errors import AnswerRejectedError, ProviderError

HARMLESS = "hello"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a text has no vector: what to tell people, and a short label to count by."""

    error: str
    kind: str


def embed_or_isolate(embedder: Embedder, texts: Sequence[str]) -> list[Vectors | Failure]:
    """Return for each text its vector, or the failure that is that text's own.

    Raises what is not about single texts: ProviderUnavailableError, StoppedError, ProviderError, and
    AnswerRejectedError when a harmless text is answered as wrongly (the provider is wrong, not thousands of rows).
    """
    isolation = _Isolation(embedder, texts)
    isolation.embed(range(len(texts)))
    return [isolation.results[position] for position in range(len(texts))]


class _Isolation:
    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        self.results: dict[int, Vectors | Failure] = {}
        self._embedder = embedder
        self._texts = texts
        self._provider_works = False

    def embed(self, positions: Sequence[int]) -> None:
        for part in self._embedder.embed_parts([self._texts[position] for position in positions]):
            concerned = [positions[number] for number in part.positions]
            if isinstance(part.result, ProviderError):
                self._blame(concerned, part.result)
            else:
                self.results.update(zip(concerned, part.result, strict=True))

    def _blame(self, positions: Sequence[int], rejection: Rejection) -> None:
        kind = str(rejection.data["kind"])
        if kind not in (EMPTY, TOO_LONG):
            self._check_provider(rejection, kind)
        if len(positions) == 1:
            self.results[positions[0]] = Failure(rejection.found, kind)
            return
        middle = len(positions) // 2
        self.embed(positions[:middle])
        self.embed(positions[middle:])

    def _check_provider(self, rejection: Rejection, kind: str) -> None:
        if kind == answers.INDEXES:
            # No text causes this. Alone each would pass, and every batch of the backfill would be paid many times.
            raise rejection
        if self._provider_works:
            return
        (part,) = self._embedder.embed_parts([HARMLESS])
        if isinstance(part.result, AnswerRejectedError):
            raise rejection
        if isinstance(part.result, ProviderError) and part.result.data["kind"] != TOO_LONG:
            raise ProviderError(
                f"{part.result.found}; the text {HARMLESS!r} was refused as well",
                hazard="The provider refuses everything, so its settings are wrong, and no row counts as failed",
                next_step="check model, send_dimensions and encoding_format of the provider against its documentation",
                **part.result.data,
            ) from part.result
        self._provider_works = True

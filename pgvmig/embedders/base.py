"""What the rest of pgvmig asks of an embedder. Knows contracts; nothing of HTTP, PostgreSQL or files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from pgvmig.errors import AnswerRejectedError, InputRejectedError

Vectors: TypeAlias = npt.NDArray[np.float32]
ShouldStop: TypeAlias = Callable[[], bool]
Rejection: TypeAlias = InputRejectedError | AnswerRejectedError

# `data["kind"]` of an InputRejectedError about a text that never left the machine.
EMPTY = "empty"
TOO_LONG = "too_long"
# Of one that the provider refused.
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Part:
    """What became of the texts at these positions, which went out in one request or were refused before."""

    positions: tuple[int, ...]
    result: Vectors | Rejection


class Embedder(Protocol):
    """Makes a contract's vectors; may be used from several threads at once.

    All methods raise ProviderError (a wrong key, an unknown model), ProviderUnavailableError and StoppedError.
    """

    @property
    def trouble(self) -> str | None:
        """Why the provider is being asked again at the moment, None when it answers."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return one vector a text, float32, (n, dimensions). Raises InputRejectedError, AnswerRejectedError."""
        ...

    def embed_parts(self, texts: Sequence[str]) -> Sequence[Part]:
        """Return the same by parts, so that one refused part does not cost the paid vectors of the others."""
        ...

    def embed_query(self, text: str) -> Vectors:
        """Return the vector of a search, (dimensions,). Raises InputRejectedError, AnswerRejectedError."""
        ...

    def close(self) -> None:
        """End waits and connections."""
        ...


class Client(Protocol):
    """One way to a model: a vendor's API, a local library. It neither batches nor retries nor checks vectors."""

    def request(self, texts: Sequence[str]) -> Sequence[npt.NDArray[np.floating]]:
        """Return what came back for the texts, one array a text.

        Raises InputRejectedError; ProviderUnavailableError for what may pass by itself, with `retry_after` seconds in
        its data where the provider says so; AnswerRejectedError; ProviderError for what will not.
        """
        ...

    def close(self) -> None: ...

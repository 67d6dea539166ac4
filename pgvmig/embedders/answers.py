"""Distrust: what a provider answered is taken for vectors only after every check. Pure.

A wrong vector is worse than none: it is stored with a valid provenance, and nothing shows later that it ranks at
random.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pgvmig.contract import Contract
from pgvmig.embedders.base import Vectors
from pgvmig.errors import AnswerRejectedError

# pgvector's distances are computed in float32: the square of anything smaller is nothing there.
_AS_GOOD_AS_ZERO = 1e-18
_SHOWN = 200

FORMAT = "format"
COUNT = "count"
INDEXES = "indexes"
DIMENSIONS = "dimensions"
NOT_FINITE = "not_finite"
ZERO = "zero"
NORM = "norm"

_HAZARDS = {
    FORMAT: None,
    COUNT: "It is not known which vector belongs to which text",
    INDEXES: "Vectors might be stored with other rows' texts",
    DIMENSIONS: "They belong to another space, or were cut short",
    NOT_FINITE: "No distance to such a vector exists",
    ZERO: "A zero vector has no direction: cosine cannot rank it and an index does not hold it",
    NORM: "Inner products and distances would not compare with the other rows'",
}
_NEXT = {
    DIMENSIONS: "compare the contract's dimensions with the model, or set send_dimensions = true for a provider that "
    "shortens on request",
    NORM: "if the model does not normalise, say normalized: false in the contract; otherwise the provider is at fault",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An OpenAI-compatible answer as read, its vectors not yet checked against a contract."""

    vectors: Sequence[npt.NDArray[np.floating]]
    model: str | None


def read(body: bytes, count: int, *, hide: Callable[[str], str] = str) -> Answer:
    """Read the answer to a request with `count` texts. Raises AnswerRejectedError.

    Messages quote what is no answer; `hide` takes out of it what nobody may see.
    """
    try:
        content = json.loads(body)
        items = content["data"]
        well_formed = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    except (ValueError, RecursionError):
        raise rejected(FORMAT, f"the answer is no JSON: {_shown(hide(body.decode(errors='replace')))}") from None
    except (KeyError, TypeError):
        well_formed = False
    if not well_formed:
        # Some gateways answer 200 with an error inside.
        raise rejected(FORMAT, f"the answer has no embeddings: {_shown(hide(body.decode(errors='replace')))}")
    if len(items) != count:
        raise rejected(COUNT, f"{len(items):,} vectors came back for {count:,} texts")
    _check_indexes([item.get("index") for item in items])
    model = content.get("model")
    vectors = [_decoded(number, item.get("embedding")) for number, item in enumerate(items)]
    return Answer(vectors, model if isinstance(model, str) else None)


def check(
    vectors: Sequence[npt.NDArray[np.floating]], count: int, contract: Contract, *, norm_tolerance: float
) -> Vectors:
    """Return the vectors as one float32 array after checking them. Raises AnswerRejectedError naming what was found."""
    if len(vectors) != count:
        raise rejected(COUNT, f"{len(vectors):,} vectors came back for {count:,} texts")
    for number, vector in enumerate(vectors):
        if vector.shape != (contract.dimensions,):
            raise rejected(
                DIMENSIONS,
                f"vector {number + 1:,} of {count:,} has {vector.size:,} dimensions, the contract says "
                f"{contract.dimensions:,}",
            )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result = np.asarray(vectors, dtype=np.float32).reshape(count, contract.dimensions)
        # What counts is what will be stored: halfvec has its own infinity and its own zero.
        stored = result.astype(np.float16) if contract.vector_type == "halfvec" else result
        _check_values(stored.astype(np.float64), contract, norm_tolerance)
    return result


def rejected(kind: str, found: str) -> AnswerRejectedError:
    """Return the error, which carries `kind` in its data."""
    return AnswerRejectedError(found, hazard=_HAZARDS[kind], next_step=_NEXT.get(kind), kind=kind)


def _check_indexes(indexes: list[Any]) -> None:
    # Sorting them would be a guess: a server that mixes up its order may as well have mixed up the numbers.
    for position, index in enumerate(indexes):
        if type(index) is not int or index != position:
            raise rejected(
                INDEXES, f"the answer's embedding {position + 1:,} of {len(indexes):,} has index {_shown(index)}"
            )


def _decoded(number: int, embedding: Any) -> npt.NDArray[np.floating]:
    """Return a vector that came as base64 or as a list of numbers; servers choose as they like."""
    try:
        if isinstance(embedding, str):
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        if isinstance(embedding, list) and all(type(component) in (int, float) for component in embedding):
            return np.array(embedding, dtype=np.float64)
    except (binascii.Error, ValueError, OverflowError):
        pass
    raise rejected(FORMAT, f"embedding {number + 1:,} is neither numbers nor base64 of float32: {_shown(embedding)}")


def _check_values(vectors: npt.NDArray[np.float64], contract: Contract, norm_tolerance: float) -> None:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        value = vectors[first][~np.isfinite(vectors[first])][0]
        raise rejected(NOT_FINITE, f"vector {first + 1:,} of {len(vectors):,} holds {value} as {contract.vector_type}")
    norms = np.linalg.norm(vectors, axis=1)
    if (norms < _AS_GOOD_AS_ZERO).any():
        raise rejected(ZERO, f"vector {int(np.argmin(norms)) + 1:,} of {len(vectors):,} is zero")
    off = np.abs(norms - 1)
    if contract.normalized and (off > norm_tolerance).any():
        worst = int(np.argmax(off))
        raise rejected(
            NORM,
            f"vector {worst + 1:,} of {len(vectors):,} has length {norms[worst]:.4g}, the contract says normalized",
        )


def _shown(given: Any) -> str:
    text = given if isinstance(given, str) else repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

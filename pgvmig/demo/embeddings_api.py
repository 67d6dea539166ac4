"""The OpenAI embeddings API as data: reading a request, writing an answer or an error. Pure; knows no HTTP server."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pgvmig.demo.faults import Item
from pgvmig.demo.models import LocalModel

# The vendor's limit for one request.
MAX_INPUTS = 2_048

_ERROR_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_ERROR_CODES = {429: "rate_limit_exceeded"}


class ApiError(Exception):
    """An answer that is an error, in the API's own shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        kind = "server_error" if status >= 500 else _ERROR_TYPES.get(status, "invalid_request_error")  # noqa: PLR2004
        self.body = {
            "error": {"message": message, "type": kind, "param": param, "code": code or _ERROR_CODES.get(status)}
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP. `sent` is how much of the body really goes, of all that its length promises."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None

    @classmethod
    def of(cls, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        """Return the content as JSON; NaN goes out bare, as servers written in Python send it."""
        return cls(status, json.dumps(content).encode(), headers or {})


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """One request to `/embeddings`, its types checked, its texts not yet."""

    model: str
    texts: tuple[str, ...]
    encoding: str
    dimensions: int | None

    @classmethod
    def read(cls, body: bytes) -> EmbeddingsRequest:
        """Raises ApiError (400) for what is no request for embeddings of texts."""
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ApiError(400, "We could not parse the JSON body of your request.")
        model, encoding, dimensions = (content.get(key) for key in ("model", "encoding_format", "dimensions"))
        if not isinstance(model, str) or not model:
            raise ApiError(400, "you must provide a model parameter")
        if encoding not in (None, "float", "base64"):
            raise ApiError(400, f"'{encoding}' is not one of ['float', 'base64']", param="encoding_format")
        if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
            raise ApiError(400, f"'{dimensions}' is not an integer from 1 up", param="dimensions")
        return cls(model, _texts(content.get("input")), encoding or "float", dimensions)

    def check_texts(self) -> None:
        """Raises ApiError (400) for too many texts or an empty one."""
        if not 0 < len(self.texts) <= MAX_INPUTS:
            raise ApiError(400, f"'input' must hold 1 to {MAX_INPUTS} texts, not {len(self.texts)}", param="input")
        if "" in self.texts:
            raise ApiError(400, "'$.input' is invalid: a text is empty", param="input")

    def check_model(self, model: LocalModel) -> None:
        """Raises ApiError for another model's name (404) or dimensions that it cannot give (400)."""
        if self.model != model.name:
            raise unknown_model(self.model)
        if self.dimensions in (None, model.dimensions):
            return
        if not model.shortens or (self.dimensions or 0) > model.dimensions:
            raise ApiError(400, f"{model.name} does not give {self.dimensions} dimensions", param="dimensions")

    def render(self, items: Sequence[Item]) -> Answer:
        """Return the answer with these vectors."""
        encode = _as_base64 if self.encoding == "base64" else _as_floats
        tokens = sum(len(text.split()) for text in self.texts)
        data = [{"object": "embedding", "index": index, "embedding": encode(vector)} for index, vector in items]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Answer.of(200, {"object": "list", "data": data, "model": self.model, "usage": usage})


def unknown_model(name: str) -> ApiError:
    """Return the error for a model that this provider does not serve."""
    message = f"The model `{name}` does not exist or you do not have access to it."
    return ApiError(404, message, code="model_not_found")


def describe_model(model: LocalModel) -> dict[str, Any]:
    """Return the model as `/models` lists it."""
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "pgvmig"}


def _texts(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given, list) and all(isinstance(text, str) for text in given):
        return tuple(given)
    raise ApiError(400, "'$.input' is invalid: give a string or a list of strings, no tokens", param="input")


def _as_base64(vector: Any) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _as_floats(vector: Any) -> list[float]:
    return [float(component) for component in vector]

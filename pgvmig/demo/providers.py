"""What a provider of embeddings answers: one local model behind each base path, and what a test scripts to go wrong.

Knows the API but no sockets; the HTTP server around it is `model_server`.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from pgvmig.demo.embeddings_api import Answer, ApiError, EmbeddingsRequest, describe_model, unknown_model
from pgvmig.demo.faults import Fault, Faults, tamper
from pgvmig.demo.models import LocalModel, Vectors, unit
from pgvmig.errors import UsageError

Poison: TypeAlias = re.Pattern[str] | Callable[[str], bool]

_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_-]*")
_URL = re.compile(r"/(?P<provider>[^/]+)/v1/(?P<endpoint>embeddings|models)(?:/(?P<model>.+))?")
# Texts whose vectors are kept, for each model; the oldest go first.
_MEMO = 50_000
# While a batch is being embedded, a single query has to wait for no more texts than this.
_SLICE = 16


@dataclass(slots=True)
class Request:
    """A request for embeddings as it came in, and the status that it was answered with (None: not yet, or dropped)."""

    provider: str
    path: str
    model: str
    texts: tuple[str, ...]
    dimensions: int | None
    status: int | None = None


class Provider:
    """One model under one base path, with a memory of what it embedded. One text is embedded once, one at a time."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self._embedding = threading.Lock()
        self._counting = threading.Lock()
        self._memo: OrderedDict[str, Vectors] = OrderedDict()
        self._counts = {"requests": 0, "texts": 0, "embedded": 0}

    @property
    def counts(self) -> dict[str, int]:
        """Requests and texts answered, and texts that the model had to embed for them."""
        with self._counting:
            return dict(self._counts)

    def vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """Return the vector of each text."""
        found = self._remembered(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for start in range(0, len(missing), _SLICE):
            found.update(self._embed(missing[start : start + _SLICE]))
        self._count(requests=1, texts=len(texts), embedded=0)
        return [found[text] for text in texts]

    def _embed(self, texts: list[str]) -> dict[str, Vectors]:
        with self._embedding:
            # Somebody else may have embedded it while we waited.
            known = self._remembered(texts)
            missing = [text for text in texts if text not in known]
            fresh = dict(zip(missing, self.model.embed(missing), strict=True)) if missing else {}
            self._memo.update(fresh)
            while len(self._memo) > _MEMO:
                self._memo.popitem(last=False)
        self._count(requests=0, texts=0, embedded=len(fresh))
        return known | fresh

    def _remembered(self, texts: Iterable[str]) -> dict[str, Vectors]:
        return {text: vector for text in texts if (vector := self._memo.get(text)) is not None}

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, number in more.items():
                self._counts[name] += number


@dataclass
class ModelServer:
    """The server's models and what tests may set while it runs; `serving` starts one.

    `key`: the bearer key that is asked for. `latency`: seconds that every request for embeddings takes at least.
    `faults`: what goes wrong next. `poison`: a text for which a whole request is refused with 400. `on_request` is
    called before each answer, in the request's own thread. `requests`: what came in, oldest first.
    """

    models: Mapping[str, LocalModel]
    key: str | None = None
    latency: float = 0.0
    faults: Faults = field(default_factory=Faults)
    poison: Poison | None = None
    on_request: Callable[[Request], None] | None = None
    record: bool = True
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        for provider in self.models:
            if not _PROVIDER.fullmatch(provider):
                raise UsageError(f"{provider!r} is not a provider's name", next_step="use a-z, 0-9, _ and -")
        self._providers = {provider: Provider(model) for provider, model in self.models.items()}
        self._stopping = threading.Event()

    def base_url(self, provider: str) -> str:
        """Return what a client takes as `base_url`."""
        if provider not in self._providers:
            raise UsageError(f"no provider {provider!r}", next_step=f"use one of {', '.join(self._providers)}")
        return base_url(self.port, provider)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return requests, texts and embedded texts by provider."""
        return {name: provider.counts for name, provider in self._providers.items()}

    def stop(self) -> None:
        """End the seconds that requests are being made to wait."""
        self._stopping.set()

    def answer(self, method: str, path: str, authorization: str | None, body: bytes) -> Answer | None:
        """Return the answer to one HTTP request, or None to drop the connection."""
        try:
            return self._route(method, path, authorization, body)
        except ApiError as error:
            return Answer.of(error.status, error.body, error.headers)

    def _route(self, method: str, path: str, authorization: str | None, body: bytes) -> Answer | None:
        if (method, path) == ("GET", "/counts"):
            return Answer.of(200, self.counts())
        url = _URL.fullmatch(path)
        if url is None or url["provider"] not in self._providers:
            raise ApiError(404, f"Invalid URL ({method} {path})")
        if self.key is not None and authorization != f"Bearer {self.key}":
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
        match method, url["endpoint"], url["model"]:
            case "POST", "embeddings", None:
                return self._embeddings(url["provider"], path, body)
            case "GET", "models", name:
                return self._models(self._providers[url["provider"]].model, name)
        raise ApiError(405, f"Not allowed to {method} on {path}")

    def _models(self, model: LocalModel, name: str | None) -> Answer:
        if name is None:
            return Answer.of(200, {"object": "list", "data": [describe_model(model)]})
        if name != model.name:
            raise unknown_model(name)
        return Answer.of(200, describe_model(model))

    def _embeddings(self, provider: str, path: str, body: bytes) -> Answer | None:
        asked = EmbeddingsRequest.read(body)
        request = Request(provider, path, asked.model, asked.texts, asked.dimensions)
        if self.record:
            self.requests.append(request)
        if self.on_request:
            self.on_request(request)
        answer: Answer | None
        try:
            answer = self._embeddings_or_fault(provider, asked)
        except ApiError as error:
            answer = Answer.of(error.status, error.body, error.headers)
        request.status = answer.status if answer else None
        return answer

    def _embeddings_or_fault(self, provider: str, asked: EmbeddingsRequest) -> Answer | None:
        fault = self.faults.take(provider, asked.texts) or Fault(kind="latency")
        self._stopping.wait(max(self.latency, fault.seconds))
        if fault.kind == "drop":
            return None
        if fault.kind == "status":
            raise ApiError(fault.status, fault.message or f"Scripted status {fault.status}.", headers=fault.headers)
        if fault.kind == "garbage":
            return Answer(200, b'{"object": "list", "data": [')
        answer = self._vectors(provider, asked, fault)
        return Answer(answer.status, answer.body, sent=len(answer.body) // 2) if fault.kind == "cut" else answer

    def _vectors(self, provider: str, asked: EmbeddingsRequest, fault: Fault) -> Answer:
        model = self._providers[provider].model
        asked.check_model(model)
        asked.check_texts()
        self._check_poison(asked.texts)
        vectors = self._providers[provider].vectors(asked.texts)
        if asked.dimensions not in (None, model.dimensions):
            vectors = list(unit(np.stack(vectors)[:, : asked.dimensions]))
        return asked.render(tamper(fault, list(enumerate(vectors))))

    def _check_poison(self, texts: Sequence[str]) -> None:
        if self.poison is None:
            return
        is_poison = self.poison.search if isinstance(self.poison, re.Pattern) else self.poison
        if any(is_poison(text) for text in texts):
            raise ApiError(400, "Your input was rejected.", param="input", code="invalid_input")


def base_url(port: int, provider: str) -> str:
    """Return a provider's base URL on a port of this machine."""
    return f"http://127.0.0.1:{port}/{provider}/v1"

"""A provider that speaks the OpenAI embeddings API, through the `openai` client: one request, its errors as ours."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import openai

from pgvmig.config import OPENAI_URL, ProviderSettings, key_variables
from pgvmig.contract import Contract
from pgvmig.embedders import answers
from pgvmig.embedders.base import REFUSED
from pgvmig.embedders.retries import retry_after
from pgvmig.errors import InputRejectedError, ProviderError, ProviderUnavailableError

_log = logging.getLogger("pgvmig.embedders")

_PASSES_BY_ITSELF = {408, 409, 425, 429}
_ABOUT_THE_INPUT = {400, 413, 422}
_SERVER_ERROR = 500
_CONNECT_TIMEOUT = 10.0
# Sent where there is no key: the client insists on one, and would else take OPENAI_API_KEY to strangers.
_NO_KEY = "none"
# A message of the provider's is stored with the row that it is about.
_MESSAGE = 500


class OpenAIClient:
    """One provider and one model; thread-safe."""

    def __init__(self, contract: Contract, settings: ProviderSettings) -> None:
        self._contract = contract
        self._settings = settings
        self._client = openai.OpenAI(
            api_key=settings.api_key.reveal() if settings.api_key else _NO_KEY,
            base_url=settings.base_url,
            timeout=openai.Timeout(settings.timeout, connect=min(settings.timeout, _CONNECT_TIMEOUT)),
            max_retries=0,
            default_headers=_basic_authorization(settings),
        )
        if urlsplit(settings.base_url).hostname != urlsplit(OPENAI_URL).hostname:
            # Read from the environment by the client; nobody else's business.
            self._client.organization = self._client.project = None
        self._parameters: dict[str, Any] = {"encoding_format": settings.encoding_format}
        if settings.send_dimensions:
            self._parameters["dimensions"] = contract.dimensions
        self._warned = threading.Event()

    def request(self, texts: Sequence[str]) -> Sequence[npt.NDArray[np.floating]]:
        """See Client."""
        try:
            # Raw, because the client would turn base64 into Python lists and fill gaps in the answer with None.
            response = self._client.embeddings.with_raw_response.create(
                model=self._contract.model, input=list(texts), **self._parameters
            )
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.APIConnectionError as error:
            raise self._no_answer(error) from error
        answer = answers.read(response.content, len(texts), hide=self._settings.without_secrets)
        self._compare_model(answer.model)
        return answer.vectors

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _status_error(self, error: openai.APIStatusError) -> ProviderError:
        status = error.status_code
        found = f"{self._label} answered {status}: {self._message(error)}"
        facts: dict[str, Any] = {"provider": self._settings.name, "status": status}
        if status in _ABOUT_THE_INPUT:
            return InputRejectedError(
                found, next_step="look at the text: its length, its script", kind=REFUSED, **facts
            )
        if status == 429 and error.code == "insufficient_quota":  # noqa: PLR2004
            return ProviderError(found, next_step="top up the account; waiting does not help", **facts)
        if status in _PASSES_BY_ITSELF or status >= _SERVER_ERROR:
            return ProviderUnavailableError(found, retry_after=retry_after(error.response.headers), **facts)
        return self._misconfigured(status, found, facts)

    def _misconfigured(self, status: int, found: str, facts: dict[str, Any]) -> ProviderError:
        name, model = self._settings.name, self._contract.model
        if status == 401:  # noqa: PLR2004
            # Without the provider's message: some quote parts of the key.
            return ProviderError(
                f"{self._label} does not accept the key (401)", next_step=f"check {self._key_source()}", **facts
            )
        steps = {
            402: "check the account's balance",
            403: f"check that the key in {self._key_source()} may use the model {model!r}",
            404: f"check that the provider serves {model!r} under that name, and base_url of provider {name!r}",
        }
        return ProviderError(found, next_step=steps.get(status, f"check base_url of provider {name!r}"), **facts)

    def _no_answer(self, error: openai.APIConnectionError) -> ProviderUnavailableError:
        if isinstance(error, openai.APITimeoutError):
            what = f"did not answer within {self._settings.timeout:g} s"
        else:
            what = f"is not reachable ({self._settings.without_secrets(str(error.__cause__ or error))})"
        return ProviderUnavailableError(f"{self._label} {what}", provider=self._settings.name)

    @property
    def _label(self) -> str:
        return f"provider {self._settings.name!r} at {self._settings.base_url}"

    def _key_source(self) -> str:
        return self._settings.api_key_env or " or ".join(key_variables(self._settings.name))

    def _message(self, error: openai.APIStatusError) -> str:
        body = error.body
        for key in ("message", "error", "detail"):  # OpenAI, many others, FastAPI
            if isinstance(body, dict) and body.get(key):
                body = body[key]
        text = str(body or error.response.reason_phrase or "no reason given")
        # Before cutting, or half a key might stay; PostgreSQL stores neither NUL nor half a surrogate pair.
        text = self._settings.without_secrets(text).replace("\0", "").encode(errors="replace").decode()
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]}…"

    def _compare_model(self, echoed: str | None) -> None:
        """Warn once when the answer names another model; servers echo aliases, so it proves nothing either way."""
        wanted = self._contract.model.lower()
        if not echoed or echoed.lower() in wanted or wanted in echoed.lower() or self._warned.is_set():
            return
        self._warned.set()
        _log.warning("%s was asked for model %r and says that %r answered", self._label, self._contract.model, echoed)


def _basic_authorization(settings: ProviderSettings) -> dict[str, str] | None:
    """Return user and password of base_url as a header; in the URL they would be logged with every request."""
    if settings.userinfo is None:
        return None
    user, _, password = settings.userinfo.reveal().partition(":")
    token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return {"Authorization": f"Basic {token}"}

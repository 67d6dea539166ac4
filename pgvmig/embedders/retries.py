"""Retries of one request: how long to wait, when to give up, and how to be stopped in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import tenacity
from tenacity import RetryCallState

from pgvmig.config import ProviderSettings
from pgvmig.embedders.base import ShouldStop, Vectors
from pgvmig.errors import AnswerRejectedError, ProviderUnavailableError, StoppedError

# How soon a wait notices that it should stop.
_POLL = 0.05

# Random from zero up: requests that failed together do not come back together.
_backoff = tenacity.wait_random_exponential(multiplier=0.5, max=20)
_jitter = tenacity.wait_random(0, 0.25)


class Retries:
    """Asks again for what passes by itself: no answer for `max_retry_time`, a bad one `answer_attempts` times.

    `trouble` says why it is being asked again at the moment, None when the last answer was good.
    """

    def __init__(self, settings: ProviderSettings, should_stop: ShouldStop) -> None:
        self.trouble: str | None = None
        self._name = settings.name
        self._limit = settings.max_retry_time
        self._should_stop = should_stop
        self._until_answered = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ProviderUnavailableError),
            wait=_wait,
            stop=tenacity.stop_before_delay(settings.max_retry_time),
            sleep=self._sleep,
            before_sleep=self._note,
            retry_error_callback=self._give_up,
        )
        # Asking again costs money, so this is counted, not timed.
        self._until_trusted = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(AnswerRejectedError),
            wait=_backoff,
            stop=tenacity.stop_after_attempt(settings.answer_attempts),
            sleep=self._sleep,
            reraise=True,
        )

    def __call__(self, ask: Callable[[], Vectors]) -> Vectors:
        """Return what `ask` returns in the end. Raises StoppedError, ProviderUnavailableError, AnswerRejectedError."""
        answer: Vectors = self._until_trusted(self._until_answered, ask)
        self.trouble = None
        return answer

    def _note(self, state: RetryCallState) -> None:
        """Minutes of silence look like a worker that hangs."""
        seconds = state.seconds_since_start or 0.0
        self.trouble = f"{_error(state).found} (attempt {state.attempt_number}, for {seconds:,.0f} s)"

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            if self._should_stop():
                raise StoppedError(f"asked to stop while waiting for provider {self._name!r}")
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _POLL))

    def _give_up(self, state: RetryCallState) -> Vectors:
        last = _error(state)
        asked = last.data.get("retry_after") or 0
        if asked >= self._limit > 0:
            why = f"it asks to wait {asked:,.0f} s"
        else:
            attempts = state.attempt_number
            why = f"given up after {attempts} attempt{'s' * (attempts > 1)} in {state.seconds_since_start or 0:,.0f} s"
        raise ProviderUnavailableError(
            f"{last.found}; {why}",
            hazard="Nothing was written: the rows stay as they were, and no row counts as failed",
            next_step="run the same command again when the provider is back; lower concurrency if it limits the rate, "
            f"raise max_retry_time (now {self._limit:g} s) of [providers.{self._name}] to wait longer",
            **last.data,
            attempts=state.attempt_number,
        ) from last


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return how many seconds the provider asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if when.tzinfo is None:  # "-0000"
        when = when.replace(tzinfo=UTC)
    return max((when - (now or datetime.now(UTC))).total_seconds(), 0.0)


def _wait(state: RetryCallState) -> float:
    asked = _error(state).data.get("retry_after")
    return _backoff(state) if asked is None else float(asked) + _jitter(state)


def _error(state: RetryCallState) -> ProviderUnavailableError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, ProviderUnavailableError):
        raise TypeError(error)
    return error

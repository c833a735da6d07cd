"""When a request is sent again, and after how long. tenacity does the looping, these are its decisions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tenacity

from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.exceptions import PolarApiError, PolarRateLimitError

PATIENCE = 120.0
"""Seconds that what is transient is retried for: a restart of Polar's API refuses connections for a minute and more."""
_RATE_LIMIT_PATIENCE = 1800.0
"""Seconds that one request waits at most because of rate limits, in all."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How persistent a client is.

    :param attempts: how often a request is sent at most; 1 for never again, None for no such limit.
    :param initial: seconds before the second attempt; doubled for each further one, with jitter.
    :param maximum: seconds between two attempts at most. A 429 waits as long as Polar says, whatever this is.
    :param patience: seconds of failing attempts and of pauses between them after which the last error is raised; None
        for :data:`PATIENCE`. Waits for a rate limit and for the request budget are not counted.
    """

    attempts: int | None = None
    initial: float = 0.5
    maximum: float = 30.0
    patience: float | None = None

    def __post_init__(self) -> None:
        waits = (self.initial, self.maximum, self.patience or 0)
        if (self.attempts is not None and self.attempts < 1) or min(waits) < 0:
            raise ValueError("attempts must be at least 1, seconds not negative")

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, PolarRateLimitError) and error.retry_after > 0:
            return error.retry_after + random.uniform(0, 0.05)  # noqa: S311
        ceiling = min(self.maximum, self.initial * 2.0 ** min(state.attempt_number - 1, 30))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311


NO_RETRIES = Retries(attempts=1)


class Attempts:
    """The attempts at one request: whether there is another one, and when.

    :param tell: called before each pause with the error, the seconds of the pause and the number of the retry.
    """

    def __init__(
        self,
        retries: Retries,
        request: PolarRequest,
        tell: Callable[[PolarApiError, float, int], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retries = retries
        self._most = retries.attempts if request.repeatable else 1
        self._patience = PATIENCE if retries.patience is None else retries.patience
        self._rate_limit_patience = _RATE_LIMIT_PATIENCE
        self._tell = tell
        self._clock = clock
        self.sent_at = clock()

    def sending(self) -> None:
        """To be called when an attempt has waited for the budget and is sent."""
        self.sent_at = self._clock()

    def controls(self) -> dict[str, Any]:
        """The arguments of ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``."""
        return {
            "retry": tenacity.retry_if_exception(is_retryable),
            "wait": self._wait,
            "stop": self._stop,
            "before_sleep": self._before_sleep,
            "reraise": True,
        }

    def _wait(self, state: tenacity.RetryCallState) -> float:
        pause = self._retries.wait(state)
        # The last attempt comes at the end of the patience and not long before it.
        return pause if _is_rate_limit(state) else min(pause, max(self._patience, 0.0))

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        if self._most is not None and state.attempt_number >= self._most:
            return True
        if _is_rate_limit(state):
            return self._rate_limit_patience <= 0
        self._patience -= self._clock() - self.sent_at
        return self._patience <= 0

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        pause = state.upcoming_sleep
        if _is_rate_limit(state):
            self._rate_limit_patience -= pause
        else:
            self._patience -= pause
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, PolarApiError):
            self._tell(error, pause, state.attempt_number)


def is_retryable(error: BaseException) -> bool:
    """Whether the same request, sent again, may succeed."""
    return isinstance(error, PolarApiError) and error.retryable


def _is_rate_limit(state: tenacity.RetryCallState) -> bool:
    return state.outcome is not None and isinstance(state.outcome.exception(), PolarRateLimitError)

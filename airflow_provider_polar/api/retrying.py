"""When a request is sent again, and after how long. tenacity does the looping, these are its decisions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import tenacity

from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.exceptions import PolarApiError, PolarRateLimitError


@dataclass(frozen=True, slots=True)
class Retries:
    """How persistent a client is.

    :param attempts: how often a request is sent at most; 1 for never again.
    :param initial: seconds before the second attempt; doubled for each further one, with jitter.
    :param maximum: seconds between two attempts at most. A 429 waits as long as Polar says, whatever this is.
    """

    attempts: int = 6
    initial: float = 0.5
    maximum: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.initial < 0 or self.maximum < 0:
            raise ValueError("attempts must be at least 1, waits not negative")

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, PolarRateLimitError):
            return error.retry_after + random.uniform(0, 0.05)  # noqa: S311
        ceiling = min(self.maximum, self.initial * 2.0 ** (state.attempt_number - 1))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311

    def controls(self, request: PolarRequest) -> dict[str, Any]:
        """The arguments of ``tenacity.Retrying`` and ``tenacity.AsyncRetrying`` for one request."""
        attempts = self.attempts if request.repeatable else 1
        return {
            "stop": tenacity.stop_after_attempt(attempts),
            "wait": self.wait,
            "retry": tenacity.retry_if_exception(is_retryable),
            "reraise": True,
        }


NO_RETRIES = Retries(attempts=1)


def is_retryable(error: BaseException) -> bool:
    """Whether the same request, sent again, may succeed."""
    return isinstance(error, PolarApiError) and error.retryable

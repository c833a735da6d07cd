"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

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

    def wait(self, error: PolarApiError, number: int) -> float:
        """Seconds before the next attempt, the n-th (from 1) having failed."""
        if isinstance(error, PolarRateLimitError) and error.retry_after > 0:
            return error.retry_after + random.uniform(0, 0.05)  # noqa: S311
        ceiling = min(self.maximum, self.initial * 2.0 ** min(number - 1, 30))
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311


NO_RETRIES = Retries(attempts=1)
FEW_RETRIES = Retries(attempts=3)
"""For what takes many requests and is itself repeated: a single one that fails must not cost all."""


class Attempts:
    """The attempts at one request: whether there is another one, and when.

    :param tell: called before each pause with the error, the seconds of the pause and the number of the retry.
    :ivar sent_at: when the present attempt was sent, in the clock's seconds.
    """

    def __init__(
        self,
        retries: Retries,
        request: PolarRequest,
        tell: Callable[[PolarApiError, float, int], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = request
        self._retries = retries
        self._most = retries.attempts if request.repeatable else 1
        self._patience = PATIENCE if retries.patience is None else retries.patience
        self._rate_limit_patience = _RATE_LIMIT_PATIENCE
        self._tell = tell
        self._clock = clock
        self._failed = 0
        self.sent_at = clock()

    def sending(self) -> None:
        """To be called when an attempt has waited for the budget and is sent."""
        self.sent_at = self._clock()

    def pause_after(self, error: PolarApiError) -> float:
        """Seconds to wait before the next attempt, the present one having failed.

        :raises PolarApiError: the same error, where there is no next attempt.
        """
        self._failed += 1
        if not error.retryable or self._failed == self._most:
            raise error
        pause = self._retries.wait(error, self._failed)
        if isinstance(error, PolarRateLimitError):
            left = self._rate_limit_patience
            self._rate_limit_patience -= pause
        else:
            left = self._patience - (self._clock() - self.sent_at)
            # The last attempt comes at the end of the patience and not long before it.
            pause = min(pause, max(left, 0.0))
            self._patience = left - pause
        if left <= 0:
            raise error
        self._tell(error, pause, self._failed)
        return pause

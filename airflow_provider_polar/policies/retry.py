"""Retries tasks as Polar's errors need it.

Airflow 3.3 and newer: before, a task has ``retries`` and ``retry_delay`` only, and the operators fail at once by
themselves where no retry helps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.exceptions import PolarDestinationError, PolarError, PolarRateLimitError

try:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
except ImportError as error:
    raise ImportError("PolarRetryPolicy needs Airflow 3.3; use retries= and retry_delay= on this version") from error

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class PolarRetryPolicy(RetryPolicy):
    """Waits as long as a rate limit says and fails at once on what no retry fixes.

    The rest is left to the task's own ``retry_delay``. All within the task's ``retries``; worth having around Python
    tasks that use the hook.

    .. code-block:: python

        @task(retries=3, retry_policy=PolarRetryPolicy())
        def bill(): PolarHook().ingest_events(...)

    :param fault_delay: wait after a fault of Polar or of the network; None for the task's ``retry_delay``.
    """

    def __init__(self, *, fault_delay: timedelta | None = None) -> None:
        self.fault_delay = fault_delay

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # noqa: ARG002 - Airflow itself keeps to the task's retries
        max_tries: int,  # noqa: ARG002
        context: Context | None = None,  # noqa: ARG002
    ) -> RetryDecision:
        """What to do about an exception, or about the Polar error that caused it."""
        error = _polar_error(exception)
        if error is None:
            return RetryDecision.default()
        kind = type(error).__name__
        if isinstance(error, PolarRateLimitError):
            delay = timedelta(seconds=error.retry_after)
            return RetryDecision.retry(delay=delay, reason=f"{kind}: Polar says to wait {error.retry_after:g} s")
        if error.retryable or isinstance(error, PolarDestinationError):
            return RetryDecision.retry(delay=self.fault_delay, reason=f"{kind} may pass")
        return RetryDecision.fail(reason=f"{kind}: a retry does not help")

    def serialize(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"fault_delay": None if self.fault_delay is None else self.fault_delay.total_seconds()}

    @classmethod
    def deserialize(cls, data: Mapping[str, Any]) -> PolarRetryPolicy:
        """The reverse of :meth:`serialize`."""
        delay = data.get("fault_delay")
        return cls(fault_delay=None if delay is None else timedelta(seconds=delay))


def _polar_error(exception: BaseException) -> PolarError | None:
    seen: set[int] = set()
    cause: BaseException | None = exception
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, PolarError):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None

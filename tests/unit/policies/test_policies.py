"""The retry policy, alone and in a task that Airflow runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_polar.exceptions import (
    PolarAuthenticationError,
    PolarDestinationError,
    PolarIncompleteError,
    PolarRateLimitError,
    PolarServerError,
    PolarValidationError,
)

pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="retry policies came with Airflow 3.3")

from airflow.sdk.definitions.retry_policy import RetryAction

from airflow_provider_polar.policies.retry import PolarRetryPolicy


def caused(error: BaseException) -> BaseException:
    try:
        try:
            raise error
        except BaseException as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("wrap", [lambda error: error, caused], ids=["bare", "as a cause"])
@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (PolarRateLimitError("slow down", retry_after=60), RetryAction.RETRY, 60),
        (PolarRateLimitError("slow down", retry_after=1), RetryAction.RETRY, 1),
        (PolarServerError("500"), RetryAction.RETRY, 7),
        (PolarIncompleteError("3 rows"), RetryAction.RETRY, 7),
        (PolarDestinationError("disk"), RetryAction.RETRY, 7),
        (PolarAuthenticationError("401"), RetryAction.FAIL, None),
        (PolarValidationError("422"), RetryAction.FAIL, None),
        (ValueError("no error of Polar's"), RetryAction.DEFAULT, None),
    ],
)
def test_decisions(wrap: Any, error: BaseException, action: RetryAction, delay: float | None) -> None:
    decision = PolarRetryPolicy(fault_delay=timedelta(seconds=7)).evaluate(wrap(error), 1, 3)
    assert decision.action is action
    assert decision.retry_delay == (None if delay is None else timedelta(seconds=delay))


def test_round_trip() -> None:
    policy = PolarRetryPolicy(fault_delay=timedelta(minutes=2))
    assert PolarRetryPolicy.deserialize(policy.serialize()).fault_delay == timedelta(minutes=2)
    assert PolarRetryPolicy.deserialize(PolarRetryPolicy().serialize()).fault_delay is None


def test_in_a_task() -> None:
    """Airflow's own evaluation of it, from the exception that the task raised."""
    from types import SimpleNamespace

    import structlog
    from airflow.sdk.execution_time.task_runner import _evaluate_retry_policy

    ti = SimpleNamespace(
        task=SimpleNamespace(retry_policy=PolarRetryPolicy()), try_number=1, _ti_context_from_server=None
    )
    decision = _evaluate_retry_policy(ti, PolarRateLimitError("429", retry_after=60), structlog.get_logger())  # type: ignore[arg-type]
    assert decision is not None
    assert decision.retry_delay == timedelta(seconds=60)

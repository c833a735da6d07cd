"""How the provider's errors end a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_polar.exceptions import PolarDestinationError, PolarError


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Fails the task at once where a retry cannot help, with the error's own message; lets Airflow retry the rest.

    A store's refusal is left to Airflow's retries: whether it lasts cannot be told here.
    """
    try:
        yield
    except PolarError as error:
        if error.retryable or isinstance(error, PolarDestinationError):
            raise
        raise AirflowFailException(str(error)) from error

"""What every operator does with its parameters, and how an error ends a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarDestinationError, PolarError
from airflow_provider_polar.parameters import Parser, is_mapped, is_templated


@contextmanager
def failing_clearly(*retried: type[PolarError]) -> Iterator[None]:
    """Fails the task at once where a retry cannot help, with the error's own message; lets Airflow retry the rest.

    A store's refusal is left to Airflow's retries: whether it lasts cannot be told here.

    :param retried: further errors that Airflow's retries may fix.
    """
    try:
        yield
    except PolarError as error:
        if error.retryable or isinstance(error, (PolarDestinationError, *retried)):
            raise
        raise AirflowFailException(str(error)) from error


class CheckedOperator(BaseOperator):
    """An operator whose parameters are judged when the DAG file is parsed, templated ones in the task.

    :raises PolarConfigurationError: at once, for a parameter that is wrong and not templated.
    """

    ui_color = "#e8eefc"

    def _parsers(self) -> dict[str, Parser]:
        """What each parameter is read by; it imports what it needs only when it is called."""
        return {}

    def _parsed(self, name: str) -> Any:
        """What the value of a parameter means."""
        return self._parsers()[name](getattr(self, name), name)

    def _check(self) -> None:
        """Refuses what is wrong and not templated; a constructor ends with it."""
        if is_mapped(self):  # its run judges it
            return
        with self._named():
            for name, parse in self._parsers().items():
                if not is_templated(value := getattr(self, name)):
                    parse(value, name)
            self._check_together()

    def _check_together(self) -> None:
        """Refuses parameters that are not templated and do not go together."""

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Puts the task's name before an error, since Airflow's import errors show no line of the DAG file."""
        try:
            yield
        except PolarConfigurationError as error:
            raise type(error)(f"task {self.task_id!r}: {error}") from None

    def _prepare(self) -> None:
        """Refuses what can be known to be wrong before anything is waited for or requested, templates rendered."""
        for name, parse in self._parsers().items():
            parse(getattr(self, name), name)
        self._check_together()

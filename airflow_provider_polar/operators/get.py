"""Gets one event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.exceptions import PolarNotFoundError
from airflow_provider_polar.operators._base import PolarOperator
from airflow_provider_polar.parameters import Parser

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class PolarGetEventOperator(PolarOperator):
    """Returns one event, as the API's own JSON object.

    :param event_id: Polar's id of the event, a UUID (templated).
    """

    template_fields: Sequence[str] = (*PolarOperator.template_fields, "event_id")

    def __init__(self, *, event_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event_id = event_id
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        from airflow_provider_polar.api.requests import get_event

        return super()._parsers() | {"event_id": lambda value, _: get_event(value)}

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Requests the event.

        :raises PolarNotFoundError: there is none, or it is too new to be visible: the task's retries help with that.
        :raises AirflowFailException: not a UUID, a wrong token or a missing scope; a retry cannot help.
        """
        with self._connected(PolarNotFoundError) as hook:
            return hook.get_event(self.event_id)

"""Sends a usage event from a callback."""

from __future__ import annotations

import copy
import json
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarInvalidEventsError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class PolarEventNotifier(BaseNotifier):
    """Sends one usage event from a callback of a DAG or a task: bills a customer for a finished pipeline run, say.

    Airflow may run a callback more than once. Polar stores the event once, for its identity is made of the DAG, the
    run, the event's name and the customer, and in a task's callback of the task and its map index; neither attempts
    nor metadata are part of it. Where one run is to send several such events, give each another ``identity``.

    .. code-block:: python

        DAG(..., on_success_callback=PolarEventNotifier(event_name="pipeline.finished", external_customer_id="acme"))

    :param event_name: name of the event (templated).
    :param external_customer_id: your id of the customer (templated); or
    :param customer_id: Polar's id of the customer (templated).
    :param metadata: the event's metadata (templated): flat, text, numbers and booleans. What a template gives is text,
        which no meter can sum, unless the DAG has ``render_template_as_native_obj=True``.
    :param timestamp: when it happened, aware (templated); None for the moment at which Polar receives it.
    :param identity: what tells this event from others of the same run, name and customer (templated), e.g.
        ``"{{ ti.try_number }}"`` to bill every attempt.
    :param polar_conn_id: connection of type ``polar`` (templated).
    """

    template_fields: Sequence[str] = (
        "event_name",
        "external_customer_id",
        "customer_id",
        "metadata",
        "timestamp",
        "identity",
        "polar_conn_id",
    )

    def __init__(
        self,
        *,
        event_name: str,
        external_customer_id: str | None = None,
        customer_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: datetime | str | None = None,
        identity: str | None = None,
        polar_conn_id: str = "polar_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (external_customer_id is None) == (customer_id is None):
            raise PolarConfigurationError("give either external_customer_id or customer_id")
        self.event_name = event_name
        self.external_customer_id = external_customer_id
        self.customer_id = customer_id
        self.metadata = metadata
        self.timestamp = timestamp
        self.identity = identity
        self.polar_conn_id = polar_conn_id

    # Rendering changes the object for good, and one process may run the callbacks of several runs or mapped tasks:
    # without a copy each, the later ones would send, and bill, what the first one did.
    def __call__(self, *args: Any) -> None:
        """Renders the templates and sends the event."""
        super(PolarEventNotifier, copy.copy(self)).__call__(*args)

    def __await__(self) -> Generator[Any, Any, None]:
        """The same in a triggerer."""
        return super(PolarEventNotifier, copy.copy(self)).__await__()

    def notify(self, context: Context) -> None:
        """Sends the event.

        :raises PolarInvalidEventsError: Polar would refuse the event.
        :raises PolarApiError: Polar did not take it. Airflow logs what a callback raises and goes on.
        """
        from airflow_provider_polar.hooks.polar import PolarHook

        hook = PolarHook(self.polar_conn_id)
        try:
            self._report(hook.ingest_events([self.event(context)]))
        finally:
            hook.close()

    async def async_notify(self, context: Context) -> None:
        """The same in a triggerer, where deadline alerts run."""
        from airflow_provider_polar.hooks.polar import PolarHook

        async with await PolarHook(self.polar_conn_id).get_async_conn() as client:
            result = await client.ingest([self.event(context)])
        self._report({"inserted": result.inserted, "duplicates": result.duplicates})

    def event(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The event as it is sent.

        :raises PolarInvalidEventsError: Polar would refuse it.
        """
        from airflow_provider_polar.engine.ingesting.validation import EventValidator

        row = {
            "name": self.event_name,
            "external_customer_id": self.external_customer_id,
            "customer_id": self.customer_id,
            "timestamp": self.timestamp,
            "metadata": self.metadata,
            "external_id": self._external_id(context),
        }
        event, problems = EventValidator()({field: value for field, value in row.items() if value is not None})
        if problems:
            said = "; ".join(f"{one.field} {one.message}".strip() for one in problems)
            raise PolarInvalidEventsError(f"event {self.event_name!r} cannot be sent: {said}")
        return event

    def _external_id(self, context: Mapping[str, Any]) -> str:
        from airflow_provider_polar.engine.ingesting.identity import derive

        run, ti = context.get("dag_run"), context.get("ti")
        dag_id = _of(ti, "dag_id") or _of(run, "dag_id") or _of(context.get("dag"), "dag_id")
        run_id = context.get("run_id") or _of(ti, "run_id") or _of(run, "run_id")
        if not dag_id or not run_id:
            raise PolarConfigurationError("this callback's context names no DAG run, so its event has no identity")
        # A DAG's callback has a reason, and whichever task happened to be the last.
        task = [] if ti is None or "reason" in context else [_of(ti, "task_id"), _of(ti, "map_index", -1)]
        customer = self.external_customer_id or _lower_case(self.customer_id)
        content = json.dumps([self.event_name, customer, self.identity], default=str)
        return derive(json.dumps(["notification", dag_id, run_id, *task]), content.encode(), 0)

    def _report(self, result: Mapping[str, int]) -> None:
        said = "Sent event %r to Polar" if result["inserted"] else "Event %r was sent before; Polar keeps the first"
        self.log.info(said, self.event_name)


def _lower_case(customer_id: Any) -> Any:
    """The id as Polar writes it: however it is written, it is the same customer."""
    try:
        return str(UUID(str(customer_id)))
    except ValueError:
        return customer_id


def _of(value: Any, name: str, default: Any = None) -> Any:
    """Contexts of deadline alerts hold plain dicts where others hold objects."""
    found = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return default if found is None else found

"""Operator links to the events in Polar's dashboard and to an export's manifest.

Polar's dashboard wants an organization's slug, which an access token does not tell; its address ``/to/dashboard``
goes to the organization that the user visited last. So a user of several organizations may have to switch there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_polar.engine.files.uris import storage_url
from airflow_provider_polar.api.environments import ENVIRONMENTS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

    from airflow_provider_polar.engine.window import EventWindow

_EVENTS, _MANIFEST = "_polar_events_url", "_polar_manifest_url"


def events_url(
    environment: str,
    *,
    window: EventWindow | None = None,
    names: Sequence[str] = (),
    customer_ids: Sequence[str] = (),
) -> str:
    """The address of events in Polar's dashboard.

    :param environment: ``production`` or ``sandbox``.
    :param window: only events in it, to the millisecond.
    :param names: only events with one of these names.
    :param customer_ids: only events of these customers (Polar's ids).
    """
    query = {}
    if window is not None:
        # The dashboard hands these on to the API as they are.
        bounds = (moment.isoformat(timespec="milliseconds") for moment in window.api_bounds())
        query = dict(zip(("startDate", "endDate"), (text.replace("+00:00", "Z") for text in bounds), strict=True))
    if names:
        query["eventTypes"] = ",".join(name.replace(",", "%2C") for name in names)
    if customer_ids:
        query["customerIds"] = ",".join(customer_ids)
    address = f"{ENVIRONMENTS[environment].dashboard_url}/to/dashboard/analytics/events"
    return address + (f"?{urlencode(query)}" if query else "")


def show_events(
    operator: Any,
    environment: str,
    *,
    window: EventWindow | None = None,
    filters: Any = None,
    names: Sequence[str] = (),
) -> None:
    """Sets the link of a running task to the events that it works on; see :func:`events_url`.

    :param filters: :class:`~airflow_provider_polar.api.filters.EventFilters`, of which the dashboard knows names and
        customer ids.
    """
    names = [*names, *(getattr(filters, "name", None) or ())]
    customers = getattr(filters, "customer_id", None) or ()
    setattr(operator, _EVENTS, events_url(environment, window=window, names=names, customer_ids=customers))


def show_manifest(operator: Any, path: str) -> None:
    """Sets the link of a running task to a manifest."""
    setattr(operator, _MANIFEST, storage_url(path))


class PolarEventsLink(BaseOperatorLink):
    """The events in Polar's dashboard, for the task's window and names."""

    name = "Polar events"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Airflow 3 calls this on the worker, when the task ends, and keeps what it returns."""
        return getattr(operator, _EVENTS, "")


class PolarManifestLink(BaseOperatorLink):
    """The manifest of an export."""

    name = "Manifest"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Airflow 3 calls this on the worker, when the task ends, and keeps what it returns."""
        return getattr(operator, _MANIFEST, "")

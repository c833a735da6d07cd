"""Operator links to the events in Polar's dashboard, an export's manifest and a verification's report.

Polar's dashboard wants an organization's slug, which an access token does not tell; its address ``/to/dashboard``
goes to the organization that the user visited last. So a user of several organizations may have to switch there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

    from airflow_provider_polar.engine.window import EventWindow


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
    from airflow_provider_polar.environments import ENVIRONMENTS

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
    context: Context,
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
    _keep(context, PolarEventsLink(), events_url(environment, window=window, names=names, customer_ids=customers))


def show_manifest(context: Context, path: str) -> None:
    """Sets the link of a running task to a manifest."""
    _keep_object(context, PolarManifestLink(), path)


def show_report(context: Context, path: str) -> None:
    """Sets the link of a running task to the report of a verification."""
    _keep_object(context, PolarReportLink(), path)


def _keep_object(context: Context, link: _KeptLink, path: str) -> None:
    from airflow_provider_polar.engine.files.uris import storage_url

    _keep(context, link, storage_url(path))


def _keep(context: Context, link: _KeptLink, url: str) -> None:
    with suppress(Exception):  # a link is not worth failing a task
        context["ti"].xcom_push(key=link.xcom_key, value=url)


class _KeptLink(BaseOperatorLink):
    """A link whose address the running task keeps as an XCom, under the key where Airflow looks for it."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """The address that the task has kept, empty for none.

        Airflow 3 calls this on the worker, when the task ends, and keeps what it returns under the same key.
        """
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""


class PolarEventsLink(_KeptLink):
    """The events in Polar's dashboard, for the task's window and names."""

    name = "Polar events"


class PolarManifestLink(_KeptLink):
    """The manifest of an export."""

    name = "Manifest"


class PolarReportLink(_KeptLink):
    """The report of a verification."""

    name = "Report"

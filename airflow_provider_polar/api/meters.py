"""The requests that are about meters, each described once; the clients only send them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, get_args
from uuid import UUID

from airflow_provider_polar.api.buckets import Interval, check_bounds, check_interval, zone_of
from airflow_provider_polar.api.filters import EventFilters, OneOrSeveral, Params, unknown_filter
from airflow_provider_polar.api.limits import CUSTOMER_FIELDS
from airflow_provider_polar.api.requests import PolarRequest, paging, path_id, timestamp_text
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarFilterError

MeterSorting = Literal["name", "-name", "created_at", "-created_at"]
CustomerMeterSorting = Literal[
    "created_at",
    "-created_at",
    "modified_at",
    "-modified_at",
    "customer_id",
    "-customer_id",
    "customer_name",
    "-customer_name",
    "meter_id",
    "-meter_id",
    "meter_name",
    "-meter_name",
    "consumed_units",
    "-consumed_units",
    "credited_units",
    "-credited_units",
    "balance",
    "-balance",
]
Function = Literal["count", "sum", "max", "min", "avg", "unique"]
_LIKE_EVENTS = ("organization_id", *CUSTOMER_FIELDS, "metadata")
"""The filters that are the same as of a list of events."""


class MeterFilters(TypedDict, total=False):
    """What a list of meters can be filtered by; ``query`` is a part of the name, case ignored."""

    organization_id: OneOrSeveral | None
    query: str | None
    is_archived: bool | None
    metadata: Mapping[str, Any] | None


class QuantityFilters(TypedDict, total=False):
    """What a meter's quantities can be narrowed to, and how they are made.

    A customer is meant by either of its ids. With ``customer_aggregation_function`` each bucket's quantity is made of
    the quantities of its customers, not of its events.
    """

    timezone: str | None
    customer_id: OneOrSeveral | None
    external_customer_id: OneOrSeveral | None
    customer_aggregation_function: Function | None
    metadata: Mapping[str, Any] | None


class CustomerMeterFilters(TypedDict, total=False):
    """What a list of customer meters can be filtered by."""

    organization_id: OneOrSeveral | None
    customer_id: OneOrSeveral | None
    external_customer_id: OneOrSeveral | None
    meter_id: OneOrSeveral | None


def list_meters(
    filters: MeterFilters,
    *,
    page: int | None = None,
    limit: int | None = None,
    sorting: MeterSorting | Sequence[MeterSorting] | None = None,
) -> PolarRequest:
    """``GET /v1/meters/``."""
    params = _params(filters, MeterFilters, "meters have")
    if (archived := filters.get("is_archived")) is not None:
        if not isinstance(archived, bool):
            raise PolarFilterError(f"filter is_archived: is True or False, not {archived!r}")
        params.append(("is_archived", str(archived).lower()))
    if (query := filters.get("query")) is not None:
        params.append(("query", query))
    return PolarRequest("GET", "/v1/meters/", (*params, *paging(page, limit, sorting, MeterSorting)))


def get_meter(meter_id: str | UUID) -> PolarRequest:
    """``GET /v1/meters/{id}``.

    :raises PolarConfigurationError: the id is not a UUID.
    """
    return PolarRequest("GET", f"/v1/meters/{path_id(meter_id, 'a meter')}")


def meter_quantities(
    meter_id: str | UUID,
    filters: QuantityFilters,
    *,
    start_timestamp: datetime,
    end_timestamp: datetime,
    interval: Interval,
) -> PolarRequest:
    """``GET /v1/meters/{id}/quantities``: buckets from the start on, the one that ``end_timestamp`` is in included.

    :raises PolarWindowError: Polar would refuse the bounds. A retry does not help.
    :raises PolarConfigurationError: an id, interval, zone or function that cannot be meant, or a naive bound.
    """
    path = f"/v1/meters/{path_id(meter_id, 'a meter')}/quantities"
    check_interval(interval)
    params = [("start_timestamp", timestamp_text(start_timestamp)), ("end_timestamp", timestamp_text(end_timestamp))]
    check_bounds(start_timestamp, end_timestamp, interval)
    params.append(("interval", interval))
    if (timezone := filters.get("timezone")) is not None:
        params.append(("timezone", zone_of(timezone).key))
    if (function := filters.get("customer_aggregation_function")) is not None:
        if function not in get_args(Function):
            raise PolarConfigurationError(
                f"customer_aggregation_function {function!r} is none of {', '.join(get_args(Function))}"
            )
        params.append(("customer_aggregation_function", function))
    return PolarRequest("GET", path, (*params, *_params(filters, QuantityFilters, "quantities have")))


def list_customer_meters(
    filters: CustomerMeterFilters,
    *,
    page: int | None = None,
    limit: int | None = None,
    sorting: CustomerMeterSorting | Sequence[CustomerMeterSorting] | None = None,
) -> PolarRequest:
    """``GET /v1/customer-meters/``."""
    params = _params(filters, CustomerMeterFilters, "customer meters have")
    if (meters := filters.get("meter_id")) is not None:
        for meter in [meters] if isinstance(meters, (str, UUID)) else meters:
            params += EventFilters.parse({"meter_id": meter}).to_params()
    return PolarRequest("GET", "/v1/customer-meters/", (*params, *paging(page, limit, sorting, CustomerMeterSorting)))


def _params(filters: Mapping[str, Any], known: Any, having: str) -> Params:
    """The parameters of the filters that lists of events have, too.

    :raises PolarFilterError: an unknown filter, which Polar would ignore, or an impossible value.
    """
    if unknown := [name for name in filters if name not in known.__annotations__]:
        raise PolarFilterError(unknown_filter(unknown[0], known.__annotations__, having))
    return EventFilters.parse({name: value for name, value in filters.items() if name in _LIKE_EVENTS}).to_params()

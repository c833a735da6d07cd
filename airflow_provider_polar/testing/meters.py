"""What Polar's endpoints of meters respond."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import UUID4, AfterValidator, AwareDatetime, BaseModel, Field
from pydantic_core import PydanticCustomError

from airflow_provider_polar.testing.buckets import Interval
from airflow_provider_polar.testing.errors import Invalid
from airflow_provider_polar.testing.metering import Function, Metering
from airflow_provider_polar.testing.query import Page, checked_id, metadata_parameters, ordered, parse, texts
from airflow_provider_polar.testing.store import Store
from airflow_provider_polar.testing.wire import Request

CustomerMeterSort = Literal[
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
Content = tuple[int, dict[str, Any]]
DAYS = {Interval.hour: 7, Interval.day: 366, Interval.week: 7 * 53, Interval.month: 365 * 4, Interval.year: 365 * 10}
"""Calendar days between the bounds at most."""
NOT_FOUND = 404, {"error": "ResourceNotFound", "detail": "Not found"}


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):
        raise PydanticCustomError("TimeZoneName", "Invalid timezone name.") from None


class MetersQuery(Page):
    """`GET /v1/meters/`."""

    sorting: list[Literal["name", "-name", "created_at", "-created_at"]] = ["name"]
    is_archived: bool | None = None
    query: str | None = None


class CustomerMetersQuery(Page):
    """`GET /v1/customer-meters/`."""

    sorting: list[CustomerMeterSort] = ["-modified_at"]
    customer_id: Sequence[UUID4] | None = None
    external_customer_id: Sequence[str] | None = None
    meter_id: Sequence[UUID4] | None = None


class QuantitiesQuery(BaseModel):
    """`GET /v1/meters/{id}/quantities`."""

    start_timestamp: Annotated[AwareDatetime, Field(ge=datetime(2023, 1, 1, tzinfo=UTC))]
    end_timestamp: AwareDatetime
    interval: Interval
    timezone: Annotated[str, Field(min_length=1), AfterValidator(_zone)] = "UTC"
    customer_id: Sequence[UUID4] | None = None
    external_customer_id: Sequence[str] | None = None
    customer_aggregation_function: Function | None = None


class Meters:
    """The responses of the endpoints of meters."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def endpoints(self) -> dict[str, Callable[[str, Request], Content]]:
        """What responds, by the name of the endpoint."""
        return {
            "meters": self._list,
            "meter": self._get,
            "quantities": self._quantities,
            "customer_meters": self._list_of_customers,
        }

    def _list(self, organization: str, request: Request) -> Content:
        query = parse(MetersQuery, request.record.params)
        metadata = metadata_parameters(request.record.params)
        found = [
            meter
            for meter in self._store.directory.meters(organization)
            if (query.query or "").casefold() in meter["name"].casefold()
            and query.is_archived in (None, meter["archived_at"] is not None)
            and all(_text(meter["metadata"].get(key)) in values for key, values in metadata.items())
            and query.covers(organization)
        ]
        return 200, query.of(ordered(found, query.sorting))

    def _get(self, organization: str, request: Request) -> Content:
        meter = self._store.directory.meter(organization, checked_id(request.record.path.rsplit("/", 1)[1]))
        return (200, meter) if meter else NOT_FOUND

    def _quantities(self, organization: str, request: Request) -> Content:
        meter_id = checked_id(request.record.path.split("/")[3])
        query = parse(QuantitiesQuery, request.record.params)
        meter = self._store.directory.meter(organization, meter_id)
        if meter is None:
            return NOT_FOUND
        _check_length(query)
        metering = Metering(self._store.database, organization, meter)
        if query.customer_id is not None or query.external_customer_id is not None:
            metering.only_customers(*self._resolved(organization, query))
        for key, values in metadata_parameters(request.record.params).items():
            metering.only_metadata(key, values)
        return 200, metering.quantities(
            query.start_timestamp,
            query.end_timestamp,
            query.interval,
            ZoneInfo(query.timezone),
            query.customer_aggregation_function,
        )

    def _resolved(self, organization: str, query: QuantitiesQuery) -> tuple[list[str], list[str]]:
        """Both ids of every customer that is meant; a Polar's id that no customer has is dropped."""
        directory = self._store.directory
        external = texts(query.external_customer_id)
        ids = [one for one in texts(query.customer_id) if directory.customer(organization, one)]
        ids += directory.with_external_ids(organization, external)
        return ids, external + directory.external_ids(organization, ids)

    def _list_of_customers(self, organization: str, request: Request) -> Content:
        query = parse(CustomerMetersQuery, request.record.params)
        wanted = texts(query.meter_id)
        items = [
            item
            for meter in self._store.directory.meters(organization)
            if query.covers(organization) and (meter["id"] in wanted if wanted else not meter["archived_at"])
            for item in self._of_customers(organization, meter)
            if query.customer_id is None or item["customer_id"] in texts(query.customer_id)
            if query.external_customer_id is None or item["customer"]["external_id"] in query.external_customer_id
        ]
        columns = {"customer_name": lambda it: it["customer"]["name"], "meter_name": lambda it: it["meter"]["name"]}
        return 200, query.of(ordered(items, query.sorting, columns))

    def _of_customers(self, organization: str, meter: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What each customer that has used a meter, or been given units of it, has consumed and has left."""
        for customer_id, (consumed, credited) in Metering(self._store.database, organization, meter).consumed().items():
            if customer := self._store.directory.customer(organization, customer_id):
                since = max(customer["created_at"], meter["created_at"])
                yield {
                    "id": _joint_id(customer_id, meter["id"]),
                    "created_at": since,
                    "modified_at": since,
                    "customer_id": customer_id,
                    "meter_id": meter["id"],
                    "consumed_units": consumed,
                    "credited_units": credited,
                    "balance": credited - consumed,
                    "customer": customer,
                    "meter": meter,
                }


def _check_length(query: QuantitiesQuery) -> None:
    start, end = query.start_timestamp, query.end_timestamp
    # Each date is that of the zone which its bound is written in.
    days = date.toordinal(end) - date.toordinal(start)
    if start > end or days > DAYS[query.interval]:
        what = "The interval is too small for the given date range. Use a larger interval or reduce the date range."
        given = [start.isoformat(), end.isoformat(), query.interval.value]
        problem = {"type": "value_error", "loc": ["query"], "msg": what, "input": given}
        raise Invalid([problem], "PolarRequestValidationError")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _joint_id(customer: str, meter: str) -> str:
    """An id that stays the same without being kept."""
    return str(uuid.UUID(int=uuid.uuid5(uuid.UUID(customer), meter).int, version=4))

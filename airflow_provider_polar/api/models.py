"""Polar's responses as models that keep what they do not know: a new field or a new kind of event is no error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_provider_polar.api.bodies import decode_json


def _aware(value: datetime) -> datetime:
    # Polar gives an event of year 1 without a zone.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_aware)]
"""A moment, in UTC."""


class _Response(BaseModel):
    model_config = ConfigDict(extra="allow")

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Decodes a response's body.

        :raises ValueError: it is no such response.
        """
        return cls.model_validate(decode_json(body))


class Pagination(_Response):
    """How much there is besides the page.

    :param total_count: what the analytics store counts for the request; 0 on a page beyond the last.
    """

    total_count: int
    max_page: int = 0


class Event(_Response):
    """One event, ingested (``source="user"``) or Polar's own (``source="system"``).

    :param timestamp: the event's own time (UTC, microseconds), chosen by its sender.
    :param customer: the customer as it is now, embedded by Polar; personal data.
    """

    # The order is the API's own, and that of the fields in exported files.
    id: str
    timestamp: Moment
    organization_id: str | None = None
    customer_id: str | None = None
    customer: dict[str, Any] | None = None
    external_customer_id: str | None = None
    member_id: str | None = None
    external_member_id: str | None = None
    child_count: int = 0
    parent_id: str | None = None
    label: str | None = None
    name: str
    source: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class EventPage(_Response):
    """A page of ``GET /v1/events/``. It may be short, even empty, although more follow."""

    items: list[Event]
    pagination: Pagination


class EventName(_Response):
    """An event name in use, with how often (``occurrences``) and when (UTC, milliseconds) it was seen."""

    name: str
    label: str | None = None
    source: str | None = None
    occurrences: int = 0
    first_seen: Moment | None = None
    last_seen: Moment | None = None


class EventNamePage(_Response):
    """A page of ``GET /v1/events/names``."""

    items: list[EventName]
    pagination: Pagination


class IngestResult(_Response):
    """What an ingest did: events newly stored, and events whose ``external_id`` was there already."""

    inserted: int
    duplicates: int = 0


class Meter(_Response):
    """A meter: which events it takes, and what it makes of them.

    :param filter: ``conjunction`` and ``clauses``, each a clause (``property``, ``operator``, ``value``) or a filter.
    :param aggregation: ``func`` (``count``, ``sum``, ``max``, ``min``, ``avg``, ``unique``) and, but for ``count``,
        ``property``.
    :param archived_at: when it was archived; None for one that is in use.
    """

    id: str
    name: str
    unit: str | None = None
    custom_label: str | None = None
    custom_multiplier: int | None = None
    filter: dict[str, Any]
    aggregation: dict[str, Any]
    organization_id: str | None = None
    created_at: Moment | None = None
    modified_at: Moment | None = None
    archived_at: Moment | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class MeterPage(_Response):
    """A page of ``GET /v1/meters/``."""

    items: list[Meter]
    pagination: Pagination


class MeterQuantity(_Response):
    """What a meter makes of the events of one bucket.

    :param timestamp: start of the bucket (UTC): the request's start, moved on by whole intervals.
    """

    timestamp: Moment
    quantity: float


class MeterQuantities(_Response):
    """What a meter makes of the events of each bucket.

    :param total: of the buckets for ``count``, ``sum``, ``max`` and ``min``; for ``avg`` and ``unique`` **of all
        events of all time**, whatever the bounds.
    """

    quantities: list[MeterQuantity]
    total: float


class CustomerMeter(_Response):
    """What a customer has consumed of a meter, and has left, since the last reset: by receipt, and with a delay.

    :param customer: the customer as it is now; personal data.
    """

    id: str
    customer_id: str
    meter_id: str
    consumed_units: float
    credited_units: float
    balance: float
    customer: dict[str, Any] | None = None
    meter: Meter | None = None
    created_at: Moment | None = None
    modified_at: Moment | None = None


class CustomerMeterPage(_Response):
    """A page of ``GET /v1/customer-meters/``."""

    items: list[CustomerMeter]
    pagination: Pagination

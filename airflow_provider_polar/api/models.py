"""Polar's responses as models that keep what they do not know: a new field or a new kind of event is no error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from airflow_provider_polar.api.bodies import decode_json


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
    timestamp: datetime
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

    @field_validator("timestamp")
    @classmethod
    def _aware(cls, value: datetime) -> datetime:
        # Polar gives an event of year 1 without a zone.
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


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
    first_seen: datetime | None = None
    last_seen: datetime | None = None


class EventNamePage(_Response):
    """A page of ``GET /v1/events/names``."""

    items: list[EventName]
    pagination: Pagination


class IngestResult(_Response):
    """What an ingest did: events newly stored, and events whose ``external_id`` was there already."""

    inserted: int
    duplicates: int = 0

"""The calls of both clients that are about events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack
from uuid import UUID

from airflow_provider_polar.api import requests
from airflow_provider_polar.api.calls import Call, method_of
from airflow_provider_polar.api.filters import EventFilters, ListFilters, NameFilters
from airflow_provider_polar.api.models import Event, EventNamePage, EventPage, IngestResult
from airflow_provider_polar.api.requests import EventSorting, NameSorting, PolarRequest
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.api.rows import RowPage
from airflow_provider_polar.api.wire import Http, Wire


class EventCalls(Wire[Http]):
    """One request each."""

    @method_of
    def list(
        self,
        *,
        start_timestamp: datetime | None = None,
        end_timestamp: datetime | None = None,
        page: int | None = None,
        limit: int | None = None,
        sorting: EventSorting | Sequence[EventSorting] | None = None,
        retries: Retries | None = None,
        **filters: Unpack[ListFilters],
    ) -> Call[EventPage]:
        """``GET /v1/events/``: one page.

        Bounds are exclusive, in whole milliseconds, and pages are no partition: to read a window completely use
        :meth:`airflow_provider_polar.hooks.polar.PolarHook.list_events`."""
        request = requests.list_events(
            EventFilters.parse(filters),
            start_timestamp=start_timestamp,
            end_timestamp=end_timestamp,
            page=page,
            limit=limit,
            sorting=sorting,
        )
        return Call(request, EventPage.decode, retries)

    @method_of
    def list_rows(self, request: PolarRequest, *, retries: Retries | None = None) -> Call[RowPage]:
        """One list request; the rows of its page, whose values stay the bytes they came as. What exports read."""
        return Call(request, RowPage.decode, retries)

    @method_of
    def list_names(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        sorting: NameSorting | Sequence[NameSorting] | None = None,
        retries: Retries | None = None,
        **filters: Unpack[NameFilters],
    ) -> Call[EventNamePage]:
        """``GET /v1/events/names``: one page of the event names in use."""
        request = requests.list_event_names(filters, page=page, limit=limit, sorting=sorting)
        return Call(request, EventNamePage.decode, retries)

    @method_of
    def get(self, event_id: str | UUID, *, retries: Retries | None = None) -> Call[Event]:
        """``GET /v1/events/{id}``: one event."""
        return Call(requests.get_event(event_id), Event.decode, retries)

    @method_of
    def ingest(self, events: Sequence[Mapping[str, Any]], *, retries: Retries | None = None) -> Call[IngestResult]:
        """``POST /v1/events/ingest``: all or nothing.

        Sent again after a fault only if every event has an ``external_id``, for only then a lost response does no
        harm."""
        return Call(requests.ingest_events(events), IngestResult.decode, retries)

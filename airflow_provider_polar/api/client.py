"""The synchronous and the asynchronous client: two thin transports for the same requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
import tenacity

from airflow_provider_polar.api import requests
from airflow_provider_polar.api.bodies import BodyError
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.models import Event, EventNamePage, EventPage, IngestResult
from airflow_provider_polar.api.pacing import AT_ONCE
from airflow_provider_polar.api.requests import EventSorting, NameSorting, PolarRequest
from airflow_provider_polar.api.retrying import Attempts, Retries
from airflow_provider_polar.api.rows import RowPage
from airflow_provider_polar.api.wire import PRODUCTION, Wire
from airflow_provider_polar.exceptions import PolarApiError

T = TypeVar("T")
OneOrMany = str | Sequence[str]


def _filters(given: dict[str, Any]) -> EventFilters:
    return EventFilters.parse({name: given[name] for name in EventFilters.model_fields})


class PolarClient:
    """Polar's Events API, one request a call. Thread-safe; connections are pooled; close it after use.

    Every call takes ``retries`` to override the client's. Errors are those of
    :mod:`airflow_provider_polar.exceptions`; transient ones are raised after the retries are used up.

    :param token: organization access token.
    :param base_url: Polar's base URL.
    :param api_version: the ``Polar-Version`` header.
    :param timeout: seconds to wait for a connection, and for a response to begin or go on; a response as a whole may
        take four times as long.
    :param retries: how persistent to be.
    :param requests_per_minute: the budget, spent evenly, never more in any 60 seconds; shared within the process by
        all clients with the same server, token and budget; None for no pacing.
    :param max_connections: connections kept at most, and so requests in flight.
    :param connection: name of the connection that the token comes from, for messages.
    :param at_once: share of the budget that may go at once, before the rest goes evenly.
    :param allow_http: permit ``http://`` to another machine, which shows the token to everybody on the way.
    :param transport: an httpx transport, for tests.
    """

    def __init__(
        self,
        token: str,
        *,
        base_url: str = PRODUCTION,
        api_version: str = "2026-04",
        timeout: float = 30.0,
        retries: Retries | None = None,
        requests_per_minute: float | None = None,
        max_connections: int = 16,
        connection: str | None = None,
        allow_http: bool = False,
        at_once: float = AT_ONCE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.wire = Wire(
            token,
            base_url,
            api_version,
            timeout,
            retries or Retries(),
            requests_per_minute,
            connection=connection,
            allow_http=allow_http,
            at_once=at_once,
        )
        limits = httpx.Limits(max_connections=max_connections)
        self._http = self.wire.open(httpx.Client, limits=limits, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the pooled connections."""
        self._http.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.wire.base_url!r})"

    @property
    def requests_sent(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self.wire.requests_sent

    @property
    def retries_made(self) -> int:
        """How often a request was sent again so far."""
        return self.wire.retries_made

    @property
    def seconds_waited(self) -> float:
        """Seconds of the pauses before requests were sent again, of all threads together; without pacing."""
        return self.wire.seconds_waited

    def send(
        self,
        request: PolarRequest,
        decode: Callable[[bytes], T],
        *,
        retries: Retries | None = None,
        on_retry: Callable[[PolarApiError], None] | None = None,
    ) -> T:
        """Sends a request, again where that helps, and decodes its response's body.

        :param on_retry: called with the error of every attempt that is followed by another one.
        """
        attempts = self.wire.attempts(request, retries, on_retry)
        response: T = tenacity.Retrying(**attempts.controls())(self._send_once, attempts, request, decode)
        return response

    def _send_once(self, attempts: Attempts, request: PolarRequest, decode: Callable[[bytes], T]) -> T:
        moment = self.wire.pacer.reserve()
        while (delay := self.wire.pacer.delay(moment)) != 0:
            if delay is None:
                moment = self.wire.pacer.reserve()
            else:
                self.wire.tell_of_pacing(request, delay)
                time.sleep(delay)
        attempts.sending()
        try:
            response = self._http.send(self.wire.build(self._http, request), stream=True)
            try:
                body = self.wire.body(response, attempts.sent_at)
                for raw in [] if response.is_stream_consumed else response.iter_raw():
                    body.add(raw)
                content = body.content()
            except BodyError as error:
                raise self.wire.unusable(request, response, error) from None
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Not chained: httpx's error may quote headers.
            raise self.wire.unanswered(request, error) from None
        return self.wire.decoded(request, response, content, decode)

    def list(
        self,
        *,
        start_timestamp: datetime | None = None,
        end_timestamp: datetime | None = None,
        organization_id: OneOrMany | None = None,
        customer_id: OneOrMany | None = None,
        external_customer_id: OneOrMany | None = None,
        meter_id: str | None = None,
        name: OneOrMany | None = None,
        source: OneOrMany | None = None,
        metadata: Mapping[str, Any] | None = None,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002 - the API's own name
        query: str | None = None,
        parent_id: str | None = None,
        depth: int | None = None,
        page: int | None = None,
        limit: int | None = None,
        sorting: EventSorting | Sequence[EventSorting] | None = None,
        retries: Retries | None = None,
    ) -> EventPage:
        """``GET /v1/events/``: one page.

        Bounds are exclusive, in whole milliseconds, and pages are no partition: to read a window completely use
        :meth:`airflow_provider_polar.hooks.polar.PolarHook.list_events`."""
        request = requests.list_events(
            _filters(locals()),
            start_timestamp=start_timestamp,
            end_timestamp=end_timestamp,
            page=page,
            limit=limit,
            sorting=sorting,
        )
        return self.send(request, EventPage.decode, retries=retries)

    def list_rows(self, request: PolarRequest, *, retries: Retries | None = None) -> RowPage:
        """One list request; the rows of its page, whose values stay the bytes they came as. What exports read."""
        return self.send(request, RowPage.decode, retries=retries)

    def list_names(
        self,
        *,
        organization_id: OneOrMany | None = None,
        customer_id: OneOrMany | None = None,
        external_customer_id: OneOrMany | None = None,
        source: OneOrMany | None = None,
        query: str | None = None,
        page: int | None = None,
        limit: int | None = None,
        sorting: NameSorting | Sequence[NameSorting] | None = None,
        retries: Retries | None = None,
    ) -> EventNamePage:
        """``GET /v1/events/names``: one page of the event names in use."""
        request = requests.list_event_names(
            organization_id=organization_id,
            customer_id=customer_id,
            external_customer_id=external_customer_id,
            source=source,
            query=query,
            page=page,
            limit=limit,
            sorting=sorting,
        )
        return self.send(request, EventNamePage.decode, retries=retries)

    def get(self, event_id: str | UUID, *, retries: Retries | None = None) -> Event:
        """``GET /v1/events/{id}``: one event."""
        return self.send(requests.get_event(event_id), Event.decode, retries=retries)

    def ingest(self, events: Sequence[Mapping[str, Any]], *, retries: Retries | None = None) -> IngestResult:
        """``POST /v1/events/ingest``: all or nothing.

        Sent again after a fault only if every event has an ``external_id``, for only then a lost response does no
        harm."""
        return self.send(requests.ingest_events(events), IngestResult.decode, retries=retries)


class AsyncPolarClient:
    """The same for asyncio: the same calls, parameters, responses and errors as :class:`PolarClient`.

    One client belongs to one event loop; the request budget is shared with all other clients of the process.
    """

    def __init__(
        self,
        token: str,
        *,
        base_url: str = PRODUCTION,
        api_version: str = "2026-04",
        timeout: float = 30.0,
        retries: Retries | None = None,
        requests_per_minute: float | None = None,
        max_connections: int = 16,
        connection: str | None = None,
        allow_http: bool = False,
        at_once: float = AT_ONCE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.wire = Wire(
            token,
            base_url,
            api_version,
            timeout,
            retries or Retries(),
            requests_per_minute,
            connection=connection,
            allow_http=allow_http,
            at_once=at_once,
        )
        limits = httpx.Limits(max_connections=max_connections)
        self._http = self.wire.open(httpx.AsyncClient, limits=limits, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the pooled connections."""
        await self._http.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.wire.base_url!r})"

    @property
    def requests_sent(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self.wire.requests_sent

    @property
    def retries_made(self) -> int:
        """See :attr:`PolarClient.retries_made`."""
        return self.wire.retries_made

    @property
    def seconds_waited(self) -> float:
        """See :attr:`PolarClient.seconds_waited`."""
        return self.wire.seconds_waited

    async def send(
        self,
        request: PolarRequest,
        decode: Callable[[bytes], T],
        *,
        retries: Retries | None = None,
        on_retry: Callable[[PolarApiError], None] | None = None,
    ) -> T:
        """See :meth:`PolarClient.send`."""
        attempts = self.wire.attempts(request, retries, on_retry)
        return await tenacity.AsyncRetrying(**attempts.controls())(self._send_once, attempts, request, decode)

    async def _send_once(self, attempts: Attempts, request: PolarRequest, decode: Callable[[bytes], T]) -> T:
        moment = self.wire.pacer.reserve()
        while (delay := self.wire.pacer.delay(moment)) != 0:
            if delay is None:
                moment = self.wire.pacer.reserve()
            else:
                self.wire.tell_of_pacing(request, delay)
                await asyncio.sleep(delay)
        attempts.sending()
        try:
            async with asyncio.timeout(self.wire.deadline):
                response = await self._http.send(self.wire.build(self._http, request), stream=True)
                try:
                    body = self.wire.body(response, attempts.sent_at)
                    if not response.is_stream_consumed:
                        async for raw in response.aiter_raw():
                            body.add(raw)
                    content = body.content()
                except BodyError as error:
                    raise self.wire.unusable(request, response, error) from None
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            # Not chained: httpx's error may quote headers.
            raise self.wire.unanswered(request, error) from None
        return self.wire.decoded(request, response, content, decode)

    async def list(
        self,
        *,
        start_timestamp: datetime | None = None,
        end_timestamp: datetime | None = None,
        organization_id: OneOrMany | None = None,
        customer_id: OneOrMany | None = None,
        external_customer_id: OneOrMany | None = None,
        meter_id: str | None = None,
        name: OneOrMany | None = None,
        source: OneOrMany | None = None,
        metadata: Mapping[str, Any] | None = None,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002 - the API's own name
        query: str | None = None,
        parent_id: str | None = None,
        depth: int | None = None,
        page: int | None = None,
        limit: int | None = None,
        sorting: EventSorting | Sequence[EventSorting] | None = None,
        retries: Retries | None = None,
    ) -> EventPage:
        """See :meth:`PolarClient.list`."""
        request = requests.list_events(
            _filters(locals()),
            start_timestamp=start_timestamp,
            end_timestamp=end_timestamp,
            page=page,
            limit=limit,
            sorting=sorting,
        )
        return await self.send(request, EventPage.decode, retries=retries)

    async def list_rows(self, request: PolarRequest, *, retries: Retries | None = None) -> RowPage:
        """See :meth:`PolarClient.list_rows`."""
        return await self.send(request, RowPage.decode, retries=retries)

    async def list_names(
        self,
        *,
        organization_id: OneOrMany | None = None,
        customer_id: OneOrMany | None = None,
        external_customer_id: OneOrMany | None = None,
        source: OneOrMany | None = None,
        query: str | None = None,
        page: int | None = None,
        limit: int | None = None,
        sorting: NameSorting | Sequence[NameSorting] | None = None,
        retries: Retries | None = None,
    ) -> EventNamePage:
        """See :meth:`PolarClient.list_names`."""
        request = requests.list_event_names(
            organization_id=organization_id,
            customer_id=customer_id,
            external_customer_id=external_customer_id,
            source=source,
            query=query,
            page=page,
            limit=limit,
            sorting=sorting,
        )
        return await self.send(request, EventNamePage.decode, retries=retries)

    async def get(self, event_id: str | UUID, *, retries: Retries | None = None) -> Event:
        """See :meth:`PolarClient.get`."""
        return await self.send(requests.get_event(event_id), Event.decode, retries=retries)

    async def ingest(self, events: Sequence[Mapping[str, Any]], *, retries: Retries | None = None) -> IngestResult:
        """See :meth:`PolarClient.ingest`."""
        request = requests.ingest_events(events)
        return await self.send(request, IngestResult.decode, retries=retries)

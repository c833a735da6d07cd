"""The synchronous and the asynchronous client: two thin transports for the same requests."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, get_type_hints
from uuid import UUID

import httpx
import tenacity

from airflow_provider_polar.api import requests
from airflow_provider_polar.api.bodies import Body, BodyError
from airflow_provider_polar.api.filters import EventFilters, ListFilters, NameFilters
from airflow_provider_polar.api.models import Event, EventNamePage, EventPage, IngestResult
from airflow_provider_polar.api.pacing import AT_ONCE
from airflow_provider_polar.api.requests import EventSorting, NameSorting, PolarRequest
from airflow_provider_polar.api.retrying import Attempts, Retries
from airflow_provider_polar.api.rows import RowPage
from airflow_provider_polar.api.wire import Wire
from airflow_provider_polar.environments import DEFAULT_API_VERSION, DEFAULT_BASE_URL, DEFAULT_TIMEOUT
from airflow_provider_polar.exceptions import PolarApiError

T = TypeVar("T")
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)
Method = TypeVar("Method", bound=Callable[..., Any])
_FAILURES = (BodyError, httpx.HTTPError, httpx.InvalidURL, TimeoutError)


def _naming(filters: type) -> Callable[[Method], Method]:
    """Lets ``help`` and editors name each of the filters that a method takes."""

    def name(method: Method) -> Method:
        signature = inspect.signature(method)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        named = [
            inspect.Parameter(keyword, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for keyword, annotation in get_type_hints(filters).items()
        ]
        method.__signature__ = signature.replace(parameters=[*own, *named])  # type: ignore[attr-defined]
        return method

    return name


class _Client(Generic[Http]):
    """What both clients have in common."""

    _http_class: type[Http]

    def __init__(
        self,
        token: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        api_version: str = DEFAULT_API_VERSION,
        timeout: float = DEFAULT_TIMEOUT,
        retries: Retries | None = None,
        requests_per_minute: float | None = None,
        max_connections: int = 16,
        connection: str | None = None,
        allow_http: bool = False,
        at_once: float = AT_ONCE,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
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
        self._http: Http = self.wire.open(self._http_class, limits=limits, transport=transport)

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


class PolarClient(_Client[httpx.Client]):
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

    _http_class = httpx.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the pooled connections."""
        self._http.close()

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
        for pause in self.wire.pauses(request):
            time.sleep(pause)
        attempts.sending()
        try:
            response = self._http.send(self.wire.build(self._http, request), stream=True)
            try:
                body = Body(response, attempts.sent_at + self.wire.deadline)
                for raw in [] if response.is_stream_consumed else response.iter_raw():
                    body.add(raw)
                content = body.content()
            finally:
                response.close()
        except _FAILURES as error:
            # Not chained: httpx's error may quote headers.
            raise self.wire.failure(request, error) from None
        return self.wire.decoded(request, response, content, decode)

    @_naming(ListFilters)
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
    ) -> EventPage:
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
        return self.send(request, EventPage.decode, retries=retries)

    def list_rows(self, request: PolarRequest, *, retries: Retries | None = None) -> RowPage:
        """One list request; the rows of its page, whose values stay the bytes they came as. What exports read."""
        return self.send(request, RowPage.decode, retries=retries)

    @_naming(NameFilters)
    def list_names(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        sorting: NameSorting | Sequence[NameSorting] | None = None,
        retries: Retries | None = None,
        **filters: Unpack[NameFilters],
    ) -> EventNamePage:
        """``GET /v1/events/names``: one page of the event names in use."""
        request = requests.list_event_names(filters, page=page, limit=limit, sorting=sorting)
        return self.send(request, EventNamePage.decode, retries=retries)

    def get(self, event_id: str | UUID, *, retries: Retries | None = None) -> Event:
        """``GET /v1/events/{id}``: one event."""
        return self.send(requests.get_event(event_id), Event.decode, retries=retries)

    def ingest(self, events: Sequence[Mapping[str, Any]], *, retries: Retries | None = None) -> IngestResult:
        """``POST /v1/events/ingest``: all or nothing.

        Sent again after a fault only if every event has an ``external_id``, for only then a lost response does no
        harm."""
        return self.send(requests.ingest_events(events), IngestResult.decode, retries=retries)


class AsyncPolarClient(_Client[httpx.AsyncClient]):
    """The same for asyncio: the same calls, parameters, responses and errors as :class:`PolarClient`.

    One client belongs to one event loop; the request budget is shared with all other clients of the process.
    """

    _http_class = httpx.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the pooled connections."""
        await self._http.aclose()

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
        for pause in self.wire.pauses(request):
            await asyncio.sleep(pause)
        attempts.sending()
        try:
            async with asyncio.timeout(self.wire.deadline):
                response = await self._http.send(self.wire.build(self._http, request), stream=True)
                try:
                    body = Body(response, attempts.sent_at + self.wire.deadline)
                    if not response.is_stream_consumed:
                        async for raw in response.aiter_raw():
                            body.add(raw)
                    content = body.content()
                finally:
                    await response.aclose()
        except _FAILURES as error:
            # Not chained: httpx's error may quote headers.
            raise self.wire.failure(request, error) from None
        return self.wire.decoded(request, response, content, decode)

    @_naming(ListFilters)
    async def list(
        self,
        *,
        start_timestamp: datetime | None = None,
        end_timestamp: datetime | None = None,
        page: int | None = None,
        limit: int | None = None,
        sorting: EventSorting | Sequence[EventSorting] | None = None,
        retries: Retries | None = None,
        **filters: Unpack[ListFilters],
    ) -> EventPage:
        """See :meth:`PolarClient.list`."""
        request = requests.list_events(
            EventFilters.parse(filters),
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

    @_naming(NameFilters)
    async def list_names(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        sorting: NameSorting | Sequence[NameSorting] | None = None,
        retries: Retries | None = None,
        **filters: Unpack[NameFilters],
    ) -> EventNamePage:
        """See :meth:`PolarClient.list_names`."""
        request = requests.list_event_names(filters, page=page, limit=limit, sorting=sorting)
        return await self.send(request, EventNamePage.decode, retries=retries)

    async def get(self, event_id: str | UUID, *, retries: Retries | None = None) -> Event:
        """See :meth:`PolarClient.get`."""
        return await self.send(requests.get_event(event_id), Event.decode, retries=retries)

    async def ingest(self, events: Sequence[Mapping[str, Any]], *, retries: Retries | None = None) -> IngestResult:
        """See :meth:`PolarClient.ingest`."""
        request = requests.ingest_events(events)
        return await self.send(request, IngestResult.decode, retries=retries)

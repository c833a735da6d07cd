"""The synchronous and the asynchronous client: two thin transports for the same requests."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import (
    Any,
    Concatenate,
    Generic,
    NamedTuple,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    cast,
    get_args,
    get_type_hints,
    overload,
)
from uuid import UUID

import httpx

from airflow_provider_polar.api import requests
from airflow_provider_polar.api.bodies import Body, BodyError
from airflow_provider_polar.api.filters import EventFilters, ListFilters, NameFilters
from airflow_provider_polar.api.models import Event, EventNamePage, EventPage, IngestResult
from airflow_provider_polar.api.requests import EventSorting, NameSorting, PolarRequest
from airflow_provider_polar.api.retrying import Attempts, Retries
from airflow_provider_polar.api.rows import RowPage
from airflow_provider_polar.api.wire import Http, Wire
from airflow_provider_polar.exceptions import PolarApiError

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_FAILURES = (BodyError, httpx.HTTPError, httpx.InvalidURL, TimeoutError)


class Call(NamedTuple, Generic[T]):
    """What a call sends, how its response is decoded, and the retries that are meant for it alone."""

    request: PolarRequest
    decode: Callable[[bytes], T]
    retries: Retries | None


class _Method(Protocol[P, T_co]):
    """A method of both clients: of the one it returns the response, of the other one it is awaited for it."""

    @overload
    def __get__(self, client: None, kind: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, client: PolarClient, kind: type) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, client: AsyncPolarClient, kind: type) -> Callable[P, Coroutine[Any, Any, T_co]]: ...


def _method(describe: Callable[Concatenate[Any, P], Call[T]]) -> _Method[P, T]:
    """The method that sends what is described; ``help`` and editors name each of the filters that it takes."""

    @functools.wraps(describe)
    def method(client: PolarClient | AsyncPolarClient, *args: P.args, **kwargs: P.kwargs) -> Any:
        request, decode, retries = describe(client, *args, **kwargs)
        return client.send(request, decode, retries=retries)

    hints, parameters = get_type_hints(describe), []
    for parameter in inspect.signature(describe).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(parameter)
            continue
        [filters] = get_args(hints[parameter.name])
        for name, annotation in get_type_hints(filters).items():
            parameters.append(
                parameter.replace(name=name, kind=parameter.KEYWORD_ONLY, annotation=annotation, default=None)
            )
    [returned] = get_args(hints["return"])
    method.__signature__ = inspect.Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]
    return cast("_Method[P, T]", method)


class _Calls(Wire[Http]):
    """The calls of both clients."""

    @_method
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

    @_method
    def list_rows(self, request: PolarRequest, *, retries: Retries | None = None) -> Call[RowPage]:
        """One list request; the rows of its page, whose values stay the bytes they came as. What exports read."""
        return Call(request, RowPage.decode, retries)

    @_method
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

    @_method
    def get(self, event_id: str | UUID, *, retries: Retries | None = None) -> Call[Event]:
        """``GET /v1/events/{id}``: one event."""
        return Call(requests.get_event(event_id), Event.decode, retries)

    @_method
    def ingest(self, events: Sequence[Mapping[str, Any]], *, retries: Retries | None = None) -> Call[IngestResult]:
        """``POST /v1/events/ingest``: all or nothing.

        Sent again after a fault only if every event has an ``external_id``, for only then a lost response does no
        harm."""
        return Call(requests.ingest_events(events), IngestResult.decode, retries)


class PolarClient(_Calls[httpx.Client]):
    """Polar's Events API, one request a call. Thread-safe; connections are pooled; close it after use.

    Every call takes ``retries`` to override the client's. Errors are those of
    :mod:`airflow_provider_polar.exceptions`; transient ones are raised after the retries are used up.

    Its first parameters are those of :class:`~airflow_provider_polar.api.server.Server`.

    :param retries: how persistent to be.
    :param max_connections: connections kept at most, and so requests in flight.
    :param transport: an httpx transport, for tests.
    :raises PolarConfigurationError: a parameter cannot be meant, or a proxy or a file of certificates that the
        environment names is unusable.
    :ivar deadline: seconds that a response may take as a whole, the wait for the budget not counted.
    :ivar requests_sent: requests sent so far, repeated ones included.
    :ivar retries_made: how often a request was sent again so far.
    :ivar seconds_waited: seconds of the pauses before requests were sent again, of all threads together; without
        pacing.
    """

    _http_class = httpx.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        attempts = self._attempts(request, retries, on_retry)
        while True:
            try:
                return self._send_once(attempts, decode)
            except PolarApiError as error:
                pause = attempts.pause_after(error)
            time.sleep(pause)

    def _send_once(self, attempts: Attempts, decode: Callable[[bytes], T]) -> T:
        for pause in self._pauses(attempts.request):
            time.sleep(pause)
        attempts.sending()
        deadline = time.monotonic() + self.deadline
        try:
            response = self._http.send(self._build(attempts.request), stream=True)
            try:
                body = Body(response, deadline)
                for raw in cast("httpx.SyncByteStream", response.stream):
                    body.add(raw)
                content = body.content()
            finally:
                response.close()
        except _FAILURES as error:
            # Not chained: httpx's error may quote headers.
            raise self._failure(attempts.request, error) from None
        return self._decoded(attempts.request, response, content, decode)


class AsyncPolarClient(_Calls[httpx.AsyncClient]):
    """The same for asyncio: the same calls, parameters, responses and errors as :class:`PolarClient`.

    One client belongs to one event loop; the request budget is shared with all other clients of the process.
    """

    _http_class = httpx.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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
        attempts = self._attempts(request, retries, on_retry)
        while True:
            try:
                return await self._send_once(attempts, decode)
            except PolarApiError as error:
                pause = attempts.pause_after(error)
            await asyncio.sleep(pause)

    async def _send_once(self, attempts: Attempts, decode: Callable[[bytes], T]) -> T:
        for pause in self._pauses(attempts.request):
            await asyncio.sleep(pause)
        attempts.sending()
        deadline = time.monotonic() + self.deadline
        try:
            async with asyncio.timeout(self.deadline):
                response = await self._http.send(self._build(attempts.request), stream=True)
                try:
                    body = Body(response, deadline)
                    async for raw in cast("httpx.AsyncByteStream", response.stream):
                        body.add(raw)
                    content = body.content()
                finally:
                    await response.aclose()
        except _FAILURES as error:
            # Not chained: httpx's error may quote headers.
            raise self._failure(attempts.request, error) from None
        return self._decoded(attempts.request, response, content, decode)

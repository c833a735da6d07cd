"""The synchronous and the asynchronous client: two thin transports for the same requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, closing
from typing import Self, TypeVar, cast

import httpx

from airflow_provider_polar.api.bodies import Body, BodyError
from airflow_provider_polar.api.errors import failure_of
from airflow_provider_polar.api.event_calls import EventCalls
from airflow_provider_polar.api.meter_calls import MeterCalls
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.retrying import Attempts, Retries
from airflow_provider_polar.exceptions import PolarApiError

T = TypeVar("T")
_FAILURES = (BodyError, httpx.HTTPError, httpx.InvalidURL, TimeoutError)


class PolarClient(EventCalls[httpx.Client], MeterCalls[httpx.Client]):
    """Polar's API of events and meters, one request a call. Thread-safe; connections are pooled; close it after use.

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
            with closing(self._http.send(self._build(attempts.request), stream=True)) as response:
                body = Body(response, deadline)
                for raw in cast("httpx.SyncByteStream", response.stream):
                    body.add(raw)
                content = body.content()
        except _FAILURES as error:
            # Not chained: httpx's error may quote headers.
            raise failure_of(attempts.request, error, self.server, self.deadline) from None
        return self._decoded(attempts.request, response, content, decode)


class AsyncPolarClient(EventCalls[httpx.AsyncClient], MeterCalls[httpx.AsyncClient]):
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
            async with (
                asyncio.timeout(self.deadline),
                aclosing(await self._http.send(self._build(attempts.request), stream=True)) as response,
            ):
                body = Body(response, deadline)
                async for raw in cast("httpx.AsyncByteStream", response.stream):
                    body.add(raw)
                content = body.content()
        except _FAILURES as error:
            # Not chained: httpx's error may quote headers.
            raise failure_of(attempts.request, error, self.server, self.deadline) from None
        return self._decoded(attempts.request, response, content, decode)

"""What the triggers of a connection share in a triggerer process: the connection as it is now, and one client.

Making a client costs the event loop a TLS context.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_polar.exceptions import (
    PolarAuthenticationError,
    PolarConnectionNotFoundError,
    PolarScopeError,
)
from airflow_provider_polar.hooks.polar import PolarHook

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import AsyncPolarClient
    from airflow_provider_polar.api.retrying import Retries
    from airflow_provider_polar.engine.drive import Steps
    from airflow_provider_polar.hooks.settings import ConnectionSettings

T = TypeVar("T")
log = logging.getLogger(__name__)

LONGEST_RESPONSE = 60.0
"""Seconds that a response may take as a whole, the wait for the request budget not counted: a wait must end in time."""
NEAR = 0.8
"""Share of the request budget from which on it is said that the limit is near."""


@dataclass(slots=True)
class _Shared:
    making: asyncio.Task[AsyncPolarClient]
    users: int = 0


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ConnectionSettings, _Shared]] = WeakKeyDictionary()


_NEEDED = ("api.client", "engine.waiting.cadence", "engine.waiting.together", "triggers._watch_polls")


async def load() -> None:
    """Imports what the triggers need, the first time in a thread: in the event loop it would hold up all triggers."""
    needed = [f"airflow_provider_polar.{module}" for module in _NEEDED]
    if any(module not in sys.modules for module in needed):
        await asyncio.to_thread(lambda: [importlib.import_module(module) for module in needed])


class AsyncLiveConnection:
    """A connection as it is now. It is read again before each poll, so that a token may be rotated under a trigger.

    :param polar_conn_id: the connection.
    """

    def __init__(self, polar_conn_id: str) -> None:
        self.polar_conn_id = polar_conn_id
        self._hook: PolarHook | None = None
        self._missing: PolarConnectionNotFoundError | None = None
        self._reading: asyncio.Task[PolarHook] | None = None
        self._held = AsyncExitStack()
        self._near = False

    async def poll(self, steps: Callable[[PolarHook], Steps[T]], retries: Retries | None = None) -> T:
        """The result of one poll's steps. Nothing is repeated unless said: a poll is repeated by the next one.

        :param steps: makes them for the connection as it is now; the settings of the hook are read.
        :param retries: how often each request of a poll of many is repeated.
        :raises PolarConnectionNotFoundError: Airflow has never given the connection yet, or does not say whether one
            that Polar refused has been changed; it may do so later.
        :raises PolarConfigurationError: the connection is of another type, has no token, or has an invalid value.
        :raises PolarAuthenticationError, PolarScopeError: also for the connection as it is when the response has come.
        """
        from airflow_provider_polar.engine.drive import adrive

        hook = await self._read_once()
        while True:
            try:
                async with client_of(hook.settings) as client:
                    result = await adrive(client, steps(hook), retries=retries)
                    self._warn_of_the_limit(client)
                    return result
            except (PolarAuthenticationError, PolarScopeError):
                refused, hook = hook, await self._read_anew()
                if self._missing is not None:
                    raise self._missing from None
                if hook.settings == refused.settings:
                    raise

    def _warn_of_the_limit(self, client: AsyncPolarClient) -> None:
        """Says, once for each time that it comes near, that the connection's budget is nearly used up."""
        load, before = client.pacer.load, self._near
        self._near = load > NEAR
        if self._near and not before:
            log.warning(
                "What this triggerer waits and watches for takes %.0f %% of the %g requests a minute that connection "
                "%s allows. Beyond, looks are late, and none is left out. Longer intervals between looks help, "
                "the same filters in more of them (they then share requests), or more requests_per_minute (%s)",
                *(load * 100, client.pacer.requests_per_minute, self.polar_conn_id, client.server),
            )

    async def aclose(self) -> None:
        """Gives the client up; the next poll has one again."""
        if self._reading is not None:
            self._reading.cancel()
        await self._let_go()

    async def _let_go(self) -> None:
        held, self._held, self._hook = self._held, AsyncExitStack(), None
        await held.aclose()

    async def _read_once(self) -> PolarHook:
        """The connection as it is now; whoever wants to know it at the same time shares one look-up."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read_anew(self) -> PolarHook:
        """The connection as it is from now on: a look-up that is under way may have read it before."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
        return await self._read_once()

    async def _read(self) -> PolarHook:
        known, hook = self._hook, PolarHook(self.polar_conn_id)
        try:
            settings, self._missing = await hook.aget_settings(), None
        except PolarConnectionNotFoundError as error:
            self._missing = error
            if known is None:
                raise
            log.warning("The connection stays in use as it was read before, after: %s", error)
            return known
        if known is None or known.settings != settings:
            await self._let_go()
            # Between two polls the client is kept.
            await self._held.enter_async_context(client_of(settings))
            self._hook = hook
        return hook


@asynccontextmanager
async def client_of(settings: ConnectionSettings) -> AsyncIterator[AsyncPolarClient]:
    """The one client of this event loop with these settings; its last user closes it."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    shared = clients.get(settings)
    if shared is None:
        shared = clients[settings] = _Shared(asyncio.create_task(asyncio.to_thread(_client, settings)))
    shared.users += 1
    try:
        yield await asyncio.shield(shared.making)
    finally:
        shared.users -= 1
        if not shared.users:
            clients.pop(settings, None)
            await asyncio.wait([shared.making])
            if not shared.making.cancelled() and shared.making.exception() is None:
                await shared.making.result().aclose()


def _client(settings: ConnectionSettings) -> AsyncPolarClient:
    from airflow_provider_polar.api.client import AsyncPolarClient
    from airflow_provider_polar.api.retrying import NO_RETRIES

    client = AsyncPolarClient(**settings.client_options(), retries=NO_RETRIES)
    client.deadline = min(client.deadline, LONGEST_RESPONSE)
    return client

"""One client for all triggers of a connection in a triggerer process: making one costs the event loop a TLS context."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_polar.hooks.polar import PolarHook

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import AsyncPolarClient
    from airflow_provider_polar.hooks.settings import ConnectionSettings


@dataclass(slots=True)
class _Shared:
    making: asyncio.Task[AsyncPolarClient]
    users: int = 0


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ConnectionSettings, _Shared]] = WeakKeyDictionary()


_NEEDED = ("api.client", "engine.waiting.cadence", "engine.waiting.wait", "engine.waiting.watcher")


async def load() -> None:
    """Imports what the triggers need, the first time in a thread: in the event loop it would hold up all triggers."""
    needed = [f"airflow_provider_polar.{module}" for module in _NEEDED]
    if any(module not in sys.modules for module in needed):
        await asyncio.to_thread(lambda: [importlib.import_module(module) for module in needed])


@asynccontextmanager
async def shared_client(polar_conn_id: str) -> AsyncIterator[tuple[PolarHook, AsyncPolarClient]]:
    """The hook of this connection, whose settings are read, and its client.

    Whoever uses the connection in this event loop shares the client, and the last user closes it. It repeats nothing:
    a poll is repeated by the next one.

    :raises PolarConfigurationError: the connection is of another type, has no token, or has an invalid value.
    """
    hook = PolarHook(polar_conn_id)
    settings = await hook.aget_settings()
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    shared = clients.get(settings)
    if shared is None:
        shared = clients[settings] = _Shared(asyncio.create_task(asyncio.to_thread(_client, settings)))
    shared.users += 1
    try:
        yield hook, await asyncio.shield(shared.making)
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

    return AsyncPolarClient(**settings.client_options(), retries=NO_RETRIES)

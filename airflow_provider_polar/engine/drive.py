"""The one protocol between decisions and I/O, and the only two loops that drive it.

What to request next is decided by generators without I/O (:data:`Steps`): a generator yields a request and gets its
response sent back; the value that it returns is the result. So threads and asyncio share every decision, and a test
drives one with a plain function. The model is httpx's ``Auth.auth_flow``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.rows import RowPage

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient
    from airflow_provider_polar.api.retrying import Retries

T = TypeVar("T")
Steps = Generator[PolarRequest, RowPage, T]
"""Decisions that yield a request, get its response sent back, and return their result."""


def drive(client: PolarClient, steps: Steps[T], *, retries: Retries | None = None) -> T:
    """The result of the steps, whose requests the client sends. Its failures are raised as they are.

    :param retries: how often a request is repeated; by default as the client is set.
    """
    try:
        request = next(steps)
        while True:
            request = steps.send(client.list_rows(request, retries=retries))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def adrive(client: AsyncPolarClient, steps: Steps[T], *, retries: Retries | None = None) -> T:
    """The same as :func:`drive` over asyncio."""
    try:
        request = next(steps)
        while True:
            request = steps.send(await client.list_rows(request, retries=retries))
    except StopIteration as stop:
        result: T = stop.value
        return result

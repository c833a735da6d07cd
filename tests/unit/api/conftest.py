"""Both clients, called alike."""

import asyncio

import pytest

from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient
from airflow_provider_polar.api.retrying import Retries

QUICK = Retries(attempts=4, initial=0.01, maximum=0.02)


class Both:
    """Calls the synchronous client, and the asynchronous one through a loop of its own."""

    def __init__(self, kind, server, **options):
        self.kind, self.server = kind, server
        self.options = {"base_url": server.base_url, "retries": QUICK, "timeout": 5.0, **options}

    def __call__(self, method, *args, token=None, **kwargs):
        token = token or self.server.token
        if self.kind == "sync":
            with PolarClient(token, **self.options) as client:
                return getattr(client, method)(*args, **kwargs)

        async def call():
            async with AsyncPolarClient(token, **self.options) as client:
                return await getattr(client, method)(*args, **kwargs)

        return asyncio.run(call())


@pytest.fixture(params=["sync", "async"])
def polar(request, polar_server):
    return Both(request.param, polar_server)

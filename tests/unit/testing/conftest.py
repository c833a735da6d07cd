from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from airflow_provider_polar.testing import LocalPolar


@pytest.fixture
def client(polar_server: LocalPolar) -> Iterator[httpx.Client]:
    """Plain HTTP to the local Polar, with its token: no client of ours in between."""
    headers = {"Authorization": f"Bearer {polar_server.token}"}
    with httpx.Client(base_url=polar_server.base_url, headers=headers, timeout=10) as client:
        yield client


@pytest.fixture
def count(polar_server: LocalPolar) -> str:
    """A meter that counts every event."""
    return polar_server.add_meter()

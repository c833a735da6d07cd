"""Pytest fixtures: a fresh local Polar for a test, and an Airflow connection to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_polar.testing.local import LocalPolar


@pytest.fixture
def polar_server() -> Iterator[LocalPolar]:
    """A running LocalPolar with nothing in it, for this test alone."""
    from airflow_provider_polar.testing.local import LocalPolar

    with LocalPolar() as polar:
        yield polar


@pytest.fixture
def polar_connection(polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of an Airflow connection, `polar_default`, to `polar_server`."""
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", polar_server.connection_uri())
    return "polar_default"

"""Airflow before 3.2 builds its in-process API anew, for seconds, before each task that a test runs: here once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import version

import pytest


@pytest.fixture(scope="package", autouse=True)
def _one_api() -> Iterator[None]:
    if tuple(map(int, version("apache-airflow-core").split(".")[:2])) >= (3, 2):
        yield
        return
    from airflow.sdk.execution_time import supervisor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "in_process_api_server", cache(supervisor.in_process_api_server))
        yield

"""The law of the ingest: whatever rows, batches, faults and attempts, each event of a run is stored exactly once."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.engine.ingesting.identity import run_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.sources import rows_in_memory
from airflow_provider_polar.exceptions import PolarIngestIncompleteError
from airflow_provider_polar.testing import LocalPolar


@pytest.fixture(scope="module")
def polar() -> Iterator[LocalPolar]:
    with LocalPolar() as server:
        yield server


class Memory:
    """Progress that outlives attempts, or, forgetful, does not."""

    def __init__(self, forgetful: bool) -> None:
        self._forgetful = forgetful
        self._state: Any = None

    def get(self, _key: str) -> Any:
        return None if self._forgetful else self._state

    def set(self, _key: str, state: dict[str, Any]) -> None:
        self._state = state

    def delete(self, _key: str) -> None:
        self._state = None


faults = st.tuples(st.sampled_from(["lost_response", "reset", "status", "truncated", "broken"]), st.integers(2, 4))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(st.integers(0, 3) | st.booleans() | st.sampled_from(["0", "1"]), min_size=1, max_size=25),
    batch_size=st.integers(1, 6),
    max_concurrency=st.integers(1, 3),
    fault=faults,
    retries=st.integers(1, 3),
    forgetful=st.booleans(),
    seed=st.integers(0, 9),
)
def test_each_event_of_a_run_is_stored_exactly_once(
    polar: LocalPolar,
    values: list[Any],
    batch_size: int,
    max_concurrency: int,
    fault: tuple[Any, int],
    retries: int,
    forgetful: bool,
    seed: int,
) -> None:
    customer = uuid.uuid4().hex
    rows = [{"name": "a", "external_customer_id": customer, "metadata": {"v": value}} for value in values]
    memory, chance = Memory(forgetful), random.Random(seed)
    options = IngestOptions(
        run_scope("dag", "task", customer, -1), batch_size=batch_size, max_concurrency=max_concurrency
    )
    kind, every = fault
    polar.fail(kind, path="ingest", every=every)
    with PolarClient(polar.token, base_url=polar.base_url, retries=Retries(retries, 0, 0)) as client:
        for _attempt in range(4):
            try:
                summary = Ingest(lambda: client, options, progress=memory).run(rows_in_memory(rows))
                break
            except PolarIngestIncompleteError:
                if chance.random() < 0.5:
                    chance.shuffle(rows)
        else:
            polar.clear_faults()
            summary = Ingest(lambda: client, options, progress=memory).run(rows_in_memory(rows))
    polar.clear_faults()
    assert summary.inserted + summary.duplicates == len(rows)
    stored = (event["metadata"]["v"] for event in polar.events() if event["external_customer_id"] == customer)
    assert Counter(map(repr, stored)) == Counter(map(repr, values))

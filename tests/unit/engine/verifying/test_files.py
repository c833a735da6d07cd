"""Exports against the list, by id; and which exports hold a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.verifying.exported import ExportedEvents
from airflow_provider_polar.engine.verifying.files import EventSums
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarSourceError
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 11, 2, tzinfo=UTC)
HOURS = [START + timedelta(hours=i) for i in range(168)]


@given(st.lists(st.tuples(st.sampled_from(HOURS[:3]), st.sampled_from("abcdef")), max_size=12), st.randoms())
def test_sums_of_ids_are_equal_for_equal_sets_in_any_order(events: list[tuple[datetime, str]], chance: Random) -> None:
    once = list(dict.fromkeys(events))
    ours, same, less = EventSums(), EventSums(), EventSums()
    for hour, name in once:
        ours.add(hour, {"id": name})
    for hour, name in chance.sample(once, len(once)):
        same.add(hour, {"id": name})
    for hour, name in once[1:]:
        less.add(hour, {"id": name})
    assert ours.differing(same) == set()
    assert ours.differing(less) == less.differing(ours) == {hour for hour, _ in once[:1]}


@pytest.fixture
def lake(polar_server: LocalPolar, polar_connection: str, tmp_path: Path) -> ObjectStoragePath:
    """Two adjacent half days, and the last six hours again in another layout; an event every ten minutes."""
    polar_server.add_events(
        {"name": "call", "timestamp": START + timedelta(minutes=10 * i), "external_customer_id": "c"}
        for i in range(144)
    )
    for first, last, layout in ((0, 12, {}), (12, 24, {"max_file_rows": 10}), (18, 24, {"file_format": "csv"})):
        window: dict[str, Any] = {"start": HOURS[first], "end": HOURS[last]}
        PolarExportEventsOperator(task_id="e", destination=str(tmp_path), **window, **layout).execute({})
    return ObjectStoragePath(str(tmp_path))


def test_each_moment_is_read_of_one_export(lake: ObjectStoragePath) -> None:
    whole = EventWindow(HOURS[1], HOURS[23])
    exported = ExportedEvents.find(lake, EventFilters(), whole)
    times = [event["timestamp"] for event in exported.read(whole)]
    assert len(times) == len(set(times)) == 22 * 6
    assert times == sorted(times)
    assert len(list(exported.read(EventWindow(HOURS[11], HOURS[13])))) == 12
    assert exported.tells_customers
    assert exported.incomplete == {}


def test_a_file_that_is_not_its_manifest_s_is_told(lake: ObjectStoragePath, tmp_path: Path) -> None:
    window = EventWindow(HOURS[0], HOURS[12])
    [file] = tmp_path.glob("events_20261102T000000Z*.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(PolarSourceError, match="its SHA-256 is not the manifest's"):
        list(ExportedEvents.find(lake, EventFilters(), window).read(window))
    file.unlink()
    with pytest.raises(PolarSourceError, match="it is gone"):
        list(ExportedEvents.find(lake, EventFilters(), window).read(window))

"""The export operator over the local Polar."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath

from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarDestinationError,
    PolarFilterError,
    PolarIncompleteError,
)
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = {"manifest", "rows", "files", "start", "end", "requests", "complete"}


def usage(moments: list[datetime], **values: Any) -> list[dict[str, Any]]:
    return [
        {"name": "call", "timestamp": moment, "external_customer_id": f"c{i % 5}", "metadata": {"n": i}} | values
        for i, moment in enumerate(moments)
    ]


def hour_of_events() -> list[dict[str, Any]]:
    """On both edges of the hour, to the microsecond, and many on one second."""
    edges = [START + d for d in (-timedelta(microseconds=1), timedelta(0), HOUR - timedelta(microseconds=1), HOUR)]
    return usage(
        [*edges, *([START + timedelta(seconds=100)] * 80), *(START + timedelta(seconds=7 * i) for i in range(400))]
    )


def run(tmp_path: Path, **options: Any) -> dict[str, Any]:
    arguments = {
        "destination": f"file://{tmp_path}/out",
        "start": START,
        "end": START + HOUR,
        "requests_per_minute": 60_000,
    }
    arguments |= options
    return PolarExportEventsOperator(task_id="export", **arguments).execute({})


def exported(result: dict[str, Any]) -> list[dict[str, Any]]:
    path = ObjectStoragePath(result["manifest"])
    lines = []
    for file in json.loads(path.read_text())["files"]:
        lines += [json.loads(line) for line in (path.parent / file["path"]).read_text().splitlines()]
    return lines


def due(polar: LocalPolar, start: datetime = START, end: datetime = START + HOUR) -> list[dict[str, Any]]:
    found = [
        {k: v for k, v in event.items() if k != "external_id"}
        for event in polar.events()
        if start <= datetime.fromisoformat(event["timestamp"]) < end
    ]
    return sorted(found, key=lambda e: (datetime.fromisoformat(e["timestamp"]), e["id"]))


@pytest.fixture
def polar(polar_server: LocalPolar, polar_connection: Any) -> LocalPolar:
    return polar_server


def test_exports_the_window_exactly(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(hour_of_events())
    polar.clear_requests()
    result = run(tmp_path)
    assert exported(result) == due(polar)
    assert len(due(polar)) == 482
    assert set(result) == KEYS
    assert json.loads(json.dumps(result)) == result
    assert result | {"manifest": "", "requests": 0} == {
        "manifest": "",
        "rows": 482,
        "files": 1,
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T01:00:00Z",
        "requests": 0,
        "complete": True,
    }
    assert result["requests"] == len(polar.requests)


def test_adjacent_hours_meet(polar: LocalPolar, tmp_path: Path) -> None:
    polar.add_events(hour_of_events())
    parts = [run(tmp_path, start=START + HOUR * i, end=START + HOUR * (i + 1)) for i in (-1, 0, 1)]
    together = [event["id"] for part in parts for event in exported(part)]
    assert together == [event["id"] for event in due(polar, START - HOUR, START + HOUR * 2)]
    assert len(together) == polar.count()

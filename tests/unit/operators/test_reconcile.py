"""The reconcile operator over the local Polar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarFilterError, PolarIncompleteError
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hour(number: int) -> dict[str, Any]:
    return {"start": START + HOUR * number, "end": START + HOUR * (number + 1)}


def text(*numbers: int) -> list[dict[str, str]]:
    return [{"start": f"2026-01-01T0{n}:00:00Z", "end": f"2026-01-01T0{n + 1}:00:00Z"} for n in numbers]


def late(number: int) -> list[dict[str, Any]]:
    return [{"name": "late", "timestamp": START + HOUR * number, "external_customer_id": "c"}]


@pytest.fixture
def exported(polar_server: LocalPolar, polar_connection: Any, tmp_path: Path) -> LocalPolar:
    """Hours 0, 1, 2 and 4, of an event every ten minutes."""
    polar_server.add_events(
        {"name": "call", "timestamp": START + timedelta(minutes=10 * i), "external_customer_id": "c"} for i in range(36)
    )
    for number in (0, 1, 2, 4):
        PolarExportEventsOperator(
            task_id="export", destination=str(tmp_path), requests_per_minute=60_000, **hour(number)
        ).execute({})
    polar_server.clear_requests()
    return polar_server


def run(tmp_path: Path, first: int, last: int, **options: Any) -> dict[str, Any]:
    span = {"start": START + HOUR * first, "end": START + HOUR * (last + 1)}
    return PolarReconcileEventsOperator(
        task_id="reconcile", destination=str(tmp_path), requests_per_minute=60_000, **span, **options
    ).execute({})


def test_one_request_a_window(exported: LocalPolar, tmp_path: Path) -> None:
    assert run(tmp_path, 0, 2) == {"windows": 3, "equal": 3, "changed": [], "incomplete": [], "missing": []}
    assert len(exported.requests) == 3


def test_late_events_and_windows_without_a_manifest(exported: LocalPolar, tmp_path: Path) -> None:
    exported.add_events(late(1))
    with pytest.raises(PolarIncompleteError, match=r"1 window changed.*T01:00:00Z, .*no manifest covers .*T03:00:00Z"):
        run(tmp_path, 0, 4)
    result = run(tmp_path, 0, 4, on_difference="warn")
    assert result == {"windows": 4, "equal": 3, "changed": text(1), "incomplete": [], "missing": text(3)}


def test_a_range_that_cuts_a_window_compares_it_whole(exported: LocalPolar, tmp_path: Path) -> None:
    exported.add_events(late(0))
    half = {"start": START + HOUR / 2, "end": START + HOUR * 1.5, "on_difference": "warn"}
    result = PolarReconcileEventsOperator(
        task_id="reconcile", destination=str(tmp_path), requests_per_minute=60_000, **half
    ).execute({})
    assert result == {"windows": 2, "equal": 1, "changed": text(0), "incomplete": [], "missing": []}


def test_an_incomplete_export_is_reported_although_the_count_is_equal(exported: LocalPolar, tmp_path: Path) -> None:
    exported.add_events(late(3), store=False)
    PolarExportEventsOperator(
        task_id="export", destination=str(tmp_path), requests_per_minute=60_000, on_incomplete="warn", **hour(3)
    ).execute({})
    with pytest.raises(PolarIncompleteError, match=r"1 window not complete: \[2026-01-01T03:00:00Z"):
        run(tmp_path, 0, 4)
    result = run(tmp_path, 0, 4, on_difference="warn")
    assert result == {"windows": 5, "equal": 4, "changed": [], "incomplete": text(3), "missing": []}


def test_exports_in_every_layout_are_compared_at_one_request_a_window(exported: LocalPolar, tmp_path: Path) -> None:
    for number in (0, 3):
        PolarExportEventsOperator(
            task_id="export", destination=str(tmp_path), requests_per_minute=60_000, file_format="csv", **hour(number)
        ).execute({})
    exported.clear_requests()
    assert run(tmp_path, 0, 3)["equal"] == 4
    assert len(exported.requests) == 4


def test_impossible_parameters_are_refused_at_parse_time() -> None:
    with pytest.raises(PolarConfigurationError, match="on_difference"):
        PolarReconcileEventsOperator(task_id="r", destination="/x", on_difference="ignore")  # type: ignore[arg-type]
    with pytest.raises(PolarFilterError, match="nam"):
        PolarReconcileEventsOperator(task_id="r", destination="/x", filters={"nam": "x"})
    PolarReconcileEventsOperator(task_id="r", destination="/x", filters={"name": "{{ params.name }}"})

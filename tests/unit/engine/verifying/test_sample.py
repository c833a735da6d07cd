"""Which customers are compared one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_polar.engine.metering.quantities import Customer
from airflow_provider_polar.engine.verifying.sample import Sample
from airflow_provider_polar.engine.window import EventWindow

START = datetime(2026, 3, 20, tzinfo=UTC)
EVERYBODY = [Customer(None, f"c{i}") for i in range(300)]


def paris_days() -> list[datetime]:
    return [datetime(2026, 3, 20 + i, tzinfo=ZoneInfo("Europe/Paris")) for i in range(11)]


@pytest.mark.parametrize(
    "edges",
    [
        [START + timedelta(hours=i) for i in range(11)],
        [START + timedelta(hours=6 * i) for i in range(11)],
        [START + timedelta(days=i) for i in range(11)],
        paris_days(),  # a day of 23 hours is among them
        [START + timedelta(weeks=i) for i in range(11)],
        [datetime(2026, 1 + i, 1, tzinfo=UTC) for i in range(11)],
        [datetime(2020 + i, 1, 1, tzinfo=UTC) for i in range(11)],
    ],
    ids=["hours", "six hours", "days", "days of Paris", "weeks", "months", "years"],
)
def test_in_adjacent_windows_everybody_has_a_turn_once(edges: list[datetime]) -> None:
    windows = [EventWindow(start, end) for start, end in pairwise(edges)]
    samples = [Sample.of(0.1, window) for window in windows]
    for customer in EVERYBODY:
        assert sum(customer in sample for sample in samples) == 1
    assert all(10 < sum(customer in sample for customer in EVERYBODY) < 60 for sample in samples)


def test_nobody_and_everybody() -> None:
    window = EventWindow(START, START + timedelta(days=1))
    assert not any(customer in Sample.of(0, window) for customer in EVERYBODY)
    assert all(customer in Sample.of(1, window) for customer in EVERYBODY)

"""How long a loop of polls pauses."""

from __future__ import annotations

import random

import pytest

from airflow_provider_polar.engine.waiting.cadence import Cadence
from airflow_provider_polar.exceptions import PolarRateLimitError


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)


def fault(retry_after: float | None = None) -> Exception:
    if retry_after is None:
        return OSError("away")
    return PolarRateLimitError("slower", retry_after=retry_after)


def test_an_interval_stays_or_doubles_up_to_its_limit() -> None:
    steady, growing, limited = Cadence(30), Cadence(30, growing=True), Cadence(30, growing=True, longest=100)
    assert [steady.after_poll() for _ in range(3)] == [30, 30, 30]
    assert [growing.after_poll() for _ in range(3)] == [30, 60, 120]
    assert [limited.after_poll() for _ in range(4)] == [30, 60, 100, 100]
    assert all(growing.after_poll() for _ in range(2_000)), "it grows to no overflow"


def test_faults_wait_longer_each_time_and_start_again_after_a_response() -> None:
    cadence = Cadence(1)
    assert [cadence.after_fault(fault()) for _ in range(9)] == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert cadence.after_poll() == 1
    assert cadence.after_fault(fault()) == 5
    assert all(cadence.after_fault(fault()) == 600 for _ in range(2_000) if cadence.faults > 8)


def test_after_a_fault_never_less_than_the_interval_nor_than_polar_says() -> None:
    assert Cadence(60).after_fault(fault()) == 60
    assert [Cadence(3_600).after_fault(fault()) for _ in range(3)] == [3_600] * 3
    assert Cadence(1).after_fault(fault(retry_after=30)) == 30
    assert Cadence(60).after_fault(fault(retry_after=30)) == 60


def test_pauses_are_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound, pause in ((min, 95), (max, 105)):
        monkeypatch.setattr(random, "uniform", lambda *bounds, bound=bound: bound(bounds))
        assert Cadence(100).after_poll() == pytest.approx(pause)
        assert Cadence(100).after_fault(fault()) == pytest.approx(pause)

"""Hundreds of triggers on one connection in one event loop."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_polar.triggers.event import PolarEventTrigger
from benchmarks.waiting_load import local_polar, measure


async def test_two_hundred_waits_and_fifty_watchers(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", "")
    with local_polar() as base_url:
        load = await measure(base_url, waits=200, watchers=50, seconds=12, interval=10, budget=3_000)
    with capsys.disabled():
        print(f"\n{load}")
    assert (load.ended, load.delivered) == (200, 50)
    shared = hasattr(BaseEventTrigger, "shared_stream_key")
    # All waits, and all watchers, share a request each ten seconds, give or take a round.
    assert load.requests_per_minute <= (1 + (1 if shared else 50)) * 6 * 2
    # Seconds are the benchmark's to claim; work for each trigger in the loop itself would take many more.
    assert load.busy < 2
    assert PolarEventTrigger.shortest_poll_interval >= 5

"""Watchers in a real triggerer that is killed again and again: every event is delivered."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from airflow.triggers.base import BaseEventTrigger

from tests.integration.triggerers import add, delivered, lists, triggerer, until, watch


@pytest.fixture
def watched_dag(airflow_db: Path) -> str:
    """A DAG that two watchers of one asset, and one of another, run."""
    watch(
        "on_orders",
        orders=[{"event_name": "order.paid"}, {"event_name": "order.refunded"}],
        usage=[{"event_name": "api.call"}],
    )
    return "orders"


@pytest.mark.skipif(not hasattr(BaseEventTrigger, "shared_stream_key"), reason="cursors are stored from Airflow 3.3 on")
def test_every_event_is_delivered_through_kills(polar_server, watched_dag, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    log = tmp_path / "triggerer.log"
    due: list[str] = []

    def burst(many: int, name: str = "order.paid", age: float = 0) -> None:
        due.extend(add(polar_server, many, name, age))

    burst(5)
    passed_over = set(due)
    try:
        with triggerer(polar_server, log):
            until(lambda: lists(polar_server) >= 6, 60, "the watchers did not start")
            burst(40)
            burst(7, "api.call")
            burst(1, "order.refunded", age=120)
            until(lambda: delivered("orders", "usage").total() >= 48, 20, "the first events were not delivered")
            # Killed before the cursor passes over this one or even before it was yielded, whichever comes first.
            burst(60)
            polled = lists(polar_server)
            until(lambda: lists(polar_server) > polled, 20, "the watchers stopped polling")
        burst(30)
        burst(20, age=300)
        started = lists(polar_server)
        with triggerer(polar_server, log):
            until(lambda: lists(polar_server) >= started + 4, 60, "the watchers did not start again")
            burst(90)
        with triggerer(polar_server, log):
            until(lambda: not (set(due) - passed_over - delivered("orders", "usage").keys()), 60, "events are missing")
            # What comes again after the restart has come, too, once there were some more polls.
            requests = lists(polar_server)
            until(lambda: lists(polar_server) >= requests + 8, 60, "the watchers stopped polling")
            before, requests, since = delivered("orders", "usage"), lists(polar_server), time.monotonic()
            until(lambda: lists(polar_server) >= requests + 12, 60, "the watchers stopped polling")
            assert delivered("orders", "usage") == before, "something came twice without a restart"
            rate = (lists(polar_server) - requests) / (time.monotonic() - since)
    except AssertionError:
        print(log.read_text()[-20_000:])
        raise
    assert not passed_over & delivered("orders", "usage").keys()
    assert delivered("orders", "usage").keys() == set(due) - passed_over
    again = before.total() - len(before)
    with capsys.disabled():
        print(
            f"\n{len(before)} events delivered through 3 kills, {again} of them again after one; "
            f"{rate * 60:.0f} requests a minute for 3 watchers that poll every 0.5 s; "
            # On a busy machine other processes cause it: what the triggers themselves compute is measured elsewhere.
            f"Airflow said {log.read_text().count('async thread was blocked')} times that its event loop was held up"
        )
    # Two groups of the same interval would be twice as many.
    assert rate < 2.5

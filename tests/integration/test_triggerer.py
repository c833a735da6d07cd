"""Watchers in a real triggerer that is killed again and again: every event is delivered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_polar.testing import LocalPolar

TRIGGERER = """
import sys
from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

class_event = PolarEventWatchTrigger._event

def event_with_all_ids(self, rows):
    from airflow_provider_polar.engine.waiting import watch
    watch.SHOWN_IDS = 10_000
    return class_event(self, rows)

PolarEventWatchTrigger._event = event_with_all_ids
PolarEventWatchTrigger.shortest_poll_interval = 0.5
from airflow.__main__ import main
sys.argv = ["airflow", "triggerer", "--skip-serve-logs"]
main()
"""


@contextmanager
def triggerer(polar: LocalPolar, log: Path) -> Iterator[None]:
    """A triggerer process, killed at the end with all that it started."""
    extra = {"environment": "sandbox", "requests_per_minute": 6_000}
    connection = {"conn_type": "polar", "host": polar.base_url, "password": polar.token, "extra": extra}
    env = os.environ | {
        "AIRFLOW_CONN_POLAR_DEFAULT": json.dumps(connection),
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "2",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", TRIGGERER], env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def payloads(asset: str) -> list[dict[str, Any]]:
    """What the asset's events hold so far."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(AssetEvent).join(AssetModel, AssetEvent.asset_id == AssetModel.id)
        events = session.scalars(query.where(AssetModel.name == asset)).all()
        return [event.extra["payload"] for event in events]


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.fixture
def watched_dag(airflow_db: Path) -> str:
    """A DAG that two watchers of one asset, and one of another, run."""
    from airflow.sdk import DAG, Asset, AssetWatcher

    from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger
    from tests.airflow_env import register

    def watcher(name: str) -> Any:
        return AssetWatcher(name=name, trigger=PolarEventWatchTrigger(event_name=name, poll_interval=0.5))

    orders = Asset("orders", watchers=[watcher("order.paid"), watcher("order.refunded")])
    usage = Asset("usage", watchers=[watcher("api.call")])
    with DAG(
        "on_orders",
        schedule=[orders, usage],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        is_paused_upon_creation=False,
    ) as dag:
        pass
    register(dag)
    return "orders"


@pytest.mark.skipif(not hasattr(BaseEventTrigger, "shared_stream_key"), reason="cursors are stored from Airflow 3.3 on")
def test_every_event_is_delivered_through_kills(polar_server, watched_dag, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    log = tmp_path / "triggerer.log"
    due: list[str] = []

    def burst(many: int, name: str = "order.paid", age: float = 0) -> None:
        now = datetime.now(UTC) - timedelta(seconds=age)
        due.extend(
            polar_server.add_events(
                {"name": name, "external_customer_id": "c", "timestamp": now - timedelta(milliseconds=i)}
                for i in range(many)
            )
        )

    def delivered() -> Counter[str]:
        return Counter(event for payload in payloads("orders") + payloads("usage") for event in payload["ids"])

    def lists() -> int:
        return sum(record.endpoint == "list" for record in polar_server.requests)

    burst(5)
    passed_over = set(due)
    try:
        with triggerer(polar_server, log):
            until(lambda: lists() >= 6, 60, "the watchers did not start")
            burst(40)
            burst(7, "api.call")
            burst(1, "order.refunded", age=120)
            until(lambda: delivered().total() >= 48, 20, "the first events were not delivered")
            # Killed before the cursor passes over this one or even before it was yielded, whichever comes first.
            burst(60)
            polled = lists()
            until(lambda: lists() > polled, 20, "the watchers stopped polling")
        burst(30)
        burst(20, age=300)
        started = lists()
        with triggerer(polar_server, log):
            until(lambda: lists() >= started + 4, 60, "the watchers did not start again")
            burst(90)
        with triggerer(polar_server, log):
            until(lambda: not (set(due) - passed_over - delivered().keys()), 60, "events are missing")
            before, requests, since = delivered(), lists(), time.monotonic()
            until(lambda: lists() >= requests + 12, 60, "the watchers stopped polling")
            assert delivered() == before, "something came twice without a restart"
            rate = (lists() - requests) / (time.monotonic() - since)
    except AssertionError:
        print(log.read_text()[-20_000:])
        raise
    assert not passed_over & delivered().keys()
    assert delivered().keys() == set(due) - passed_over
    again = delivered().total() - len(delivered())
    with capsys.disabled():
        print(
            f"\n{len(delivered())} events delivered through 3 kills, {again} of them again after one; "
            f"{rate * 60:.0f} requests a minute for 3 watchers that poll every 0.5 s; "
            # On a busy machine other processes cause it: what the triggers themselves compute is measured elsewhere.
            f"Airflow said {log.read_text().count('async thread was blocked')} times that its event loop was held up"
        )
    # Two groups of the same interval would be twice as many.
    assert rate < 2.5

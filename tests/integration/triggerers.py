"""A real triggerer in processes of its own, and what it has told Airflow's assets."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_provider_polar.testing import LocalPolar

_TRIGGERER = """
import sys
from airflow_provider_polar.engine.waiting import watcher
from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

watcher.SHOWN_IDS = 10_000
PolarEventWatchTrigger.shortest_poll_interval = 0.5
from airflow.__main__ import main
sys.argv = ["airflow", "triggerer", "--skip-serve-logs"]
main()
"""


@contextmanager
def triggerer(polar: LocalPolar, log: Path) -> Iterator[int]:
    """A triggerer, killed at the end with all that it started; the id of its supervisor's process."""
    extra = {"environment": "sandbox", "requests_per_minute": 6_000}
    connection = {"conn_type": "polar", "host": polar.base_url, "password": polar.token, "extra": extra}
    env = os.environ | {
        "AIRFLOW_CONN_POLAR_DEFAULT": json.dumps(connection),
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "2",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _TRIGGERER], env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def watch(dag_id: str, **assets: list[dict[str, Any]]) -> None:
    """Writes to Airflow a DAG that runs on these assets, each with watchers of these arguments."""
    from airflow.sdk import DAG, Asset, AssetWatcher

    from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger
    from tests.airflow_env import register

    def watchers(several: list[dict[str, Any]]) -> list[Any]:
        triggers = [PolarEventWatchTrigger(**{"poll_interval": 0.5} | arguments) for arguments in several]
        return [AssetWatcher(name=f"watcher_{place}", trigger=each) for place, each in enumerate(triggers)]

    with DAG(
        dag_id,
        schedule=[Asset(name, watchers=watchers(several)) for name, several in assets.items()],
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        is_paused_upon_creation=False,
    ) as dag:
        pass
    # A watcher that keeps its name and changes otherwise is taken away when its file is parsed, and is there again when
    # the file is parsed the next time (seen with Airflow 3.3.2).
    register(dag)
    register(dag)


def payloads(asset: str) -> list[dict[str, Any]]:
    """What the asset's events hold so far."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(AssetEvent).join(AssetModel, AssetEvent.asset_id == AssetModel.id)
        events = session.scalars(query.where(AssetModel.name == asset)).all()
        return [event.extra["payload"] for event in events]


def delivered(*assets: str) -> Counter[str]:
    """How often each id has been delivered to the assets."""
    return Counter(event for asset in assets for payload in payloads(asset) for event in payload["ids"])


def last_cursor(database: Path) -> Any:
    """When a watcher last stored a cursor (Airflow 3.3 and newer), read as quickly as can be."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT max(updated_at) FROM asset_state_store").fetchone()


def add(polar: LocalPolar, many: int = 1, name: str = "order.paid", age: float = 0, customer: str = "c") -> list[str]:
    """Makes events happen, so many seconds ago."""
    now = datetime.now(UTC) - timedelta(seconds=age)
    return polar.add_events(
        {"name": name, "external_customer_id": customer, "timestamp": now - timedelta(milliseconds=i)}
        for i in range(many)
    )


def lists(polar: LocalPolar) -> int:
    """List requests so far."""
    return sum(record.endpoint == "list" for record in polar.requests)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)

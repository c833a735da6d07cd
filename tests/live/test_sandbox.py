"""The three promises against a real Polar organization, in Polar's sandbox:

    POLAR_ACCESS_TOKEN=polar_oat_... pytest tests/live

The token needs ``events:read`` and ``events:write``. Each run ingests a few dozen events that nobody is billed for
(their customer is made up); ``POLAR_BASE_URL`` names another server, for trying these tests on a local Polar.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar import exceptions
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.sensors.event import PolarEventSensor

TOKEN = os.environ.get("POLAR_ACCESS_TOKEN", "")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not TOKEN, reason="POLAR_ACCESS_TOKEN is not set: nothing is tried on a real Polar"),
]
RUN = uuid.uuid4().hex[:12]
NAME = f"airflow.live.{RUN}"
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
END = START + timedelta(hours=1)
EVENTS = [
    {
        "name": NAME,
        "external_customer_id": "airflow-live-test",
        "timestamp": (START + offset).isoformat(),
        "metadata": {"n": n},
    }
    for n, offset in enumerate(
        [
            timedelta(0),
            timedelta(microseconds=1),
            *[timedelta(minutes=30)] * 40,  # ties on a millisecond
            timedelta(hours=1, microseconds=-1),
            timedelta(hours=1),  # the next window's
        ]
    )
]


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {
        "conn_type": "polar",
        "password": TOKEN,
        "host": os.environ.get("POLAR_BASE_URL", ""),
        "extra": {"environment": "sandbox", "requests_per_minute": 80},
    }
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(fields))


def ingest(events: list[dict[str, Any]]) -> dict[str, Any]:
    operator = PolarIngestEventsOperator(task_id="ingest", events=events, idempotency_scope=RUN)
    return operator.execute({})


def test_the_connection_is_good() -> None:
    ok, shown = PolarHook().test_connection()
    assert ok, shown
    assert TOKEN not in shown


def test_billed_once_waited_for_and_exported_completely(tmp_path: Path) -> None:
    first, again = ingest(EVENTS), ingest(EVENTS[::-1])
    assert (first["inserted"], again["inserted"], again["duplicates"]) == (len(EVENTS), 0, len(EVENTS))

    sensor = PolarEventSensor(
        task_id="wait", event_name=NAME, start=START, end=END, min_count=len(EVENTS) - 1, poke_interval=5, timeout=300
    )
    deadline = time.monotonic() + 300
    while not (seen := sensor.poke({})):
        assert time.monotonic() < deadline, "the events did not become visible within five minutes"
        time.sleep(5)
    assert seen.xcom_value["count"] == len(EVENTS) - 1

    found = []
    for start, end in ((START, END), (END, END + timedelta(minutes=30))):
        export = PolarExportEventsOperator(
            task_id="export", destination=f"file://{tmp_path}", start=start, end=end, filters={"name": NAME}
        )
        result = export.execute({})
        assert result["complete"]
        manifest = Path(result["manifest"].removeprefix("file://"))
        for file in json.loads(manifest.read_text())["files"]:
            found += [json.loads(line)["metadata"]["n"] for line in (manifest.parent / file["path"]).open()]
    assert sorted(found) == list(range(len(EVENTS)))


def test_a_wrong_token_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = json.loads(os.environ["AIRFLOW_CONN_POLAR_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps({**fields, "password": "polar_oat_wrong"}))
    with pytest.raises(exceptions.PolarAuthenticationError):
        PolarHook().get_conn().list(limit=1)

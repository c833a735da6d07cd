"""Operator links: addresses, and that Airflow keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.links.polar import (
    PolarEventsLink,
    PolarManifestLink,
    events_url,
    show_events,
    show_manifest,
    storage_url,
)
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.sensors.event import PolarEventSensor

DAY = EventWindow(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


def test_the_dashboard_shows_the_window_and_names() -> None:
    url = urlsplit(events_url("production", window=DAY, names=["order.paid", "a,b"], customer_ids=["c"]))
    assert (url.scheme, url.netloc, url.path) == ("https", "polar.sh", "/to/dashboard/analytics/events")
    # The API leaves the events of the start's own millisecond out.
    assert parse_qs(url.query) == {
        "startDate": ["2025-12-31T23:59:59.999Z"],
        "endDate": ["2026-01-02T00:00:00.000Z"],
        "eventTypes": ["order.paid,a%2Cb"],
        "customerIds": ["c"],
    }


def test_the_sandbox_has_its_own() -> None:
    assert events_url("sandbox") == "https://sandbox.polar.sh/to/dashboard/analytics/events"


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (
            "s3://aws_default@bucket/a b/x.manifest.json",
            "https://console.aws.amazon.com/s3/object/bucket?prefix=a%20b/x.manifest.json",
        ),
        ("gs://bucket/a/x.json", "https://console.cloud.google.com/storage/browser/_details/bucket/a/x.json"),
        ("file:///a/x.json", "file:///a/x.json"),
        ("/a/x.json", "file:///a/x.json"),
        ("abfs://c@account/a/x.json", "abfs://c@account/a/x.json"),
    ],
)
def test_where_a_browser_finds_a_manifest(path: str, url: str) -> None:
    assert storage_url(path) == url


def test_links_of_a_task_are_those_that_it_showed() -> None:
    class Operator:
        pass

    operator = Operator()
    events, manifest = PolarEventsLink(), PolarManifestLink()
    assert (events.get_link(operator, ti_key=None), manifest.get_link(operator, ti_key=None)) == ("", "")  # type: ignore[arg-type]
    show_events(operator, "sandbox", window=DAY, filters=EventFilters(name="api.call"), names=["more"])
    show_manifest(operator, "s3://b/k")
    assert "eventTypes=more%2Capi.call" in events.get_link(operator, ti_key=None)  # type: ignore[arg-type]
    assert manifest.get_link(operator, ti_key=None).endswith("/b?prefix=k")  # type: ignore[arg-type]


def test_a_wait_shows_the_events_it_found(polar_server: Any, polar_connection: str) -> None:
    polar_server.add_events([{"name": "order.paid", "timestamp": DAY.start}])
    sensor = PolarEventSensor(task_id="wait", event_name="order.paid", start=DAY.start, end=DAY.end)
    link = PolarEventsLink()
    assert link.get_link(sensor, ti_key=None) == ""  # type: ignore[arg-type]
    found = sensor.poke({})  # type: ignore[typeddict-item]
    shown = link.get_link(sensor, ti_key=None)  # type: ignore[arg-type]
    assert shown == events_url("sandbox", window=DAY, names=["order.paid"])
    deferred = PolarEventSensor(task_id="deferred", event_name="order.paid", start=DAY.start, end=DAY.end)
    deferred.execute_complete({}, {"status": "found", "result": found.xcom_value})  # type: ignore[typeddict-item]
    assert link.get_link(deferred, ti_key=None) == shown  # type: ignore[arg-type]


def test_an_ingest_shows_the_dashboard_of_its_environment(polar_server: Any, polar_connection: str) -> None:
    ingest = PolarIngestEventsOperator(task_id="ingest", events=[], idempotency_scope="none")
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id="r", map_index=-1)
    ingest.execute({"ti": ti})  # type: ignore[typeddict-item]
    assert PolarEventsLink().get_link(ingest, ti_key=None) == events_url("sandbox")  # type: ignore[arg-type]

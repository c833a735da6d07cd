"""Operator links: addresses, and that Airflow keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.files.uris import storage_url
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.links.polar import (
    PolarEventsLink,
    PolarManifestLink,
    events_url,
    show_events,
    show_manifest,
)
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.sensors.event import PolarEventSensor


class Task:
    """A running task as far as links need it: what it pushes, Airflow hands to the link when the task ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[str, str] = {}
        self.ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1, xcom_push=self.push)
        self.context: Any = {"ti": self.ti}
        monkeypatch.setattr(XCom, "get_value", lambda *, ti_key, key: self.kept.get(key) if ti_key is self.ti else None)

    def push(self, key: str, value: str) -> None:
        self.kept[key] = value

    def link(self, link: BaseOperatorLink) -> str:
        return link.get_link(None, ti_key=self.ti)  # type: ignore[arg-type]


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    return Task(monkeypatch)


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


def test_links_of_a_task_are_those_that_it_showed(task: Task) -> None:
    events, manifest = PolarEventsLink(), PolarManifestLink()
    assert (task.link(events), task.link(manifest)) == ("", "")
    show_events(task.context, "sandbox", window=DAY, filters=EventFilters(name="api.call"), names=["more"])
    show_manifest(task.context, "s3://b/k")
    assert "eventTypes=more%2Capi.call" in task.link(events)
    assert task.link(manifest).endswith("/b?prefix=k")
    # Airflow's pages look for a link under these keys.
    assert task.kept.keys() == {"_link_PolarEventsLink", "_link_PolarManifestLink"}


def test_a_link_that_cannot_be_kept_fails_no_task() -> None:
    show_events({}, "sandbox")  # type: ignore[typeddict-item]


def test_a_wait_shows_the_events_that_it_waits_for(polar_server: Any, polar_connection: str, task: Task) -> None:
    sensor = PolarEventSensor(task_id="wait", event_name="order.paid", start=DAY.start, end=DAY.end)
    link = PolarEventsLink()
    assert task.link(link) == ""
    assert not sensor.poke(task.context)
    shown = task.link(link)
    assert shown == events_url("sandbox", window=DAY, names=["order.paid"])
    polar_server.add_events([{"name": "order.paid", "timestamp": DAY.start}])
    found = sensor.poke(task.context)
    assert task.link(link) == shown
    task.kept.clear()
    deferred = PolarEventSensor(task_id="deferred", event_name="order.paid", start=DAY.start, end=DAY.end)
    deferred.execute_complete(task.context, {"status": "found", "result": found.xcom_value})
    assert task.link(link) == shown


def test_an_ingest_shows_the_dashboard_of_its_environment(polar_server: Any, polar_connection: str, task: Task) -> None:
    ingest = PolarIngestEventsOperator(task_id="ingest", events=[], idempotency_scope="none")
    ingest.execute(task.context)
    assert task.link(PolarEventsLink()) == events_url("sandbox")

"""Operator links: addresses, and that Airflow keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.events.window import EventWindow
from airflow_provider_polar.links.polar import (
    PolarEventsLink,
    PolarManifestLink,
    events_url,
    show_events,
    show_manifest,
    storage_url,
)

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

"""The asset scheme, and what an export tells its assets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import Asset, AssetAlias

from airflow_provider_polar.assets.emission import emit_export
from airflow_provider_polar.assets.polar import convert_asset_to_openlineage, create_asset, sanitize_uri

RESULT = {
    "start": "2026-01-01T23:00:00Z",
    "end": "2026-01-02T23:00:00Z",
    "rows": 3,
    "files": 1,
    "manifest": "file:///x/m.manifest.json",
    "complete": True,
    "requests": 2,
}
EXTRA = {
    "window": {"start": "2026-01-01T23:00:00Z", "end": "2026-01-02T23:00:00Z"},
    "rows": 3,
    "files": 1,
    "manifest": "file:///x/m.manifest.json",
    "complete": True,
}


@pytest.mark.parametrize(
    ("uri", "one_form"),
    [
        ("polar://Acme/events", "polar://acme/events"),
        ("polar://acme/events/order.paid", "polar://acme/events/order.paid"),
        ("polar://acme/events/a b", "polar://acme/events/a%20b"),
        ("polar://acme/events/a%2Fb", "polar://acme/events/a%2Fb"),
    ],
)
def test_one_form(uri: str, one_form: str) -> None:
    assert sanitize_uri(urlsplit(uri)).geturl() == one_form


@pytest.mark.parametrize(
    "uri",
    [
        "polar://",
        "polar:///events",
        "polar://acme",
        "polar://acme/orders",
        "polar://acme/events/a/b",
        "polar://a/events?x=1",
        "polar://u:p@a/events",
    ],
)
def test_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="polar://ORGANIZATION/events"):
        sanitize_uri(urlsplit(uri))


def test_factory() -> None:
    assert create_asset(organization="acme", event_name="a/b").uri == "polar://acme/events/a%2Fb"
    assert create_asset(organization="acme").uri == "polar://acme/events"


def test_openlineage() -> None:
    pytest.importorskip("openlineage.client")
    converted = convert_asset_to_openlineage(create_asset(organization="acme", event_name="a b"), None)
    assert (converted.namespace, converted.name) == ("polar://acme", "events/a b")


class Outlets:
    """As ``context["outlet_events"]``: an accessor for each outlet."""

    def __init__(self) -> None:
        self._accessors: dict[str, Any] = {}

    def __getitem__(self, outlet: Any) -> Any:
        accessor = SimpleNamespace(extra=None, partitions=[], added=[])
        accessor.add_partitions = accessor.partitions.append
        accessor.add = lambda asset, extra: accessor.added.append((asset.uri, extra))
        return self._accessors.setdefault(outlet.name, accessor)


def test_an_export_tells_its_assets() -> None:
    asset, alias, events = Asset("s3://bucket/events"), AssetAlias("exports"), Outlets()
    emit_export({"outlets": [asset, alias], "outlet_events": events}, RESULT, destination="file:///data/out")
    assert events[asset].extra == EXTRA
    assert not events[asset].partitions
    assert events[alias].added == [("file:///data/out", EXTRA)]


def test_a_partition_key_of_the_windows_start_in_the_schedules_zone() -> None:
    from airflow.sdk import DAG
    from pendulum import datetime, timezone

    dag = DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tz=timezone("Europe/Berlin")))
    asset, events = Asset("s3://bucket/events"), Outlets()
    emit_export({"dag": dag, "outlets": [asset], "outlet_events": events}, RESULT, partition_key="%Y-%m-%d")
    assert events[asset].partitions == ["2026-01-02"]


def test_an_airflow_without_partition_keys_goes_without(caplog: pytest.LogCaptureFixture) -> None:
    asset = Asset("s3://bucket/events")
    events = Outlets()
    old = events[asset]
    del old.add_partitions
    emit_export({"outlets": [asset], "outlet_events": events}, RESULT, partition_key="x")
    assert old.extra == EXTRA
    assert "'x' is left out" in caplog.text

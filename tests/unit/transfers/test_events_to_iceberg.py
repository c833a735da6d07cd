"""The operator that loads exports into Iceberg tables, over the local Polar and a catalogue in SQLite."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pyiceberg", reason="PyIceberg is not installed: loads into its tables are not tested")

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, Asset
from pyiceberg.catalog import load_catalog

from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarConnectionNotFoundError,
    PolarDatabaseError,
    PolarSourceError,
)
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.transfers.events_to_iceberg import PolarEventsToIcebergOperator
from tests.unit.engine.loading.exports import events_of, exported, hour
from tests.unit.engine.rows import HOUR

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CONTEXT: Any = {"ti": SimpleNamespace(dag_id="d", task_id="load", run_id="r", map_index=2, xcom_push=lambda **_: None)}
SECRET = "very-hidden"


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The properties of a catalogue, which the connection ``lake`` has too."""
    folder = tmp_path / "iceberg"
    folder.mkdir()
    properties = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}"}
    connection = {"conn_type": "iceberg", "login": "me", "password": SECRET, "extra": properties}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    return properties


def load(manifest: Any, **options: Any) -> PolarEventsToIcebergOperator:
    given = {"task_id": "load", "manifest": manifest, "table": "usage.events"} | options
    if "catalog" not in given:
        given.setdefault("iceberg_conn_id", "lake")
    return PolarEventsToIcebergOperator(**given)


def rows(properties: dict[str, Any], name: str = "lake") -> list[dict[str, Any]]:
    table = load_catalog(name, **properties).load_table("usage.events")
    found: list[dict[str, Any]] = table.scan().to_arrow().to_pylist()
    return found


def test_an_export_and_what_its_look_back_changed(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path, lake: dict[str, Any], run_dag: Any
) -> None:
    polar_server.add_events(
        {"name": "call", "timestamp": START + DAY * n / 10, "external_customer_id": "c", "metadata": {"n": n}}
        for n in range(30)
    )
    outlet = Asset("iceberg_events", uri="x-warehouse://iceberg-events")
    with DAG("events_to_iceberg", schedule=None, start_date=START, params={"start": "2026-01-01T00:00:00Z"}) as dag:
        export = PolarExportEventsOperator(
            task_id="export",
            destination=f"file://{tmp_path}/lake",
            start="{{ params.start }}",
            window="1 day",
            lookback=2,
            requests_per_minute=60_000,
        )
        load(
            export.output,
            table="{{ 'usage' }}.events",
            mode="replace_window",
            exclude_fields=["customer"],
            metadata_columns={"n": "bigint"},
            outlets=[outlet],
        )
    for day in range(3):
        if day == 2:  # a late event, for the day before
            polar_server.add_events([{"name": "late", "timestamp": START + DAY, "external_customer_id": "c"}])
        run = run_dag(dag, run_conf={"start": (START + DAY * day).isoformat()})
        assert run.state == "success"
    numbers = {"windows": 2, "rows": 21, "inserted": 11, "removed": 0, "skipped": 0}
    assert run.xcom("load") == {"table": "usage.events", **numbers}
    found = rows(lake)
    due = sorted((event["id"], event["metadata"].get("n")) for event in polar_server.events())
    assert sorted((row["id"], row["n"]) for row in found) == due
    assert "customer" not in found[0]


def test_what_it_returns_and_what_its_asset_events_say(tmp_path: Path, lake: dict[str, Any]) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(3)]
    manifests = [window.url for window in windows]
    assert load(manifests[:2]).execute(CONTEXT)["inserted"] == 40
    outlet = Asset("loaded", uri="x-warehouse://events")
    events = {outlet: SimpleNamespace(extra={})}
    result = load(manifests).execute({**CONTEXT, "outlets": [outlet], "outlet_events": events})
    assert result == {"table": "usage.events", "windows": 3, "rows": 60, "inserted": 20, "removed": 0, "skipped": 2}
    assert events[outlet].extra == result
    snapshot = load_catalog("lake", **lake).load_table("usage.events").current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["polar.run"] == "d.load[2] r"
    assert load([]).execute(CONTEXT) == dict.fromkeys(result, 0) | {"table": "usage.events"}


def test_windows_before_the_one_that_fails_stay_and_are_skipped_by_the_retry(
    tmp_path: Path, lake: dict[str, Any]
) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(3)]
    torn = tmp_path / windows[1].manifest.files[0].path
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-1])
    task = load([window.url for window in windows])
    with pytest.raises(PolarSourceError):
        task.execute(CONTEXT)
    assert len(rows(lake)) == 20
    torn.write_bytes(whole)
    assert task.execute(CONTEXT)["skipped"] == 1
    assert len(rows(lake)) == 60


def test_a_catalogue_by_its_properties_and_by_its_name(
    tmp_path: Path, lake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    window = exported(tmp_path, events_of(HOUR))
    assert load(window.url, catalog={"name": "mine", **lake}).execute(CONTEXT)["inserted"] == 20
    assert len(rows(lake, "mine")) == 20
    # What the task says goes before what the connection says, its name too.
    both = load(window.url, catalog={"name": "mine"}, iceberg_conn_id="lake")
    assert both.execute(CONTEXT)["skipped"] == 1
    assert load(window.url, catalog="mine", iceberg_conn_id="lake").execute(CONTEXT)["skipped"] == 1


def test_the_properties_that_a_connection_gives(lake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_polar.operators import _iceberg

    given: dict[str, Any] = {}
    monkeypatch.setattr("pyiceberg.catalog.load_catalog", lambda name, **properties: given.update(properties))
    connection = {"conn_type": "iceberg", "login": "id", "password": SECRET, "host": "https://lake.example/ws"}
    monkeypatch.setenv("AIRFLOW_CONN_REST", json.dumps({**connection, "extra": {"warehouse": "w"}}))
    _, where = _iceberg.load_catalog({"type": "rest"}, "rest")
    assert given == {
        "type": "rest",
        "uri": "https://lake.example/ws",
        "credential": f"id:{SECRET}",
        "warehouse": "w",
    }
    assert where == "the Iceberg catalogue 'rest' (https://lake.example/ws)"
    _, where = _iceberg.load_catalog({"uri": "postgresql://me:hidden@db.example/lake"}, None)
    assert where == "the Iceberg catalogue 'default' (db.example/lake)"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"table": "events"}, "an Iceberg table has a namespace"),
        ({"iceberg_conn_id": None}, "neither catalog nor iceberg_conn_id"),
        ({"iceberg_conn_id": " "}, "iceberg_conn_id is ' '"),
        ({"catalog": 5}, "catalog is int; it is the name"),
        ({"catalog": ""}, "catalog is str; it is the name"),
        ({"catalog": {"s3.secret-access-key": SECRET}}, "catalog has a secret, 's3.secret-access-key'"),
        ({"catalog": {"auth": {"basic": {"password": SECRET}}}}, "catalog has a secret, 'password'"),
        ({"catalog": {"uri": f"postgresql://me:{SECRET}@db/lake"}}, "catalog has a secret, 'uri'"),
        ({"mode": "append"}, "mode is 'append'"),
        ({"metadata_columns": {"n": "int"}}, "metadata_columns has 'n' as 'int'"),
        ({"exclude_fields": ["id"]}, "exclude_fields names 'id'"),
        ({"manifest": "file:///x.jsonl"}, "the path of a manifest ends in manifest.json"),
    ],
)
def test_what_is_wrong_is_refused_when_the_dag_file_is_parsed(options: dict[str, Any], told: str) -> None:
    with pytest.raises(PolarConfigurationError, match="task 'load': ") as caught:
        load(**{"manifest": "file:///x/manifest.json", "iceberg_conn_id": "lake", **options})
    assert told in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_package_that_is_not_installed_is_told(
    tmp_path: Path, lake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    task = load(exported(tmp_path, events_of(HOUR)).url)
    with pytest.raises(AirflowFailException, match=r"pip install 'airflow-provider-polar\[iceberg\]'"):
        task.execute(CONTEXT)


def test_a_catalogue_that_cannot_be_made_is_told_without_its_properties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = exported(tmp_path, events_of(HOUR)).url
    monkeypatch.setenv("AIRFLOW_CONN_BAD", json.dumps({"conn_type": "iceberg", "password": SECRET, "extra": {}}))
    with pytest.raises(AirflowFailException) as caught:
        load(manifest, iceberg_conn_id="bad").execute(CONTEXT)
    assert "PyIceberg makes no catalogue of the Iceberg catalogue 'bad' (" in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(PolarConnectionNotFoundError, match="gives no connection 'gone'"):
        load(manifest, iceberg_conn_id="gone").execute(CONTEXT)


def test_a_warehouse_that_cannot_be_written_is_told(tmp_path: Path, lake: dict[str, Any]) -> None:
    (tmp_path / "a_file").write_text("")
    task = load(
        exported(tmp_path, events_of(HOUR)).url,
        catalog=lake | {"name": "lake", "warehouse": f"file://{tmp_path}/a_file"},
    )
    with pytest.raises(PolarDatabaseError, match="in the Iceberg catalogue 'lake'"):
        task.execute(CONTEXT)

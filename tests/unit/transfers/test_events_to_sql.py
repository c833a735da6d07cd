"""The operator that loads exports into tables, over the local Polar and SQLite."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Connection
from airflow.sdk import DAG, Asset

from airflow_provider_polar.exceptions import (
    PolarConfigurationError,
    PolarConnectionNotFoundError,
    PolarDatabaseError,
    PolarSourceError,
)
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.transfers.events_to_sql import PolarEventsToSqlOperator
from tests.unit.engine.loading.exports import events_of, exported, hour
from tests.unit.engine.rows import HOUR

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CONTEXT: Any = {"ti": SimpleNamespace(dag_id="d", task_id="load", run_id="r", map_index=2, xcom_push=lambda **_: None)}

pytest.importorskip("airflow.providers.sqlite.hooks.sqlite", reason="SQLite's Airflow provider is not installed")


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An SQLite database that is the connection ``warehouse``."""
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def load(manifest: Any, **options: Any) -> PolarEventsToSqlOperator:
    return PolarEventsToSqlOperator(
        **{"task_id": "load", "manifest": manifest, "sql_conn_id": "warehouse", "table": "events"} | options
    )


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_an_export_and_what_its_look_back_changed(
    polar_server: LocalPolar, polar_connection: str, tmp_path: Path, warehouse: Path, run_dag: Any
) -> None:
    polar_server.add_events(
        {"name": "call", "timestamp": START + DAY * n / 10, "external_customer_id": "c", "metadata": {"n": n}}
        for n in range(30)
    )
    outlet = Asset("sqlite_events", uri="x-warehouse://events")
    with DAG("events_to_table", schedule=None, start_date=START, params={"start": "2026-01-01T00:00:00Z"}) as dag:
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
            table="{{ 'events' }}",
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
    assert run.xcom("load") == {
        "table": "events",
        "windows": 2,
        "rows": 21,
        "inserted": 11,
        "removed": 0,
        "skipped": 0,
    }
    due = sorted((event["id"], event["metadata"].get("n")) for event in polar_server.events())
    assert query(warehouse, "SELECT id, n FROM events ORDER BY id") == due
    assert "customer" not in [column[1] for column in query(warehouse, "PRAGMA table_info(events)")]
    loads = query(warehouse, "SELECT number, rows, run FROM polar_loads ORDER BY number")
    assert [(number, rows) for number, rows, _ in loads] == [(1, 10), (2, 10), (3, 11), (4, 10)]
    assert all(told.startswith("events_to_table.load manual__") for *_, told in loads)


def test_what_it_returns_and_the_run_that_it_records(tmp_path: Path, warehouse: Path) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(3)]
    manifests = [window.url for window in windows]
    assert load(manifests[:2]).execute(CONTEXT)["inserted"] == 40
    result = load(manifests).execute(CONTEXT)
    assert result == {"table": "events", "windows": 3, "rows": 60, "inserted": 20, "removed": 0, "skipped": 2}
    assert query(warehouse, "SELECT DISTINCT run FROM polar_loads") == [("d.load[2] r",)]
    assert load([]).execute(CONTEXT) == dict.fromkeys(result, 0) | {"table": "events"}


def test_an_asset_event_says_what_was_loaded(tmp_path: Path, warehouse: Path) -> None:
    outlet = Asset("loaded", uri="x-warehouse://events")
    events = {outlet: SimpleNamespace(extra={})}
    context: Any = {**CONTEXT, "outlets": [outlet], "outlet_events": events}
    result = load(exported(tmp_path, events_of(HOUR)).url).execute(context)
    assert events[outlet].extra == result


def test_windows_before_the_one_that_fails_stay_and_are_skipped_by_the_retry(tmp_path: Path, warehouse: Path) -> None:
    windows = [exported(tmp_path, events_of(hour(n)), hour(n)) for n in range(3)]
    torn = tmp_path / windows[1].manifest.files[0].path
    content = torn.read_bytes()
    torn.write_bytes(content[:-3])
    operator = load([window.url for window in windows])
    with pytest.raises(PolarSourceError, match="SHA-256"):
        operator.execute(CONTEXT)
    assert query(warehouse, "SELECT count(*) FROM events") == [(20,)]
    torn.write_bytes(content)
    assert operator.execute(CONTEXT)["skipped"] == 1
    assert query(warehouse, "SELECT count(*), count(DISTINCT id) FROM events") == [(60, 60)]


def test_a_table_that_holds_others_fails_without_a_retry(tmp_path: Path, warehouse: Path) -> None:
    load(exported(tmp_path, events_of(HOUR)).url).execute(CONTEXT)
    less = exported(tmp_path / "less", events_of(HOUR)[1:]).url
    with pytest.raises(AirflowFailException, match="1 event that the manifest does not have"):
        load(less).execute(CONTEXT)
    assert load(less, mode="replace_window").execute(CONTEXT)["removed"] == 1


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, connection in {
        "odd": Connection(conn_id="odd", conn_type="no_such_type", host="h"),
        "http": Connection(conn_id="http", conn_type="http", host="h"),
        "nowhere": Connection(conn_id="nowhere", conn_type="sqlite", host=str(tmp_path / "missing" / "x.sqlite")),
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", connection.as_json())


@pytest.mark.parametrize(
    ("conn_id", "error", "told"),
    [
        ("missing", PolarConnectionNotFoundError, "Airflow gives no connection 'missing'"),
        ("odd", AirflowFailException, "of type 'no_such_type', which no installed Airflow provider serves"),
        ("http", AirflowFailException, "'http' is a connection of type 'http', which "),
        ("nowhere", PolarDatabaseError, "cannot connect in sqlite connection 'nowhere'"),
    ],
)
def test_connections_that_are_no_use(
    connections: None, tmp_path: Path, conn_id: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        load(exported(tmp_path, events_of(HOUR)).url, sql_conn_id=conn_id).execute(CONTEXT)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"manifest": "/lake/events.jsonl"}, "manifest is '/lake/events.jsonl'; the path of a manifest ends in"),
        ({"manifest": "lake/x.manifest.json"}, "a path relative to wherever the worker runs"),
        ({"manifest": None}, "manifest is None"),
        ({"table": "a.b.c.d"}, "table is 'a.b.c.d'; it is a table's name"),
        ({"table": ""}, "table is ''"),
        ({"mode": "merge"}, "mode is 'merge'; it is 'insert' or 'replace_window'"),
        ({"sql_conn_id": ""}, "sql_conn_id is ''; it is the id of a connection to a database"),
        ({"exclude_fields": ["custmer"]}, "'custmer', which is no field of an event"),
        ({"exclude_fields": ["id"]}, "exclude_fields names 'id'"),
        ({"metadata_columns": {"distance": "float"}}, "metadata_columns has 'distance' as 'float'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_when_the_dag_file_is_read(options: dict[str, Any], told: str) -> None:
    with pytest.raises(PolarConfigurationError) as caught:
        load(**{"manifest": "/lake/x.manifest.json"} | options)
    assert str(caught.value).startswith("task 'load': ")
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["manifest", "sql_conn_id", "table", "mode", "exclude_fields", "metadata_columns"])
def test_templates_are_judged_by_the_task(name: str, warehouse: Path) -> None:
    assert name in PolarEventsToSqlOperator.template_fields
    operator = load(**{"manifest": "/lake/x.manifest.json"} | {name: "{{ params.x }}"})
    setattr(operator, name, None if name == "manifest" else "" if name != "mode" else "x")
    with pytest.raises(AirflowFailException, match=name):
        operator.execute(CONTEXT)


@pytest.fixture
def lineage(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    from airflow.providers.common.compat import sdk

    told: list[tuple[str, str]] = []
    collector = SimpleNamespace(
        add_input_asset=lambda context, uri: told.append(("in", uri)),
        add_output_asset=lambda context, uri: told.append(("out", uri)),
    )
    monkeypatch.setattr(sdk, "get_hook_lineage_collector", lambda: collector, raising=False)
    return told


def test_lineage(tmp_path: Path, warehouse: Path, lineage: list[tuple[str, str]]) -> None:
    window = exported(tmp_path, events_of(HOUR))
    load(window.url).execute(CONTEXT)
    assert lineage == [("in", window.url), ("out", f"sqlite://{warehouse}/main/events")]

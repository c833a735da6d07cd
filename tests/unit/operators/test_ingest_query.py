"""The ingest of a query: what is refused when the DAG file is parsed, and what a real Airflow makes of it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.testing import LocalPolar

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

RunDag = Callable[..., Any]
SQL = "SELECT id, customer, at FROM usage WHERE at >= :start AND at < :end"
MAPPING = {"name": {"const": "call.made"}, "external_customer_id": "customer", "timestamp": "at"}


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"sql": SQL}, "sql needs sql_conn_id"),
        (
            {"sql": SQL, "sql_conn_id": "w"},
            "needs key or snapshot_path: .*other rows at the next attempt.*key=.*snapsho",
        ),
        ({"sql": SQL, "sql_conn_id": "w", "key": []}, "key is .*name of a column"),
        ({"sql": SQL, "sql_conn_id": "w", "snapshot_path": "here"}, "snapshot_path is 'here', a path relative"),
        (
            {"sql": SQL, "sql_conn_id": "w", "key": "id", "keep_snapshot": True},
            "keep_snapshot=True needs snapshot_path",
        ),
        ({"sql": SQL, "sql_conn_id": "w", "key": "id", "on_changed": "bill"}, "on_changed is 'bill'"),
        ({"sql": SQL, "sql_conn_id": "w", "key": "id", "parameters": {"start": 1}}, "'start', which is the window's"),
        ({"sql": SQL, "sql_conn_id": "w", "key": "id", "parameters": "x"}, "parameters is a str"),
        ({"sql": SQL, "sql_conn_id": "w", "key": "id", "start": "2026-01-01"}, "without a time zone"),
        ({"sql": SQL, "sql_conn_id": "w", "key": "id", "start": "2026-01-01T00:00:00Z"}, "start is given without end"),
        ({"sql": "", "sql_conn_id": "w", "key": "id"}, "sql is ''"),
        ({"events": [], "key": "id"}, "key goes with sql"),
        ({"source": "/a.csv", "snapshot_path": "/s"}, "snapshot_path goes with sql"),
        (
            {"sql": SQL, "sql_conn_id": "w", "key": "id", "mapping": {**MAPPING, "external_id": "id"}},
            "key and the external_id of mapping",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_dag_is_parsed(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(PolarConfigurationError, match=told):
        PolarIngestEventsOperator(task_id="ingest", **parameters)


def _dag(name: str, folder: Path, **options: Any) -> DAG:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    return DAG(dag_id=name, start_date=day, catchup=False, template_searchpath=[str(folder)], **options)


def test_a_schedule_without_a_window_is_refused_where_the_query_names_one(tmp_path: Path) -> None:
    (tmp_path / "usage.sql").write_text(SQL)
    (tmp_path / "all.sql").write_text("SELECT * FROM usage")
    for file, window, refused in (("usage", None, True), ("usage", "1 hour", False), ("all", None, False)):
        with _dag(f"hourly_{file}_{bool(window)}", tmp_path, schedule="0 * * * *"):
            task = PolarIngestEventsOperator(
                task_id="ingest", sql=f"{file}.sql", sql_conn_id="w", key="id", window=window
            )
        if refused:
            with pytest.raises(PolarConfigurationError, match=r"task 'ingest'.*gives its runs no window"):
                task.resolve_template_files()
        else:
            task.resolve_template_files()
            assert str(task.sql).startswith("SELECT")


def test_nothing_of_a_database_is_imported_when_a_dag_is_parsed() -> None:
    script = f"""
import sys
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
PolarIngestEventsOperator(task_id="ingest", sql={SQL!r}, sql_conn_id="warehouse", key="id", mapping={MAPPING!r})
print(*(name for name in sys.modules if name.startswith("airflow.providers.")))
print(*(name for name in ("duckdb", "psycopg", "psycopg2", "MySQLdb") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    providers, drivers = done.stdout.splitlines()
    assert "airflow.providers.common.sql.hooks" not in providers
    assert not drivers


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("airflow.providers.sqlite.hooks.sqlite", reason="Airflow's provider sqlite is not installed")
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE usage (id INTEGER, customer TEXT, at TEXT)")
        rows = [(n, f"c{n % 3}", f"2026-01-01T{n // 10:02}:{n % 10:02}:00Z") for n in range(30)]
        connection.executemany("INSERT INTO usage VALUES (?, ?, ?)", rows)
    return path


def test_an_hourly_dag_sends_each_hour_once(
    run_dag: RunDag, polar_server: LocalPolar, polar_connection: str, warehouse: Path
) -> None:
    (warehouse.parent / "usage.sql").write_text(SQL + " AND customer <> :other -- {{ task.task_id }}")
    hourly = CronDataIntervalTimetable("0 * * * *", timezone="UTC")
    with _dag("usage_by_hour", warehouse.parent, schedule=hourly) as dag:
        PolarIngestEventsOperator(
            task_id="ingest",
            sql="usage.sql",
            sql_conn_id="warehouse",
            parameters={"other": "{{ 'c1' }}"},
            mapping=MAPPING,
            key=["id"],
            snapshot_path=f"file://{warehouse.parent}/frozen",
        )
    figures = []
    for hour, minute in ((1, 0), (2, 0), (1, 30)):  # the last one is the first hour again
        run = run_dag(dag, logical_date=datetime(2026, 1, 1, hour, minute, tzinfo=UTC))
        assert run.state == "success"
        figures.append((run.xcom("ingest")["inserted"], run.xcom("ingest")["duplicates"]))
    assert figures[1][0] > 0
    assert figures[2] == (0, figures[0][0])
    stored = sorted(event["timestamp"] for event in polar_server.events())
    assert stored == sorted({*stored})
    assert len(stored) == figures[0][0] + figures[1][0]
    assert not list((warehouse.parent / "frozen").iterdir())


def test_the_query_is_told_to_the_lineage_of_hooks(
    polar_server: LocalPolar, polar_connection: str, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = pytest.importorskip("airflow.providers.common.sql.hooks.lineage", reason="common.sql tells no lineage")
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(lineage, "send_sql_hook_lineage", lambda **facts: told.append(facts))
    _run(warehouse, "r", key="id")
    assert [one["sql"] for one in told] == ["SELECT * FROM usage ORDER BY id"]


def _run(warehouse: Path, run_id: str, **options: Any) -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="d", task_id="ingest", run_id=run_id, map_index=-1)
    given = {"sql": "SELECT * FROM usage ORDER BY id", "sql_conn_id": "warehouse", "mapping": MAPPING, **options}
    task: Any = PolarIngestEventsOperator(task_id="ingest", **given)
    return task.execute({"ti": ti})  # type: ignore[no-any-return]


def test_without_a_mapping_the_columns_are_the_fields(
    polar_server: LocalPolar, polar_connection: str, warehouse: Path
) -> None:
    sql = (
        "SELECT id, 'call' AS name, customer AS external_customer_id, at AS timestamp, id AS \"metadata.n\" FROM usage"
    )
    assert _run(warehouse, "r", sql=sql, mapping=None, key="id")["inserted"] == 30
    assert sorted(event["metadata"]["n"] for event in polar_server.events()) == list(range(30))
    assert _run(warehouse, "r2", sql=sql, mapping=None, key="id")["duplicates"] == 30
    with pytest.raises(AirflowFailException, match="has the column 'id', which is no field of an event"):
        _run(warehouse, "r", sql=sql, mapping=None, snapshot_path=f"file://{warehouse.parent}/frozen")


def test_rows_are_told_by_number_and_column(polar_server: LocalPolar, polar_connection: str, warehouse: Path) -> None:
    with closing(sqlite3.connect(warehouse)) as connection, connection:
        connection.execute("UPDATE usage SET at = 'noon' WHERE id = 3")
        connection.execute("UPDATE usage SET id = NULL WHERE id = 4")
        connection.execute("UPDATE usage SET id = 5 WHERE id = 6")
    sql = "SELECT * FROM usage ORDER BY rowid"
    with pytest.raises(AirflowFailException, match=r"carries the external_id .*row 7.*different content in row 6"):
        _run(warehouse, "r", sql=sql, key="id")
    with closing(sqlite3.connect(warehouse)) as connection, connection:
        connection.execute("DELETE FROM usage WHERE rowid = 7")
    told = r"row 4, timestamp: is not an ISO 8601 moment; row 5, key id: is empty"
    with pytest.raises(AirflowFailException, match=f"2 of 29 rows are invalid.*{told}"):
        _run(warehouse, "r", sql=sql, key="id")
    assert not polar_server.requests
    rejected = warehouse.parent / "rejected.jsonl"
    skipping: dict[str, Any] = {"on_invalid": "skip", "rejected_path": f"file://{rejected}", "sql": sql, "key": "id"}
    assert _run(warehouse, "r", **skipping, dry_run=True)["rejected"] == 2
    frozen = {"snapshot_path": f"file://{warehouse.parent}/frozen"}
    polar_server.fail("missing_scope", path="ingest", times=1)
    with pytest.raises(AirflowFailException):
        _run(warehouse, "r", **skipping, **frozen)
    warehouse.unlink()  # a retry needs no database
    result = _run(warehouse, "r", **skipping, **frozen)
    assert (result["events"], result["inserted"], result["rejected"]) == (29, 27, 2)
    assert [json.loads(line)["row"] for line in rejected.read_text().splitlines()] == [4, 5]


def test_equal_rows_of_one_run_are_events_of_their_own_without_a_key(
    polar_server: LocalPolar, polar_connection: str, warehouse: Path
) -> None:
    frozen = {"snapshot_path": f"file://{warehouse.parent}/frozen"}
    sql = "SELECT customer, '2026-01-01T00:00:00Z' AS at FROM usage"
    assert _run(warehouse, "r", sql=sql, **frozen)["inserted"] == 30
    assert _run(warehouse, "r", sql=sql, **frozen)["duplicates"] == 30
    assert _run(warehouse, "another", sql=sql, **frozen)["inserted"] == 30


def test_a_database_that_no_provider_serves(
    polar_server: LocalPolar, polar_connection: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "oracle", "host": "h"}))
    with pytest.raises(AirflowFailException, match="type 'oracle', which no installed Airflow provider serves"):
        _run(tmp_path, "r", key="id")

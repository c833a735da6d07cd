"""The example DAGs that load tables, run as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.testing import LocalPolar


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of DuckDB that is the examples' connection."""
    reason = "the Airflow provider for DuckDB is not installed: its example is not run"
    pytest.importorskip("airflow.providers.duckdb.hooks.duckdb", reason=reason)
    path = tmp_path / "warehouse.duckdb"
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(path)}))
    return path


def query(path: Path, sql: str) -> list[Any]:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        return connection.execute(sql).fetchall()


def paid(moment: datetime, amount: int, name: str = "order.paid") -> dict[str, Any]:
    metadata = {"order_id": "o", "amount": amount, "currency": "usd"}
    return {"name": name, "source": "system", "timestamp": moment, "external_customer_id": "c", "metadata": metadata}


def test_polar_to_duckdb(
    example: Callable[[str], Any], run_dag: Any, polar_server: LocalPolar, warehouse: Path, tmp_path: Path
) -> None:
    """Two days; between the runs an order of the first day becomes known."""
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
    polar_server.add_events(paid(day + timedelta(hours=hour), 1050) for hour in range(48))
    dag = example("polar_to_duckdb")
    assert run_dag(dag, logical_date=day + timedelta(days=1)).xcom("revenue_by_day") == [
        f"{day:%Y-%m-%d}        252.00 usd  {'#' * 40}"
    ]
    polar_server.add_events([paid(day, 2500), paid(day, 100, "order.refunded")])
    run = run_dag(dag, logical_date=day + timedelta(days=2))
    assert run.state == "success"
    numbers = run.xcom("load")
    assert (numbers["windows"], numbers["rows"], numbers["inserted"], numbers["removed"]) == (2, 50, 26, 0)
    assert [line.split()[1] for line in run.xcom("revenue_by_day")] == ["277.00", "252.00"]
    assert query(warehouse, "SELECT count(*), count(DISTINCT id) FROM orders") == [(50, 50)]


def test_round_trip(
    example: Callable[[str], Any], run_dag: Any, polar_server: LocalPolar, warehouse: Path, tmp_path: Path
) -> None:
    """A day there and back, twice; then with an event of Polar's that the warehouse does not know."""
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
    query(warehouse, "CREATE TABLE usage (id INTEGER, account VARCHAR, moment TIMESTAMPTZ, gigabytes DOUBLE)")
    query(
        warehouse,
        f"INSERT INTO usage SELECT n, 'account-' || n % 3, TIMESTAMPTZ '{day.isoformat()}' + to_minutes(n * 36), n / 4 "
        "FROM range(40) AS t(n)",
    )
    dag = example("round_trip")
    for inserted in (40, 0):
        run = run_dag(dag, logical_date=day + timedelta(days=1))
        assert run.state == "success"
        assert run.xcom("ingest")["inserted"] == inserted
        assert run.xcom("load")["skipped"] == (0 if inserted else 1)
    assert query(warehouse, "SELECT count(*), sum(gigabytes) FROM billed_usage") == [(40, 195.0)]
    unknown = {"external_customer_id": "account-1", "metadata": {"gigabytes": 1}}
    polar_server.add_events([{"name": "storage.used", "timestamp": day, **unknown}])
    dag.get_task("verify").retries = 0
    run = run_dag(dag, logical_date=day + timedelta(days=1))
    assert run.states()["load"] == "success"
    assert run.states()["verify"] == "failed"

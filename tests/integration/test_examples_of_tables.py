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

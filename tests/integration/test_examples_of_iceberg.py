"""The example DAG that loads an Iceberg table, run as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyiceberg", reason="PyIceberg is not installed: loads into its tables are not tested")

from pyiceberg.catalog import load_catalog

from airflow_provider_polar.testing import LocalPolar


def test_polar_to_iceberg(
    example: Callable[[str], Any],
    run_dag: Any,
    polar_server: LocalPolar,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two hours; between the runs an event of the first hour becomes known."""
    monkeypatch.setenv("POLAR_DEMO_ICEBERG", str(tmp_path / "iceberg"))
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    polar_server.add_events(
        {
            "name": "flight",
            "timestamp": hour + timedelta(minutes=n),
            "external_customer_id": "a",
            "metadata": {"distance": n},
        }
        for n in range(120)
    )
    dag = example("polar_to_iceberg")
    assert run_dag(dag, logical_date=hour + timedelta(hours=1)).xcom("history") == [
        f"{hour:%Y-%m-%dT%H:%M:%SZ}        60 events"
    ]
    polar_server.add_events([{"name": "late", "timestamp": hour, "external_customer_id": "a"}])
    run = run_dag(dag, logical_date=hour + timedelta(hours=2))
    assert run.state == "success"
    assert [line.split()[1] for line in run.xcom("history")] == ["60", "61", "60"]
    table = load_catalog(**dag.get_task("load").catalog).load_table("usage.events")
    rows = table.scan(selected_fields=("id", "distance")).to_arrow().to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(event["id"] for event in polar_server.events())
    assert sum(row["distance"] or 0 for row in rows) == sum(range(120))

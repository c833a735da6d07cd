"""The example DAGs of this part, run as they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any


def test_backfill_year_mapped(example: Any, run_dag: Any, polar_server: Any, tmp_path: Path) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    polar_server.add_events(
        {"name": "call", "timestamp": start + timedelta(hours=n), "external_customer_id": "a"} for n in range(-2, 8762)
    )
    run = run_dag(example("backfill_year_mapped"), logical_date=datetime(2026, 1, 2, tzinfo=UTC))
    assert run.state == "success"
    assert run.xcom("assemble")["rows"] == 8760
    (manifest,) = (tmp_path / "years").glob("*.manifest.json")
    assert len(json.loads(manifest.read_text())["pieces"]) > 10


def test_notify_usage(example: Any, run_dag: Any, polar_server: Any) -> None:
    dag = example("notify_usage")
    run = run_dag(dag, logical_date=datetime(2026, 1, 2, tzinfo=UTC))
    assert run.state == "success"
    # In newer versions dag.test() hands DAG callbacks a DAG that cannot render templates; the DAG processor hands
    # them this.
    context = {"dag": dag, "run_id": run.dag_run.run_id, "params": {"customer": "acme"}, "reason": "success"}
    for _ in range(2):
        dag.on_success_callback(context)
    reports = [event["metadata"] for event in polar_server.events() if event["name"] == "report.rendered"]
    assert sorted(metadata["number"] for metadata in reports) == [1, 2, 3]
    assert [event["name"] for event in polar_server.events()].count("pipeline.finished") == 1


def test_export_per_customer(example: Any, run_dag: Any, polar_server: Any, tmp_path: Path) -> None:
    for customer in ("acme", "globex", "other"):
        moments = [datetime(2026, 10, 24, 21, 30, tzinfo=UTC) + timedelta(hours=n) for n in range(30)]
        polar_server.add_events({"name": "call", "timestamp": m, "external_customer_id": customer} for m in moments)
    midnight = datetime(2026, 10, 25, 23, tzinfo=UTC)  # in Berlin, after a day of 25 hours
    run = run_dag(example("export_per_customer"), logical_date=midnight)
    assert run.state == "success"
    assert [run.xcom("export", map_index=index)["rows"] for index in (0, 1)] == [25, 25]
    assert "customer" not in json.loads(next((tmp_path / "customers/acme").glob("*.jsonl")).read_text().splitlines()[0])

"""The example DAGs: all parse without a warning of ours, and those of no other test run here, as they are."""

from __future__ import annotations

import gzip
import json
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from tests.paths import ROOT

EXAMPLES = ROOT / "dags_examples"
ALL = sorted(path.stem for path in EXAMPLES.glob("*.py"))
NEWER = {"verify_usage"} if version("apache-airflow-core").startswith("3.0.") else set()
NAMES = [name for name in ALL if name not in NEWER]


def test_all_parse_without_a_deprecation_warning():
    """In a process of its own, as the DAG processor loads them; a warning that our line causes would be an error."""
    code = f"""
    import runpy, warnings
    import airflow, airflow.sdk, airflow.providers.common.compat.sdk, airflow.triggers.base
    import airflow.providers.standard.operators.python
    warnings.simplefilter("error", DeprecationWarning)
    warnings.simplefilter("error", PendingDeprecationWarning)
    warnings.simplefilter("error", FutureWarning)
    for name in {NAMES!r}:
        dag = runpy.run_path("{EXAMPLES}/" + name + ".py")["dag"]
        assert dag.dag_id == name, (dag.dag_id, name)
        print(name)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # Airflow before 3.2 logs there, too.
    assert [line for line in done.stdout.splitlines() if line in NAMES] == NAMES


@pytest.mark.parametrize("name", ALL)
def test_each_says_what_it_shows(name, example):
    if name in NEWER:
        pytest.skip(f"{name} waits for a person's approval, which Airflow 3.0 does not know")
    dag = example(name)
    assert dag.doc_md
    assert len(dag.doc_md.strip()) > 80
    assert "polar" in dag.tags


def test_hourly_export_s3(example, run_dag, polar_server, tmp_path):
    """Two adjacent hours; between the runs, an event for the first hour arrives late."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    polar_server.add_events(
        {"name": "call", "timestamp": hour + timedelta(minutes=n), "external_customer_id": "a"} for n in range(180)
    )
    dag = example("hourly_export_s3")
    first = run_dag(dag, logical_date=hour + timedelta(hours=1))
    assert first.state == "success"
    assert first.xcom("export")["rows"] == 60
    polar_server.add_events([{"name": "late", "timestamp": hour, "external_customer_id": "a"}])
    second = run_dag(dag, logical_date=hour + timedelta(hours=2))
    assert second.xcom("export")["rows"] == 60
    [changed] = second.xcom("export")["changed"]
    assert changed["rows"] == 61
    assert second.xcom("load") == [changed["manifest"], second.xcom("export")["manifest"]]
    rows = [
        json.loads(line)
        for path in sorted((tmp_path / "events").glob("*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert len(rows) == len({row["id"] for row in rows}) == 121


def test_nightly_reconcile(example, run_dag, polar_server, tmp_path):
    """Forty days are exported; then an event of each is removed, and one like it comes late."""
    first, day = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)

    def events():
        return [{"name": "call", "timestamp": first + n * day, "external_customer_id": "a"} for n in range(40)]

    ids = polar_server.add_events(events())
    for number in range(40):
        PolarExportEventsOperator(
            task_id="export",
            destination=f"file://{tmp_path}/events",
            start=first + number * day,
            window=day,
            requests_per_minute=60_000,
        ).execute({})
    polar_server.remove_events(ids)
    polar_server.add_events(events())
    dag = example("nightly_reconcile")
    dag.task_dict["reconcile"].retries = 0  # A failure is seen at once.
    run = run_dag(dag, logical_date=first + 40 * day + timedelta(hours=3))
    assert run.state == "success"
    found = run.xcom("reconcile")
    assert (found["windows"], found["deep"], found["equal"]) == (40, 2, 38)
    assert run.xcom("load") == [export["manifest"] for export in found["exported"]]
    assert len(found["exported"]) == 2
    report = (tmp_path / "differences" / "2026-02-10.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["difference"] for line in report) == ["gone", "gone", "new", "new"]


def test_daily_rollup_from_file(example, run_dag, polar_server, tmp_path):
    """The file of a day, sent twice, in the second run fixed."""
    day = datetime.now(UTC) - timedelta(days=2)
    ds = f"{day:%Y-%m-%d}"
    folder = tmp_path / "rollups"
    folder.mkdir()
    lines = ["account,day,gigabytes,region", f"acme,{ds},12.5,eu", f"globex,{ds},7,", f"initech,{ds},a lot,eu"]
    (folder / f"{ds}.csv").write_text("\n".join(lines))
    dag = example("daily_rollup_from_file")
    run = run_dag(dag, logical_date=day)
    assert run.state == "success"
    assert run.xcom("ingest") | {"rejected_path": ""} == {
        "events": 3,
        "inserted": 2,
        "duplicates": 0,
        "rejected": 1,
        "batches": 1,
        "rejected_path": "",
    }
    [rejected] = [json.loads(line) for line in (tmp_path / "rejected" / f"{ds}.jsonl").read_text().splitlines()]
    assert rejected["row"] == 4
    assert rejected["problems"][0]["field"] == "metadata.gigabytes"
    assert "1 rejected" in run.xcom("tell")

    (folder / f"{ds}.csv").write_text("\n".join(lines).replace("a lot", "3"))
    fixed = run_dag(dag, logical_date=day + timedelta(seconds=1))
    assert (fixed.xcom("ingest")["inserted"], fixed.xcom("ingest")["duplicates"]) == (1, 2)
    billed = {event["external_customer_id"]: event["metadata"] for event in polar_server.events()}
    assert billed == {
        "acme": {"gigabytes": 12.5, "region": "eu"},
        "globex": {"gigabytes": 7},
        "initech": {"gigabytes": 3, "region": "eu"},
    }


def test_daily_rollup_without_a_logical_date(example, run_dag, polar_server, tmp_path):
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    (tmp_path / "rollups").mkdir()
    (tmp_path / "rollups" / f"{today}.csv").write_text(
        f"account,day,gigabytes,region\nacme,{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d},12.5,eu"
    )
    dag = example("daily_rollup_from_file")
    dag.get_task("ingest").retries = 0
    run = run_dag(dag, dated=False)
    assert run.state == "success"
    assert run.xcom("ingest")["inserted"] == 1


def test_warehouse_to_polar(example, run_dag, polar_server, tmp_path, monkeypatch):
    """An hour, and the same hour again after a row of it has been corrected."""
    pytest.importorskip("airflow.providers.sqlite.hooks.sqlite", reason="Airflow's provider sqlite is not installed")
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with closing(sqlite3.connect(path)) as warehouse, warehouse:
        warehouse.execute("CREATE TABLE usage (id INTEGER, account TEXT, at_utc TEXT, tokens INTEGER)")
        rows = [(n, f"a{n % 3}", f"2026-03-01T{n // 60:02}:{n % 60:02}:00Z", n) for n in range(180)]
        warehouse.executemany("INSERT INTO usage VALUES (?, ?, ?, ?)", rows)
    dag = example("warehouse_to_polar")
    for hour, minute in ((1, 0), (2, 0)):
        run = run_dag(dag, logical_date=datetime(2026, 3, 1, hour, minute, tzinfo=UTC))
        assert run.state == "success"
        assert run.xcom("ingest")["inserted"] == 60
    assert sorted(event["metadata"]["tokens"] for event in polar_server.events()) == list(range(120))

    with closing(sqlite3.connect(path)) as warehouse, warehouse:
        warehouse.execute("UPDATE usage SET tokens = 1000 WHERE id = 100")
    dag.get_task("ingest").window = "90 minutes"
    assert run_dag(dag, logical_date=datetime(2026, 3, 1, 2, 15, tzinfo=UTC)).state == "failed"
    assert polar_server.count() == 120


def test_flights_pipeline(example, run_dag, polar_server):
    """The demo's DAG for its shortest day of the year: 23 hours, 908 departures."""
    polar_server.seed("demo")  # for its meter
    there = polar_server.count()
    run = run_dag(example("flights_pipeline"), run_conf={"day": "2013-03-10"})
    assert run.state == "success"
    assert polar_server.count() == there + run.xcom("ingest")["events"]
    verified = run.xcom("verify")
    assert (verified["hours"], verified["events"], verified["equal"]) == (23, 908, True)

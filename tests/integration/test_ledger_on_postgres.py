"""The ledger over PostgreSQL: 10,000 windows among 100,000 task instances are small, and asked for by indexes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.postgres import Postgres, postgres
from tests.paths import ROOT

__all__ = ["postgres"]


@pytest.fixture(scope="module")
def measured(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("psycopg2", reason="Airflow reaches PostgreSQL by psycopg2, which is not installed")
    pytest.importorskip("asyncpg", reason="Airflow reaches PostgreSQL by asyncpg, too, which is not installed")
    uri = postgres.uri.replace("postgresql://", "postgresql+psycopg2://")
    home = tmp_path_factory.mktemp("airflow-on-postgres")
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": uri}
    for command in (["airflow", "db", "migrate"], ["benchmarks.ledger_page"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    if folder := os.environ.get("LEDGER_MEASURED"):
        Path(folder).write_text(done.stdout.splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def test_ten_thousand_windows_are_less_than_a_megabyte(measured: Any) -> None:
    assert measured["windows"] >= 10_000
    assert measured["task_instance"] > 100_000
    assert measured["bytes"] < 1_000_000
    assert measured["compressed"] < 200_000


def test_every_query_goes_by_an_index(measured: Any) -> None:
    plans = {sql: "\n".join(plan) for sql, plan in measured["plans"].items()}
    assert len(plans) >= 4
    assert [plan for plan in plans.values() if re.search(r"Seq Scan on (xcom|task_instance|dag_run)\b", plan)] == []

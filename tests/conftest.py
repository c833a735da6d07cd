"""One Airflow home a session, made before anything imports Airflow; its database only for tests that ask for it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

_home = tempfile.TemporaryDirectory(prefix="airflow-polar-tests-", ignore_cleanup_errors=True)
AIRFLOW_HOME = Path(_home.name)
for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "POLAR_LOCAL"))]:
    del os.environ[name]
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(AIRFLOW_HOME / "dags"),
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "NO_PROXY": "*",
}
(AIRFLOW_HOME / "dags").mkdir()


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The session's AIRFLOW_HOME, without a database unless ``airflow_db`` is asked for too."""
    return AIRFLOW_HOME


@pytest.fixture(scope="session")
def _in_process() -> Iterator[None]:
    """Mends ``dag.test()`` of Airflow before 3.3, which builds its API anew, for seconds, before each task; that of 3.0
    also hands a task the date of its first reschedule as text, where a worker hands it a date."""
    if tuple(map(int, version("apache-airflow-core").split(".")[:2])) >= (3, 3):
        yield
        return
    from airflow.sdk.execution_time import supervisor
    from airflow.sdk.execution_time.comms import TaskRescheduleStartDate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "in_process_api_server", cache(supervisor.in_process_api_server))
        patch.setattr(TaskRescheduleStartDate, "model_construct", TaskRescheduleStartDate)
        yield


@pytest.fixture(scope="session")
def airflow_db(airflow_home: Path, _in_process: None) -> Path:
    """A migrated metadata database (SQLite)."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=300)
    return airflow_home / "airflow.db"


@pytest.fixture
def run_dag(airflow_db: Path) -> Callable[..., Any]:
    """``run_dag(dag, logical_date=..., run_conf=...)`` runs a DAG object in this process by ``dag.test()``, through
    Airflow's real task runner, and returns a :class:`Run`. Deferred tasks run their trigger in this process too."""
    from tests.airflow_env import run_dag

    return run_dag


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, polar_connection: str) -> Callable[[str], Any]:
    """Loads an example DAG by its file's name, its lake in a temporary folder."""
    monkeypatch.setenv("POLAR_DEMO_LAKE", f"file://{tmp_path}")

    def load(name: str) -> Any:
        return runpy.run_path(str(Path(__file__).parents[1] / "dags_examples" / f"{name}.py"))["dag"]

    return load

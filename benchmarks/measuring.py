"""Runs a client of :mod:`benchmarks.export_clients` against a local Polar and holds its files against the truth."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_polar.testing import LocalPolar


@dataclass
class Measured:
    """What a client did; ``error`` is its last line if it failed."""

    client: str
    rows: int = 0
    distinct: int = 0
    lost: int = 0
    seconds: float = 0.0
    requests: int = 0
    peak_mb: float = 0.0
    error: str = ""

    @property
    def verdict(self) -> str:
        """Whether the files are the truth."""
        if self.error:
            return f"failed: {self.error[:60]}"
        return "exact" if not self.lost and self.rows == self.distinct else "NOT exact"


def ids(folder: Path) -> Iterator[str]:
    """The ids in every file of JSON lines below a directory."""
    for path in folder.rglob("*.jsonl*"):
        if "/_dlt" in str(path) or "/state/" in str(path):
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        yield from (json.loads(line)["id"] for line in content.splitlines())


def measure(polar: LocalPolar, client: str, due: set[str], start: str, end: str, **options: Any) -> Measured:
    """Runs one client over [start, end) and counts."""
    polar.clear_requests()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        job = {"base_url": polar.base_url, "token": polar.token, "folder": folder, "start": start, "end": end} | options
        quiet = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
        command = [sys.executable, "-m", "benchmarks.export_clients", client, json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet, check=False)
        requests = sum(record.path.rstrip("/") == "/v1/events" for record in polar.requests)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["?"])[-1]
            return Measured(client, requests=requests, error=last)
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        found = Counter(ids(Path(folder)))
    return Measured(client, found.total(), len(found), len(due - set(found)), requests=requests, **figures)


def table(results: list[Measured], due: int) -> str:
    """The results as Markdown."""
    lines = [
        f"| client | of {due:,} events | given twice | lost | seconds | requests | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for m in results:
        lines.append(
            f"| {m.client} | {m.verdict} | {m.rows - m.distinct:,} | {m.lost:,} | {m.seconds:.1f} | {m.requests:,} "
            f"| {m.peak_mb:.0f} MB |"
        )
    return "\n".join(lines)

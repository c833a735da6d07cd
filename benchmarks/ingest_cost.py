"""What an ingest costs this process: ``python -m benchmarks.ingest_cost [--events N] [--on-invalid skip]``.

The server is a process of its own that stores nothing and responds at once with the right counts. Printed are events a
second, and events a second of processor time, from rows of a JSONL file to the summary; the best of three rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.ingesting.ingest import Ingest
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.sources import rows_of_files
from benchmarks.costing import print_rounds, serving

START = datetime(2026, 1, 1, tzinfo=UTC)


def _counts(_head: bytes, body: bytes) -> bytes:
    return json.dumps({"inserted": body.count(b'"external_id":'), "duplicates": 0}).encode()


def _write(path: Path, events: int) -> None:
    with path.open("w") as file:
        for number in range(events):
            event = {
                "name": "flight.departed",
                "external_customer_id": f"c{number % 17}",
                "timestamp": (START + timedelta(seconds=number)).isoformat(),
                "metadata": {"flight": number, "origin": "JFK", "dest": "LAX", "dep_delay": number / 4},
            }
            file.write(json.dumps(event) + "\n")


def main() -> None:
    """Prints the figures of each round and the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--on-invalid", choices=["fail", "skip"], default="fail")
    given = parser.parse_args()
    options = IngestOptions("benchmark", on_invalid=given.on_invalid)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(_counts) as url,
        PolarClient("polar_oat_benchmark", base_url=url) as client,
    ):
        file = Path(folder) / "usage.jsonl"
        _write(file, given.events)

        def ingest() -> str:
            summary = Ingest(lambda: client, options).run(rows_of_files([file]))
            assert summary.inserted == given.events
            return f"{summary.batches:,} batches"

        print_rounds(given.events, ingest)


if __name__ == "__main__":
    main()

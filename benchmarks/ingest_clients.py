"""One client, one ingest of a gzipped JSONL file, in a process of its own: ``python ingest_clients.py NAME '{...}'``.

Each sends the same events, a thousand a request, as its documentation shows. The last line of output is JSON: seconds
without those of imports, those of them on the processor, and peak memory; requests and what is stored are counted by
the server.
"""

from __future__ import annotations

import gzip
import itertools
import json
import resource
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

Job = dict[str, Any]
ADAPTERS = Path(__file__).parents[1] / "airflow_provider_polar/testing/acceptance/adapters"
BATCH = 1000


def _events(job: Job) -> Iterator[dict[str, Any]]:
    with gzip.open(job["file"], "rt") as file:
        yield from map(json.loads, file)


def _batches(job: Job) -> Iterator[list[dict[str, Any]]]:
    events = _events(job)
    while batch := list(itertools.islice(events, BATCH)):
        yield batch


def _adapter(name: str) -> Any:
    """What the acceptance suite has of a client, loaded by its path, for its name may be that of a package."""
    return runpy.run_path(str(ADAPTERS / "run.py"))["load"](name)


def ours(job: Job) -> None:
    """PolarIngestEventsOperator, with the default number of requests in flight."""
    options = {"source": f"file://{job['file']}", "requests_per_minute": job["requests_per_minute"]}
    _adapter("ours").ingest(job["base_url"], job["token"], (), **options)


def polar_sdk(job: Job) -> None:
    """Polar's own SDK, which never sends a request again."""
    _adapter("polar_sdk").ingest(job["base_url"], job["token"], _events(job))


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
    _adapter("dlt").send(job["base_url"], job["token"], _events(job), job["folder"])


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

"""One client, one export, in a process of its own: ``python -m benchmarks.export_clients NAME '{...}'``.

Each does what its documentation shows for reading a list page by page between two timestamps, oldest first, a hundred
rows a page, and writes JSON lines to a directory. The last line of output is JSON: seconds, without those of imports,
and peak memory; requests are counted by the server.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Job = dict[str, Any]
ADAPTERS = Path(__file__).parents[1] / "airflow_provider_polar/testing/acceptance/adapters"


def _adapter(name: str) -> Any:
    """What the acceptance suite has of a client, loaded by its path, for its name may be that of a package."""
    return runpy.run_path(str(ADAPTERS / "run.py"))["load"](name)


def ours(job: Job) -> None:
    """PolarExportEventsOperator."""
    options = {"max_concurrency": job.get("max_concurrency", 4)}
    _adapter("ours").export(job["base_url"], job["token"], job["start"], job["end"], job["folder"], **options)


def polar_sdk(job: Job) -> None:
    """Polar's own SDK, page by page. Unlike the others it makes objects of the rows; written is what they hold."""
    rows = _adapter("polar_sdk").list_events(job["base_url"], job["token"], job["start"], job["end"])
    with Path(job["folder"], "events.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def dlt(job: Job) -> None:
    """A dlt pipeline of its REST source to its filesystem destination."""
    _adapter("dlt").load(job["base_url"], job["token"], job["start"], job["end"], job["folder"])


def http_operator(job: Job) -> None:
    """Airflow's HttpOperator with a pagination function, its XCom written to a file."""
    from urllib.parse import parse_qs, urlsplit

    from airflow.providers.http.operators.http import HttpOperator

    url = urlsplit(job["base_url"])
    connection = {"conn_type": "http", "schema": "http", "host": url.hostname, "port": url.port}
    os.environ["AIRFLOW_CONN_HTTP_DEFAULT"] = json.dumps(connection)
    params = {"limit": 100, "sorting": "timestamp", "start_timestamp": job["start"], "end_timestamp": job["end"]}

    def next_page(response: Any) -> dict[str, Any] | None:
        page = int(parse_qs(urlsplit(response.request.url).query).get("page", ["1"])[0])
        return {"data": params | {"page": page + 1}} if page < response.json()["pagination"]["max_page"] else None

    pages = HttpOperator(
        task_id="export",
        method="GET",
        endpoint="v1/events/",
        data=params,
        headers={"Authorization": f"Bearer {job['token']}"},
        pagination_function=next_page,
        response_filter=lambda answers: [answer.json()["items"] for answer in answers],
    ).execute({})
    with Path(job["folder"], "events.jsonl").open("w") as file:
        for items in pages:
            file.writelines(json.dumps(item) + "\n" for item in items)


CLIENTS: dict[str, Callable[[Job], None]] = {
    "this provider": ours,
    "polar-sdk": polar_sdk,
    "dlt": dlt,
    "HttpOperator": http_operator,
}
MODULES = {
    "this provider": ("airflow_provider_polar.operators.export", "airflow.providers.common.compat.sdk"),
    "polar-sdk": ("polar.v2026_04",),
    "dlt": ("dlt", "dlt.sources.rest_api"),
    "HttpOperator": ("airflow.providers.http.operators.http",),
}


def preload(name: str) -> None:
    """Imports what a client needs, so that its seconds are those of its work: a task of Airflow has Airflow loaded."""
    for module in MODULES[name.partition(",")[0]]:
        import_module(module)


def peak_mb() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux a process starts with the peak of the one that it was forked from.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    preload(sys.argv[1])
    started = time.monotonic()
    CLIENTS[sys.argv[1]](json.loads(sys.argv[2]))
    print(json.dumps({"seconds": time.monotonic() - started, "peak_mb": peak_mb()}))

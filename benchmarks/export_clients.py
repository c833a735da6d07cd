"""One client, one export, in a process of its own: ``python -m benchmarks.export_clients NAME '{...}'``.

Each does what its documentation shows for reading a list page by page between two timestamps, oldest first, a hundred
rows a page, and writes JSON lines to a directory. The last line of output is JSON: seconds, without those of imports,
and peak memory; requests are counted by the server.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Job = dict[str, Any]


def ours(job: Job) -> None:
    """PolarExportEventsOperator."""
    from airflow_provider_polar.operators.export import PolarExportEventsOperator

    connection = {"conn_type": "polar", "host": job["base_url"], "password": job["token"]}
    os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = json.dumps(connection)
    PolarExportEventsOperator(
        task_id="export",
        destination=f"file://{job['folder']}",
        start=job["start"],
        end=job["end"],
        requests_per_minute=1_000_000,
        max_concurrency=job.get("max_concurrency", 4),
    ).execute({})


def polar_sdk(job: Job) -> None:
    """Polar's own SDK, page by page. Unlike the others it makes objects of the rows; written is what they hold."""
    from dataclasses import asdict

    from polar.v2026_04 import Polar

    polar = Polar(job["token"], base_url=job["base_url"])
    window = {"start_timestamp": job["start"], "end_timestamp": job["end"]}
    page = pages = 1
    with Path(job["folder"], "events.jsonl").open("w") as file:
        while page <= pages:
            answer = polar.events.list(**window, limit=100, sorting=["timestamp"], page=page)
            file.writelines(json.dumps(asdict(item)) + "\n" for item in answer.items)
            page, pages = page + 1, answer.pagination.max_page


def dlt(job: Job) -> None:
    """A dlt pipeline of its REST source to its filesystem destination."""
    import dlt as library
    from dlt.sources.rest_api import rest_api_source

    source = rest_api_source(
        {
            "client": {
                "base_url": job["base_url"],
                "auth": {"type": "bearer", "token": job["token"]},
                "paginator": {"type": "page_number", "base_page": 1, "total_path": "pagination.max_page"},
            },
            "resources": [
                {
                    "name": "events",
                    "max_table_nesting": 0,
                    "endpoint": {
                        "path": "/v1/events/",
                        "data_selector": "items",
                        "params": {
                            "limit": 100,
                            "sorting": "timestamp",
                            "start_timestamp": job["start"],
                            "end_timestamp": job["end"],
                        },
                    },
                }
            ],
        }
    )
    pipeline = library.pipeline(
        "polar_events",
        pipelines_dir=f"{job['folder']}/state",
        destination=library.destinations.filesystem(f"file://{job['folder']}/out"),
        dataset_name="events",
    )
    pipeline.run(source, loader_file_format="jsonl")


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

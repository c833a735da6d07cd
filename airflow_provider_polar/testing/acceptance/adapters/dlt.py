"""A dlt pipeline from its REST source to its filesystem destination, and to a destination function that ingests."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DISTRIBUTION = "dlt"
BATCH = 1000


def load(base_url: str, token: str, start: str, end: str, folder: str, state: str = "") -> None:
    """A window to JSON Lines below a folder; with a state, from where the last load with it ended."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    params = {"limit": 100, "sorting": "timestamp", "end_timestamp": end}
    window: dict[str, Any] = {"params": {**params, "start_timestamp": start}}
    if state:
        cursor = {"start_param": "start_timestamp", "cursor_path": "timestamp", "initial_value": start}
        window = {"params": params, "incremental": cursor}
    source: Any = rest_api_source(
        {
            "client": {
                "base_url": base_url,
                "auth": {"type": "bearer", "token": token},
                "paginator": {"type": "page_number", "base_page": 1, "total_path": "pagination.max_page"},
            },
            "resources": [
                {
                    "name": "events",
                    "max_table_nesting": 0,
                    "endpoint": {"path": "/v1/events/", "data_selector": "items", **window},
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        "polar_events",
        pipelines_dir=state or f"{folder}/state",
        destination=dlt.destinations.filesystem(f"file://{folder}/out"),
        dataset_name="events",
    )
    pipeline.run(source, loader_file_format="jsonl")


def _files(folder: str) -> set[Path]:
    return set(Path(folder, "out", "events", "events").rglob("*.jsonl*"))


def _rows(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in sorted(files):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for row in map(json.loads, content.splitlines()):
            yield {name: value for name, value in row.items() if not name.startswith("_dlt")}


def list_events(base_url: str, token: str, start: str, end: str) -> Iterator[dict[str, Any]]:
    """The rows of the files."""
    with _temporary() as folder:
        load(base_url, token, start, end, folder)
        yield from _rows(_files(folder))


def sync(base_url: str, token: str, start: str, end: str, state: str) -> Iterator[dict[str, Any]]:
    """The rows of the files that an incremental load adds; dlt forgets its state with the files."""
    before = _files(state)
    with _temporary():
        load(base_url, token, start, end, state, f"{state}/state")
    yield from _rows(_files(state) - before)


def ingest(base_url: str, token: str, events: Iterable[dict[str, Any]]) -> None:
    """With dlt's own requests, which are sent again."""
    with _temporary() as folder:
        send(base_url, token, events, folder)


def send(base_url: str, token: str, events: Iterable[dict[str, Any]], folder: str) -> None:
    """Events through a pipeline whose state lies in a folder."""
    import dlt
    from dlt.sources.helpers import requests

    @dlt.destination(batch_size=BATCH, name="polar", skip_dlt_columns_and_tables=True, max_table_nesting=0)
    def polar(items: Any, table: Any) -> None:  # noqa: ARG001
        response = requests.post(
            base_url + "/v1/events/ingest",
            data=json.dumps({"events": items}, default=str),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        response.raise_for_status()

    dlt.pipeline("departures", destination=polar, pipelines_dir=folder).run(events, table_name="events")


def _temporary() -> Any:
    """A folder for the files of a load, and for what dlt keeps of a machine."""
    folder = tempfile.TemporaryDirectory()
    os.environ.setdefault("DLT_DATA_DIR", f"{folder.name}/data")
    return folder

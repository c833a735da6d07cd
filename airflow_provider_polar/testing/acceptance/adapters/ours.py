"""Ours: the export operator, whose state are the manifests in its destination, and the ingest operator."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

DISTRIBUTION = "airflow-provider-polar"
_NO_BUDGET = 1_000_000
"""Requests a minute: a local server's budget is shared with nobody."""


def _connect(base_url: str, token: str) -> None:
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="acceptance-airflow-"))
    os.environ["AIRFLOW_CONN_POLAR_DEFAULT"] = json.dumps({"conn_type": "polar", "host": base_url, "password": token})


def export(base_url: str, token: str, start: str, end: str, folder: str, **options: Any) -> None:
    """A window to JSON Lines in a folder."""
    _connect(base_url, token)
    from airflow_provider_polar.operators.export import PolarExportEventsOperator

    options = {"requests_per_minute": _NO_BUDGET, **options}
    PolarExportEventsOperator(
        task_id="export", destination=f"file://{folder}", start=start, end=end, **options
    ).execute({})


def _exported(folder: str) -> dict[str, dict[str, Any]]:
    """What the manifests in a folder name, by id."""
    events: dict[str, dict[str, Any]] = {}
    for manifest in Path(folder).rglob("*manifest.json"):
        for file in json.loads(manifest.read_text())["files"]:
            rows = map(json.loads, (Path(folder) / file["path"]).read_text().splitlines())
            events.update((row["id"], row) for row in rows)
    return events


def list_events(base_url: str, token: str, start: str, end: str) -> Iterator[dict[str, Any]]:
    """The rows of a window's files."""
    with tempfile.TemporaryDirectory() as folder:
        export(base_url, token, start, end, folder)
        for path in sorted(Path(folder).rglob("*.jsonl")):
            yield from map(json.loads, path.read_text().splitlines())


def sync(base_url: str, token: str, start: str, end: str, state: str) -> Iterator[dict[str, Any]]:
    """What the destination gains by an export of the rest of the window that looks back over the earlier windows."""
    before, until = _exported(state), Path(state, "until")
    since = until.read_text() if until.exists() else start
    if datetime.fromisoformat(since) >= datetime.fromisoformat(end):
        since = start
    export(base_url, token, since, end, state, lookback=1_000)
    until.write_text(end)
    yield from (row for event_id, row in _exported(state).items() if event_id not in before)


def ingest(base_url: str, token: str, events: Iterable[dict[str, Any]], **options: Any) -> None:
    """Events in one task."""
    _connect(base_url, token)
    from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

    options = {"requests_per_minute": _NO_BUDGET, **options}
    if "source" not in options:
        options["events"] = list(events)
    ti: Any = SimpleNamespace(dag_id="acceptance", task_id="ingest", run_id="run", map_index=-1)
    context: Any = {"ti": ti}
    PolarIngestEventsOperator(task_id="ingest", **options).execute(context)

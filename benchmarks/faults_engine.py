"""The engines as the marathon of faults drives them: the one place to adapt when their interfaces change."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.events.exporting.export import WindowExport
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.exporting.writers import FileLayout
from airflow_provider_polar.events.ingesting.identity import run_scope
from airflow_provider_polar.events.ingesting.ingest import Ingest, IngestOptions
from airflow_provider_polar.events.ingesting.sources import Row
from airflow_provider_polar.events.reading.driver import CompleteReader
from airflow_provider_polar.events.window import EventWindow

Strike = Callable[[str], None]
"""Called before and after each operation (``http``, ``store``); raises what is to go wrong there."""


class StruckTransport(httpx.HTTPTransport):
    """Lets a strike come before a request and after its response."""

    def __init__(self, strike: Strike) -> None:
        super().__init__()
        self._strike = strike

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._strike("http")
        response = super().handle_request(request)
        self._strike("http")
        return response


class StruckDirectory(Directory):
    """Lets a strike come before and after each operation on the store."""

    def __init__(self, folder: str, strike: Strike) -> None:
        self._strike: Strike = lambda _: None
        super().__init__(UPath(f"file://{folder}"))
        self._strike = strike

    @contextmanager
    def _saying(self, doing: str, name: str, hint: str = "") -> Iterator[None]:
        with super()._saying(doing, name, hint):
            self._strike("store")
            yield
            self._strike("store")


def client(base_url: str, token: str, strike: Strike) -> PolarClient:
    """A client with little patience, so that a marathon does not spend its time in waiting."""
    return PolarClient(
        token, base_url=base_url, retries=Retries(4, 0.005, 0.02), timeout=5, transport=StruckTransport(strike)
    )


def export(
    polar: PolarClient, folder: str, strike: Strike, window: tuple[str, str], on_incomplete: Literal["fail", "warn"]
) -> None:
    """Exports a window in slices of about 100 events."""
    span = EventWindow.from_dict({"start": window[0], "end": window[1]})
    WindowExport(
        CompleteReader(polar, EventFilters()),
        StruckDirectory(folder, strike),
        span,
        EventFilters(),
        FileLayout(),
        server=polar.wire.base_url,
        on_incomplete=on_incomplete,
        max_concurrency=2,
        target_rows=100,
    ).run()


def ingest(polar: PolarClient, events: list[dict[str, Any]]) -> None:
    """Ingests events in batches of 40 under an identity that only their content decides."""
    options = IngestOptions(run_scope("dag", "task", "run", -1), batch_size=40, max_concurrency=2)
    Ingest(lambda: polar, options).run([Row(0, number, event) for number, event in enumerate(events, 1)])


def main(job: dict[str, Any]) -> None:
    """One run in a process of its own, which is to be killed."""
    with client(job["base_url"], job["token"], lambda _: None) as polar:
        if job["kind"] == "export":
            export(polar, job["folder"], lambda _: None, job["window"], "fail")
        else:
            ingest(polar, job["events"])


if __name__ == "__main__":
    main(json.load(sys.stdin))

"""The engines as the marathon of faults drives them: the one place to adapt when their interfaces change.

As a process of its own it does one job and dies by SIGKILL where it is told to: ``python -m benchmarks.faults_engine``.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.exporting.lookback import look_back
from airflow_provider_polar.engine.exporting.manifest import Manifest
from airflow_provider_polar.engine.exporting.shards import Assembly, plan_shards
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.identity import run_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest, IngestOptions
from airflow_provider_polar.engine.ingesting.sources import Row
from airflow_provider_polar.engine.reading.reader import CompleteReader
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarError, PolarIncompleteError

Job = dict[str, Any]
NO_FILTERS = EventFilters()


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it, and nothing happens after it."""


@dataclass
class Strikes:
    """What goes wrong at an operation: before or after a request, before or after an operation of the store.

    :param death: the operation at which, and at every later one, the job is killed.
    :param failure: the operation from which on the store fails once.
    :param kill: how it dies.
    """

    death: int | None = None
    failure: int | None = None
    kill: Callable[[], None] = lambda: None
    fired: list[str] = field(default_factory=list)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, what: str) -> None:
        with self._lock:
            self._number += 1
            if self.death is not None and self._number >= self.death:
                if self._number == self.death:
                    self.fired.append("death")
                self.kill()
                raise Killed
            if what == "store" and self.failure is not None and self._number >= self.failure:
                self.failure = None
                self.fired.append("store")
                raise OSError("the store is away")


class StruckTransport(httpx.HTTPTransport):
    """Lets a strike come before a request and after its response."""

    def __init__(self, strike: Strikes) -> None:
        # The local Polar speaks plain HTTP, and to load the certificates takes longer than most runs.
        super().__init__(verify=False)
        self._strike = strike

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._strike("http")
        response = super().handle_request(request)
        self._strike("http")
        return response


class StruckDirectory(Directory):
    """Lets a strike come before and after each operation on the store."""

    def __init__(self, folder: str, strike: Strikes) -> None:
        self._strike: Callable[[str], None] = lambda _: None
        super().__init__(UPath(f"file://{folder}"))
        self._strike = strike

    @contextmanager
    def _saying(self, doing: str, name: str) -> Iterator[None]:
        with super()._saying(doing, name):
            self._strike("store")
            yield
            self._strike("store")


class Memory:
    """The saved progress of an ingest, as Airflow's task state keeps it between attempts."""

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def load(self) -> Any:
        return self._state

    def save(self, state: dict[str, Any]) -> None:
        self._state = state

    def clear(self) -> None:
        self._state = None


def do(job: Job, strike: Strikes, memory: Memory | None = None) -> Any:
    """Does a job as the operators do theirs; its result as JSON."""
    # Hardly any patience, so that a marathon does not spend its time in waiting.
    transport, retries = StruckTransport(strike), Retries(4, 0.002, 0.01)
    with PolarClient(job["token"], base_url=job["base_url"], retries=retries, timeout=5, transport=transport) as client:
        if job["do"] == "ingest":
            return _ingest(client, job, memory)
        work = _Exporting(client, StruckDirectory(job["folder"], strike), job)
        return getattr(work, job["do"])(EventWindow.from_dict(job["window"]))


def _ingest(client: PolarClient, job: Job, memory: Memory | None) -> Any:
    options = IngestOptions(run_scope("dag", "task", "run", -1), job["on_invalid"], batch_size=40, max_concurrency=2)
    rows = [Row(0, number, event) for number, event in enumerate(job["events"], 1)]
    return Ingest(lambda: client, options, progress=memory).run(rows).to_dict()


class _Exporting:
    def __init__(self, client: PolarClient, directory: Directory, job: Job) -> None:
        self._client, self._directory, self._job = client, directory, job
        self._reader = CompleteReader(client, NO_FILTERS)

    def _window_export(self, window: EventWindow, on_incomplete: Any = None) -> WindowExport:
        return WindowExport(
            self._reader,
            self._directory,
            window,
            NO_FILTERS,
            FileLayout(),
            server=self._client.server.base_url,
            on_incomplete=on_incomplete or self._job["on_incomplete"],
            max_concurrency=2,
            target_rows=100,
        )

    def export(self, window: EventWindow) -> None:
        self._window_export(window).run()

    def look_back(self, window: EventWindow) -> None:
        """The export of a window, and again of every window before it that is not as Polar counts it."""
        found = look_back(self._reader, self._directory, NO_FILTERS, FileLayout(), window, 100)
        failure = None
        for earlier in sorted((*found.changed, *found.incomplete)):
            try:
                self.export(earlier)
            except PolarIncompleteError as error:
                failure = error
        self.export(window)
        if failure is not None:
            raise failure

    def plan(self, window: EventWindow) -> list[dict[str, str]]:
        return [shard.to_dict() for shard, _ in plan_shards(self._reader, window, self._job["shards"])]

    def assemble(self, window: EventWindow) -> None:
        def again(shard: EventWindow, before: Manifest) -> Manifest:
            return self._window_export(shard, "fail" if before.complete else "warn").run()

        shards = [EventWindow.from_dict(shard) for shard in self._job["plan"]]
        assembly = Assembly(self._reader, self._directory, shards, NO_FILTERS, again)
        assert assembly.window == window
        assembly.run()


def told(error: BaseException) -> dict[str, Any]:
    """An error as a process hands it over."""
    return {"kind": type(error).__name__, "message": str(error), "is_ours": isinstance(error, PolarError)}


def main() -> None:
    """One job in a process of its own: what came of it, as a line of JSON."""
    logging.getLogger("airflow_provider_polar").setLevel(logging.CRITICAL)
    job = json.load(sys.stdin)
    strike = Strikes(job["death"], job["failure"], lambda: os.kill(os.getpid(), signal.SIGKILL))
    try:
        outcome = {"result": do(job, strike), "error": None}
    except Exception as error:
        outcome = {"result": None, "error": told(error)}
    print(json.dumps({**outcome, "fired": strike.fired}))


if __name__ == "__main__":
    main()

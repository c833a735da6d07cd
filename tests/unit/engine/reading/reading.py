"""A reader over a local Polar, and what its events are in truth."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.reading.reader import CompleteReader
from airflow_provider_polar.engine.reading.reports import SliceReport
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.testing import LocalPolar

TOKEN = "polar_oat_test"
DAY = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = EventWindow(DAY, DAY + timedelta(days=1))
MICROSECOND = timedelta(microseconds=1)


def event(moment: datetime, name: str = "call", customer: str = "c1", **metadata: Any) -> dict[str, Any]:
    return {"name": name, "timestamp": moment, "external_customer_id": customer, "metadata": metadata}


def scattered(count: int, seed: int = 1, within: timedelta = timedelta(days=1), **step: int) -> list[dict[str, Any]]:
    """Events at random microseconds, or at random multiples of ``timedelta(**step)``."""
    rng = random.Random(seed)
    unit = timedelta(**step) if step else MICROSECOND
    return [event(DAY + rng.randrange(within // unit) * unit, n=rng.randrange(10**6)) for _ in range(count)]


@dataclass
class Readings:
    """A reader, every row that it handed on last, and what it reported with them."""

    polar: LocalPolar
    client: PolarClient
    rows: list[EventRow] = field(default_factory=list)
    so_far: list[SliceReport] = field(default_factory=list)
    filters: dict[str, Any] | None = None

    @property
    def reader(self) -> CompleteReader:
        return CompleteReader(self.client, self.filters)

    def read(self, window: EventWindow = WINDOW) -> SliceReport:
        """Reads a slice; the rows are in order, each once, inside the window, as many as the report says."""
        before = len(self.polar.requests)
        rows: list[EventRow] = []
        reports: list[SliceReport] = []

        def sink(more: list[EventRow], so_far: SliceReport) -> None:
            rows.extend(more)
            reports.append(so_far)
            assert so_far.window.start == window.start
            assert so_far.window.end <= window.end
            assert so_far.rows == len(rows)
            assert all(row.timestamp in so_far.window for row in rows)
            assert so_far.counted == so_far.before + so_far.rows + so_far.repeated + so_far.lost + so_far.after
            assert so_far.after == 0 or so_far.window.end == window.end

        report = self.reader.read(window, sink)
        self.so_far = reports
        assert [(row.timestamp, row.id) for row in rows] == sorted({(row.timestamp, row.id) for row in rows})
        assert all(row.timestamp in window for row in rows)
        assert report.rows == len(rows)
        assert report.requests == len(self.polar.requests) - before
        assert report.counted == report.before + report.rows + report.repeated + report.lost + report.after
        self.rows = rows
        return report

    @property
    def ids(self) -> set[str]:
        return {row.id for row in self.rows}

    def truth(self, window: EventWindow = WINDOW) -> set[str]:
        return {
            item["id"]
            for item in self.polar.events()
            if datetime.fromisoformat(item["timestamp"]).replace(tzinfo=UTC) in window
        }


@contextmanager
def readings(**options: Any) -> Iterator[Readings]:
    """A local Polar with the given options, and a reader of it."""
    with LocalPolar(token=TOKEN, **options) as polar, PolarClient(TOKEN, base_url=polar.base_url) as client:
        yield Readings(polar, client)

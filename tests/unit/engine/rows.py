"""Events as rows, and a reader that gives them from memory: for the tests of what happens after reading."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow, RowPage, from_ms
from airflow_provider_polar.engine.files.fields import EVENT_FIELDS
from airflow_provider_polar.engine.reading.reports import NOT_GIVEN, Discrepancy, SliceReport
from airflow_provider_polar.engine.reading.slices import Plan, TargetRows
from airflow_provider_polar.engine.window import EventWindow, moment_text

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = EventWindow(START, START + timedelta(hours=1))


def event(moment: datetime, number: int = 0, **values: Any) -> dict[str, Any]:
    """An event as the API gives it."""
    defaults = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{moment}{number}")),
        "timestamp": moment_text(moment),
        "organization_id": "1dcbb152-fc83-4415-9bb7-be2956dd0a9d",
        "customer_id": None,
        "customer": {"id": "01dbd1f7-b513-4512-ac66-1a647f45a1da", "email": "a@example.com"},
        "external_customer_id": f"cust_{number % 7}",
        "child_count": 0,
        "label": "call",
        "name": "call",
        "source": "user",
        "metadata": {"tokens": number},
    }
    return {name: defaults.get(name) for name in EVENT_FIELDS} | values


def row(value: dict[str, Any]) -> EventRow:
    """The same as the bytes of an answer."""
    return EventRow(msgspec.json.decode(msgspec.json.encode(value), type=dict[str, msgspec.Raw]))


def minutes(number: int, step: timedelta = timedelta(minutes=1)) -> list[dict[str, Any]]:
    """Events from :data:`START` on, evenly spread."""
    return [event(START + step * i, i) for i in range(number)]


@dataclass
class MemoryReader:
    """Reads from a list of events.

    :param pieces: slices to plan.
    :param hidden: ids that are counted and not given.
    :param before_read: called with each slice before it is read.
    """

    events: list[dict[str, Any]]
    pieces: int = 3
    hidden: set[str] = field(default_factory=set)
    before_read: Callable[[EventWindow], None] = lambda window: None
    reads: list[EventWindow] = field(default_factory=list)

    def _in(self, window: EventWindow) -> list[EventRow]:
        found = [r for r in map(row, self.events) if r.timestamp in window]
        return sorted(found, key=lambda r: (r.timestamp, r.id))

    filters = EventFilters()

    def count(self, window: EventWindow, filters: EventFilters | None = None) -> int:
        chosen = (filters or self.filters).name
        return sum(chosen is None or row.get("name") in chosen for row in self._in(window))

    def plan(self, window: EventWindow, *, target_rows: TargetRows) -> Plan:
        return Plan([(part, self.count(part)) for part in window.split(self.pieces)])

    def read(
        self, window: EventWindow, sink: Callable[[list[EventRow], SliceReport], None], *, page: RowPage | None = None
    ) -> SliceReport:
        self.before_read(window)
        self.reads.append(window)
        rows = self._in(window)
        counted = given = start = 0
        report = SliceReport(window, 0)
        while start < len(rows):
            # Rows of one millisecond are handed on together.
            end = bisect_right(rows, rows[min(start + 6, len(rows) - 1)].ms, start, key=lambda r: r.ms)
            handed_on = [r for r in rows[start:end] if r.id not in self.hidden]
            counted, given = end, given + len(handed_on)
            up_to = from_ms(rows[end - 1].ms + 1) if end < len(rows) else window.end
            report = self._report(EventWindow(window.start, up_to), counted, given)
            sink(handed_on, report)
            start = end
        return report

    @staticmethod
    def _report(window: EventWindow, counted: int, given: int) -> SliceReport:
        missing = (Discrepancy(window.start, window.end, counted, given, NOT_GIVEN),) if given < counted else ()
        return SliceReport(window, given, missing=missing)

    def verify(self, reports: Sequence[SliceReport]) -> list[EventWindow]:
        return [report.window for report in reports if self.count(report.window) != report.counted]


def named_by(record: dict[str, Any]) -> list[str]:
    """The objects that a manifest or a staging record names, relative to where it lies."""
    slices = record.get("slices") or []
    entries = [*record.get("files", ()), *(e for part in slices for e in (*part["files"], *part["segments"]))]
    return [*(entry["path"] for entry in entries), *record.get("going", ())]

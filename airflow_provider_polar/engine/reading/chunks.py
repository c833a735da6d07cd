"""A whole window read in chunks, each counted again after it was read. Decisions only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.engine.reading.proof import (
    ARRIVING,
    HandedOn,
    Query,
    Reading,
    Requesting,
    SliceReport,
    requested,
)
from airflow_provider_polar.engine.reading.reader import count_window, read_slice
from airflow_provider_polar.engine.reading.slices import moment_at, whole_second
from airflow_provider_polar.engine.window import EventWindow

CHUNK_ROWS = 10_000
"""Events that :func:`read_proved` holds at once, about."""
_ROUNDS = 3
_CHUNKS = 16
"""Chunks that may turn out far smaller than they are to be, before the rest is taken as one."""


def read_proved(window: EventWindow, filters: EventFilters, *, chunk_rows: int = CHUNK_ROWS) -> Reading[SliceReport]:
    """Yields the rows of a chunk only once it was counted again after its reading.

    So events which arrived meanwhile are in their place. Otherwise it reads a window like
    :func:`~airflow_provider_polar.engine.reading.reader.read_slice`.

    :param chunk_rows: events of a chunk, about, and so of memory.
    """
    reports: list[SliceReport] = []
    requests = 0
    start = window.start
    while start < window.end:
        rest = EventWindow(start, window.end)
        page: RowPage | None = yield from requested(Query.of(rest, filters))
        end, planning = window.end, 0
        few = _CHUNKS + 8 * sum(report.rows for report in reports) // chunk_rows
        if page is not None and page.total_count > chunk_rows and len(reports) < few:
            page, planning = None, 2
            end = yield from _chunk_end(rest, filters, chunk_rows)
        rows, report = yield from _read_chunk(EventWindow(start, end), filters, page)
        requests += planning + report.requests
        reports.append(report)
        if rows:
            yield HandedOn(rows, _joined(EventWindow(window.start, end), reports, requests))
        start = end
    return _joined(window, reports, requests)


def _chunk_end(window: EventWindow, filters: EventFilters, chunk_rows: int) -> Requesting[datetime]:
    """Where a chunk that starts with the window is to end."""
    moment, _ = yield from moment_at(Query.of(window, filters), chunk_rows)
    if moment is None:
        return window.end
    # A millisecond with more events than a chunk is a chunk.
    ends = (whole_second(moment), moment, moment + timedelta(milliseconds=1))
    return next((end for end in ends if window.start < end < window.end), window.end)


def _read_chunk(
    chunk: EventWindow, filters: EventFilters, page: RowPage | None
) -> Reading[tuple[list[EventRow], SliceReport]]:
    requests = 0
    for _ in range(_ROUNDS):
        rows: list[EventRow] = []
        report = yield from _collected(read_slice(chunk, filters, page), rows)
        page = None
        requests += report.requests
        if report.self_proved or not report.proved:
            # One response gave the rows and their count; or the report says already what is missing.
            return rows, replace(report, requests=requests)
        counted = yield from count_window(chunk, filters)
        requests += 1
        if counted <= report.counted:
            return rows, replace(report, requests=requests)
    lack = Query.of(chunk, filters).discrepancy(counted, report.counted, ARRIVING)
    return rows, replace(report, requests=requests, counted=counted, missing=(*report.missing, lack))


def _collected(reading: Reading[SliceReport], rows: list[EventRow]) -> Requesting[SliceReport]:
    response = None
    while True:
        try:
            step = reading.send(response)
        except StopIteration as stop:
            report: SliceReport = stop.value
            return report
        response = None
        if isinstance(step, HandedOn):
            rows += step.rows
        else:
            response = yield step


def _joined(window: EventWindow, reports: Sequence[SliceReport], requests: int) -> SliceReport:
    first, last = reports[0], reports[-1]
    return SliceReport(
        window=window,
        rows=sum(report.rows for report in reports),
        counted=first.before + sum(report.inside for report in reports) + last.after,
        repeated=sum(report.repeated for report in reports),
        missing=tuple(lack for report in reports for lack in report.missing),
        before=first.before,
        after=last.after,
        arrived=sum(report.arrived for report in reports),
        requests=requests,
        self_proved=len(reports) == 1 and first.self_proved,
    )

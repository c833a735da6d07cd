"""A whole window read in one pass: slice after slice, each counted again before its rows are handed on."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.forward import read_slice
from airflow_provider_polar.engine.reading.queries import Query, count_window
from airflow_provider_polar.engine.reading.reports import ARRIVING, Discrepancy
from airflow_provider_polar.engine.reading.slices import moment_at, whole_second
from airflow_provider_polar.engine.window import EventWindow

SLICE_ROWS = 10_000
"""Events that a :class:`WindowStream` holds at once, about."""
_ROUNDS = 3
_SLICES = 16
"""Slices that may turn out far smaller than they are to be, before the rest is taken as one."""


class WindowStream:
    """Reads a window slice by slice.

    The rows of a slice are handed on only once it was counted again after its reading, so that events which arrived
    meanwhile are in their place.

    :param slice_rows: events of a slice, about, and so of memory.
    :ivar rows: events that were handed on.
    :ivar missing: the discrepancies that are not proved.
    """

    def __init__(self, window: EventWindow, filters: EventFilters, *, slice_rows: int = SLICE_ROWS) -> None:
        self.window, self.filters, self.slice_rows = window, filters, slice_rows
        self.rows = self._slices = 0
        self.missing: list[Discrepancy] = []
        self._start = window.start

    @property
    def ended(self) -> bool:
        """Whether the whole window was read."""
        return self._start == self.window.end

    def read_on(self) -> Steps[list[EventRow]]:
        """Reads the next slice: its rows in order of (timestamp, id), each event once."""
        rest = EventWindow(self._start, self.window.end)
        page = yield Query.of(rest, self.filters).request()
        if page.total_count > self.slice_rows and self._slices < _SLICES + 8 * self.rows // self.slice_rows:
            end = yield from self._slice_end(rest)
            rows = yield from self._read_slice(EventWindow(rest.start, end))
        else:
            end = rest.end
            rows = yield from self._read_slice(rest, page)
        self.rows += len(rows)
        self._slices += 1
        self._start = end
        return rows

    def _slice_end(self, rest: EventWindow) -> Steps[datetime]:
        moment, _ = yield from moment_at(Query.of(rest, self.filters), self.slice_rows)
        if moment is None:
            return rest.end
        # A millisecond with more events than a slice is a slice.
        ends = (whole_second(moment), moment, moment + timedelta(milliseconds=1))
        return next((end for end in ends if rest.start < end < rest.end), rest.end)

    def _read_slice(self, window: EventWindow, page: RowPage | None = None) -> Steps[list[EventRow]]:
        rows: list[EventRow] = []
        for _ in range(_ROUNDS):
            rows.clear()
            report = yield from read_slice(window, self.filters, lambda more, _: rows.extend(more), page)
            page = None
            # Either one response gave the rows and their count, or the report says already what is missing.
            if report.self_proved or not report.proved:
                break
            counted = yield from count_window(window, self.filters)
            if counted <= report.counted:
                break
        else:
            self.missing.append(Query.of(window, self.filters).discrepancy(counted, report.counted, ARRIVING))
        self.missing += report.missing
        return rows

"""What one request selects: filters, and a range of whole milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.requests import EventSorting, PolarRequest, list_events
from airflow_provider_polar.api.rows import EventRow, RowPage, to_ms
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.reports import Discrepancy
from airflow_provider_polar.engine.window import NO_END_MS, EventWindow, exclusive_bounds, moment_of, moment_text


@dataclass(frozen=True, slots=True)
class Query:
    """The filters and bounds that one request selects by.

    :param start: first millisecond (since 1970) in it.
    :param end: first millisecond after it.
    :param narrowing: how it was narrowed beyond the user's filters, in words, by property.
    """

    start: int
    end: int
    filters: EventFilters
    narrowing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, window: EventWindow, filters: EventFilters) -> Query:
        """The smallest query that holds a window."""
        return cls(window.start_ms, window.end_ms, filters)

    @classmethod
    def since(cls, start: datetime, filters: EventFilters) -> Query:
        """The smallest query that holds a moment and everything after it."""
        return cls(to_ms(start), NO_END_MS, filters)

    def __str__(self) -> str:
        return f"[{moment_text(moment_of(self.start))}, {moment_text(moment_of(self.end))})"

    def __contains__(self, row: EventRow) -> bool:
        return self.start <= row.ms < self.end

    def request(self, *, page: int = 1, limit: int = MAX_LIMIT, sorting: EventSorting = "timestamp") -> PolarRequest:
        """The request for a page of the query."""
        start, end = exclusive_bounds(self.start, self.end)
        return list_events(
            self.filters,
            start_timestamp=start,
            end_timestamp=end,
            page=page,
            limit=limit,
            sorting=sorting,
        )

    def between(self, start: int, end: int) -> Query:
        """The same filters for another range of milliseconds."""
        return replace(self, start=start, end=end)

    def narrowed(self, filters: EventFilters, words: Mapping[str, str]) -> Query:
        """A part of the query: filters that include its own, and how they differ in words."""
        merged = dict(self.narrowing)
        for key, text in words.items():
            merged[key] = f"{merged[key]} and {text}" if key in merged else text
        return replace(self, filters=filters, narrowing=merged)

    def discrepancy(self, counted: int, given: int, reason: str) -> Discrepancy:
        """The report that the query is not proved."""
        return Discrepancy(moment_of(self.start), moment_of(self.end), counted, given, reason, dict(self.narrowing))


def requested(
    query: Query, *, page: int = 1, limit: int = MAX_LIMIT, sorting: EventSorting = "timestamp"
) -> Steps[RowPage]:
    """Requests a page of a query. Rows outside its bounds are kept: a caller may learn from them."""
    return (yield query.request(page=page, limit=limit, sorting=sorting))


def count_window(window: EventWindow, filters: EventFilters) -> Steps[int]:
    """What Polar counts in the request that holds a window: one request."""
    return (yield Query.of(window, filters).request(limit=1)).total_count

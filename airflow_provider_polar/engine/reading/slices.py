"""Which slices a window is read in, and which of them changed since. Decisions only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import RowPage, from_ms
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.queries import Query, count_window
from airflow_provider_polar.engine.reading.reports import SliceReport, counted_in
from airflow_provider_polar.engine.window import EventWindow

_NEIGHBOURS = 3
"""Places tried for a boundary where the row in the index is not in the store, and boundaries tried in a row."""

TargetRows = int | Callable[[int], int]
"""Events of a slice, about; or what makes that of the number of events in the window."""


def moment_at(query: Query, place: int) -> Steps[tuple[datetime | None, int]]:
    """The millisecond of the event at a place (from 0) of a query in order of time, and what is counted now.

    The count is 0 where the query ends before that place. None for the millisecond where what the index has there and
    next to it is not in the store.
    """
    for neighbour in range(place, place + _NEIGHBOURS):
        page = yield query.request(page=neighbour + 1, limit=1)
        if page.rows:
            return from_ms(page.rows[0].ms), page.total_count
        if page.total_count == 0:
            return None, 0
    return None, page.total_count


def whole_second(moment: datetime) -> datetime:
    """The second that a moment lies in."""
    return moment - timedelta(microseconds=moment.microsecond)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a window is to be read.

    :param slices: adjacent windows that make it up, each with about how many events it holds.
    :param page: the response to the window's first request, where the window is one slice and so can be read from it.
    """

    slices: list[tuple[EventWindow, int]]
    page: RowPage | None = None


def plan_slices(window: EventWindow, filters: EventFilters, *, target_rows: TargetRows) -> Steps[Plan]:
    """Adjacent slices of about ``target_rows`` events that make up the window.

    A boundary is the whole second of the event at every ``target_rows``-th place, so it takes one request a slice,
    depends on the events alone, and boundaries lie close together in a burst; where several fall into one second
    they are whole milliseconds. Each response says anew how many events there are: planning goes no further.
    """
    query = Query.of(window, filters)
    first = yield query.request()
    total = first.total_count
    if callable(target_rows):
        target_rows = target_rows(total)
    if target_rows < 1:
        raise ValueError(f"target_rows is {target_rows}; it must be at least 1")
    edges = [(window.start, 0)]
    place, absent = target_rows, 0
    while place < total and absent < _NEIGHBOURS:
        moment, total = yield from moment_at(query, place)
        absent = absent + 1 if moment is None else 0
        if moment is not None:
            inside = (edge for edge in (whole_second(moment), moment) if edges[-1][0] < edge < window.end)
            edges += [(edge, place) for edge in inside][:1]
        place += target_rows
    if len(edges) == 1:
        return Plan([(window, first.total_count)], first)
    edges.append((window.end, max(total, edges[-1][1])))
    return Plan([(EventWindow(start, end), later - earlier) for (start, earlier), (end, later) in pairwise(edges)])


def find_changed(reports: Sequence[SliceReport], filters: EventFilters) -> Steps[list[EventWindow]]:
    """Which slices count otherwise now than when they were read: the final proof of a window.

    One request where nothing changed; about two for each halving on the way to a slice that did.

    :param reports: of adjacent slices, in order.
    """
    if not reports:
        return []
    whole = EventWindow(reports[0].window.start, reports[-1].window.end)
    counted = yield from count_window(whole, filters)
    if counted == counted_in(reports):
        return []
    if len(reports) == 1:
        return [whole]
    middle = len(reports) // 2
    changed = yield from find_changed(reports[:middle], filters)
    changed += yield from find_changed(reports[middle:], filters)
    # Both halves agree and the whole does not: it changed in between, so nothing here is proved.
    return changed or [report.window for report in reports]

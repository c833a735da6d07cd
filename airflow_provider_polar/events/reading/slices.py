"""Which slices a window is read in, and which of them changed since. Decisions only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.rows import from_ms
from airflow_provider_polar.events.reading.proof import Asking, Box, SliceReport, asked
from airflow_provider_polar.events.window import EventWindow

_NEIGHBOURS = 3
"""Places tried for a boundary where the row in the index is not in the store."""


def moment_at(box: Box, place: int) -> Asking[datetime | None]:
    """The millisecond of the event at a place (from 0) of a box in order of time; None where the box ends before
    it, or where what the index has there and next to it is not in the store."""
    for neighbour in range(place, place + _NEIGHBOURS):
        page = yield from asked(box, page=neighbour + 1, limit=1)
        if page.rows:
            return from_ms(page.rows[0].ms)
        if page.total_count == 0:
            break
    return None


def whole_second(moment: datetime) -> datetime:
    """The second that a moment lies in."""
    return moment - timedelta(microseconds=moment.microsecond)


def plan_slices(
    window: EventWindow, filters: EventFilters, *, target_rows: int
) -> Asking[list[tuple[EventWindow, int]]]:
    """Adjacent slices of about ``target_rows`` events that make up the window, and about how many each holds; the
    counts add up to what Polar counts in the window.

    A boundary is the whole second of the event at every ``target_rows``-th place, so it takes one request a slice,
    depends on the events alone, and boundaries lie close together in a burst; where several fall into one second
    they are whole milliseconds.
    """
    if target_rows < 1:
        raise ValueError(f"target_rows is {target_rows}; it must be at least 1")
    box = Box.of(window, filters)
    total = (yield from asked(box, limit=1)).total_count
    cuts = [(window.start, 0)]
    for place in range(target_rows, total, target_rows):
        moment = yield from moment_at(box, place)
        if moment is not None:
            inside = (cut for cut in (whole_second(moment), moment) if cuts[-1][0] < cut < window.end)
            cuts += [(cut, place) for cut in inside][:1]
    edges = [*cuts, (window.end, total)]
    return [(EventWindow(start, end), later - earlier) for (start, earlier), (end, later) in pairwise(edges)]


def find_changed(reports: Sequence[SliceReport], filters: EventFilters) -> Asking[list[EventWindow]]:
    """Which slices count otherwise now than when they were read: the final proof of a window.

    One request where nothing changed; about two for each halving on the way to a slice that did.

    :param reports: of adjacent slices, in order.
    """
    if not reports:
        return []
    first, last = reports[0], reports[-1]
    grain = max(report.grain for report in reports)
    box = Box.of(EventWindow(first.window.start, last.window.end), filters, grain)
    page = yield from asked(box, limit=1)
    if page.total_count == first.before + sum(report.inside for report in reports) + last.after:
        return []
    if len(reports) == 1:
        return [first.window]
    middle = len(reports) // 2
    changed = yield from find_changed(reports[:middle], filters)
    changed += yield from find_changed(reports[middle:], filters)
    # The parts agree and the whole does not: it changed in between, so nothing here is proved.
    return changed or [report.window for report in reports]

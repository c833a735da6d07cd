"""Reads a box again, ever more finely cut, until it is proved or shown not to be provable."""

from __future__ import annotations

from airflow_provider_polar.api.requests import MAX_LIMIT
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.events.proof import (
    NOT_EXAMINED,
    NOT_GIVEN,
    Asking,
    Box,
    Budget,
    Found,
    asked,
    cell_start,
    reach,
)


def resolve(box: Box, budget: Budget, page: RowPage | None = None) -> Asking[Found]:
    """Everything that Polar gives of a box, and what it counts there besides.

    :param page: its first page, where that was asked already.
    """
    if page is None:
        budget.spend()
        page = yield from asked(box)
    found = Found(row for row in page.rows if row in box)
    if page.total_count <= len(found.rows) + len(found.repeated):
        return found
    if budget.left <= 0:
        return found.lacking(box, page.total_count, NOT_EXAMINED)
    if not found.rows and page.total_count <= MAX_LIMIT:
        return found.lacking(box, page.total_count, NOT_GIVEN)
    cut = _moment_to_cut(box, page.total_count, list(found.rows.values()))
    if cut is not None:
        return (yield from _by_time(box, cut, page.total_count, found, budget))
    return found.lacking(box, page.total_count, NOT_GIVEN)


def _moment_to_cut(box: Box, counted: int, rows: list[EventRow]) -> int | None:
    """Where the second part of the box starts; None where time does not divide it."""
    latest = cell_start(box.end - box.grain, box.grain)
    if latest <= box.start:
        return None
    cells = sorted({cell_start(row.ms, box.grain) for row in rows})
    if not cells:
        cut = cell_start((box.start + box.end) // 2, box.grain)
    else:
        # More than a page: what lies before the page's last cell is known; else the rows' middle.
        cut = cells[-1] if counted > MAX_LIMIT else cells[len(cells) // 2]
        if cut <= box.start:
            cut += box.grain
    return min(max(cut, box.start + box.grain), latest)


def _by_time(box: Box, cut: int, counted: int, known: Found, budget: Budget) -> Asking[Found]:
    first, second = box.between(box.start, reach(cut, box.grain)), box.between(cut, box.end)
    budget.spend()
    page = yield from asked(first)
    found = (yield from resolve(first, budget, page)).before(cut)
    rest = Found(row for row in [*known.rows.values(), *known.repeated] if row in second)
    # Parts that overlap (at the grain of seconds) do not add up, so only whole milliseconds are derived.
    derivable = reach(cut, box.grain) == cut
    if not derivable or counted - page.total_count != len(rest.rows) + len(rest.repeated):
        rest = yield from resolve(second, budget)
    found.include(rest)
    return found

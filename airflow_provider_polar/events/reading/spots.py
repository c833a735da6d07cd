"""Reads a box again, ever more finely cut, until it is proved or shown not to be provable. Decisions only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

from airflow_provider_polar.api.requests import MAX_LIMIT, EventSorting
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.events.reading.cuts import Cut, alike, find_cuts
from airflow_provider_polar.events.reading.proof import (
    NOT_EXAMINED,
    NOT_GIVEN,
    NOT_PROVABLE,
    Asking,
    Box,
    Budget,
    Found,
    asked,
    cell_start,
    reach,
)

_SAMPLED = 10 * MAX_LIMIT
"""Events from which on the first page alone is too small a sample: it may be all of one kind."""
_CUTS_TRIED = 4
_WALKED = 12
"""Events up to which every place of a box is looked at to tell a repeated row from one that is not given."""
_DEEP = 60
"""Cuts inside cuts after which a box is only halved: an answer that is no sensible one must not go on for ever."""
_ORDERS: tuple[EventSorting, EventSorting] = ("timestamp", "-timestamp")
_MOST_PAGES = 400
"""Requests that other pages of events which nothing tells apart may take."""


def resolve(box: Box, budget: Budget, page: RowPage | None = None, depth: int = 0) -> Asking[Found]:
    """Everything that Polar gives of a box, and what it counts there besides.

    :param page: its first page, where that was asked already.
    :param depth: how often it was cut already.
    """
    if page is None:
        page = yield from _asked(box, budget)
    counted = page.total_count
    found = Found(row for row in page.rows if row in box)
    excess = counted - found.given
    if excess <= 0:
        return found
    if budget.left <= 0:
        return found.lacking(box, counted, NOT_EXAMINED)
    many = excess > counted // 6
    divisible = _moment_to_cut(box, counted, []) is not None
    if counted <= MAX_LIMIT and (many or not divisible):
        # A page may come out short once.
        for _ in range(2):
            again = Found(row for row in (yield from _asked(box, budget)).rows if row in box)
            if again.given >= counted:
                return again
            found.notice(again.rows.values(), box)
        if not found.rows:
            return found.lacking(box, counted, NOT_GIVEN)
        alone = len({row.ms for row in found.rows.values()})
        if many and divisible and counted > _WALKED and alone > 0.9 * len(found.rows):
            found = yield from _walk(box, counted, found, budget)
            if all(spot.reason != NOT_PROVABLE for spot in found.missing):
                return found
            found = Found(found.rows.values())
    if divisible:
        cut = _moment_to_cut(box, counted, list(found.rows.values()) if depth < _DEEP else [])
        return (yield from _by_time(box, cut or box.start, counted, found, budget, depth + 1))
    return (yield from _by_properties(box, counted, found, budget, depth + 1))


def _asked(
    box: Box, budget: Budget, *, page: int = 1, limit: int = MAX_LIMIT, sorting: EventSorting = "timestamp"
) -> Asking[RowPage]:
    budget.spend()
    return (yield from asked(box, page=page, limit=limit, sorting=sorting))


def _moment_to_cut(box: Box, counted: int, rows: Sequence[EventRow]) -> int | None:
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


def _by_time(box: Box, cut: int, counted: int, known: Found, budget: Budget, depth: int) -> Asking[Found]:
    first, second = box.between(box.start, reach(cut, box.grain)), box.between(cut, box.end)
    page = yield from _asked(first, budget)
    found = (yield from resolve(first, budget, page, depth)).before(cut)
    rest = Found(row for row in [*known.rows.values(), *known.repeated] if row in second)
    # Parts that overlap (at the grain of seconds) do not add up, so only whole milliseconds are derived.
    derivable = reach(cut, box.grain) == cut
    if not derivable or counted - page.total_count != rest.given:
        rest = yield from resolve(second, budget, None, depth)
    found.include(rest)
    return found


def _by_properties(box: Box, counted: int, known: Found, budget: Budget, depth: int) -> Asking[Found]:
    """Cuts a box that time does not divide by whatever tells its events apart."""
    if counted >= _SAMPLED:
        yield from _sample(box, counted, known, budget)
    cuts = find_cuts(list(known.rows.values()), counted, box.filters)
    if not cuts and MAX_LIMIT < counted < _SAMPLED:
        yield from _sample(box, counted, known, budget)
        cuts = find_cuts(list(known.rows.values()), counted, box.filters)
    if not known.rows:
        return known.lacking(box, counted, NOT_GIVEN)
    for cut in cuts[: _CUTS_TRIED if depth < _DEEP else 0]:
        found = yield from _by_cut(box, cut, counted, known, budget, depth)
        if found is not None:
            return found
    if counted > MAX_LIMIT:
        return (yield from _by_other_pages(box, counted, known, budget))
    if counted <= _WALKED:
        return (yield from _walk(box, counted, known, budget))
    return known.lacking(box, counted, NOT_GIVEN)


def _sample(box: Box, counted: int, known: Found, budget: Budget) -> Asking[None]:
    """Adds the rows of the middle and of the last page."""
    last = -(-counted // MAX_LIMIT)
    for page in sorted({(last + 1) // 2, last} - {1}):
        known.notice((yield from _asked(box, budget, page=page)).rows, box)


def _by_cut(box: Box, cut: Cut, counted: int, known: Found, budget: Budget, depth: int) -> Asking[Found | None]:
    """The box by the parts of a cut; None where the cut does not divide it or its parts do not add up to it."""
    parts: list[tuple[Box, RowPage]] = []
    for part in cut.parts:
        if budget.left <= 0:
            return known.lacking(box, counted, NOT_EXAMINED)
        inner = box.narrowed(part.filters, part.words)
        page = yield from _asked(inner, budget)
        known.notice(page.rows, inner)
        if page.total_count == counted:
            return None
        parts.append((inner, page))
        if sum(page.total_count for _, page in parts) >= counted:
            break
    added = sum(page.total_count for _, page in parts)
    if added != counted:
        counted = (yield from _asked(box, budget)).total_count
        if added != counted:
            return None
    found = Found()
    for inner, page in parts:
        found.include((yield from resolve(inner, budget, page, depth)))
    if found.given + sum(spot.lost for spot in found.missing) < counted:
        return found.lacking(box, counted, NOT_PROVABLE)
    return found


def _by_other_pages(box: Box, counted: int, known: Found, budget: Budget) -> Asking[Found]:
    """Nothing tells the events apart: other page sizes and the reverse order give other selections of them.

    Random pages of a hundred show all of N events after N / 100 * ln N of them, about.
    """
    pages = -(-counted // MAX_LIMIT)
    left = min(_MOST_PAGES, int(pages * (log(counted) + 4)) + 8)
    idle = 0
    for limit in range(MAX_LIMIT, MAX_LIMIT // 2, -7):
        for sorting in _ORDERS:
            before = len(known.rows)
            for page in range(1, -(-counted // limit) + 1):
                if left <= 0 or budget.left <= 0:
                    return known.lacking(box, counted, NOT_PROVABLE)
                left -= 1
                answer = yield from _asked(box, budget, page=page, limit=limit, sorting=sorting)
                known.notice(answer.rows, box)
                if len(known.rows) >= counted:
                    known.repeated = []
                    return known
            idle = idle + 1 if len(known.rows) == before else 0
            if idle == 4:
                return known.lacking(box, counted, NOT_PROVABLE)
    return known.lacking(box, counted, NOT_PROVABLE)


def _walk(box: Box, counted: int, known: Found, budget: Budget) -> Asking[Found]:
    """Looks at every place of a box: a row that has two places is counted twice, an empty place is not given.

    Which of the rows of one millisecond has which place differs from request to request. So only a row that is
    alone in its millisecond is taken for repeated, and, where that costs little, only if both orders show it.
    """
    if counted == 2 and len(known.rows) == 1:
        (row,) = known.rows.values()
        twin = yield from _asked(box.narrowed(alike(row, box.filters), {}), budget)
        if twin.total_count < counted:
            return known.lacking(box, counted, NOT_GIVEN)
    seen: list[Counter[str]] = []
    for sorting in _ORDERS if counted <= _WALKED else _ORDERS[:1]:
        places: Counter[str] = Counter()
        for page in range(1, counted + 1):
            if budget.left <= 0:
                return known.lacking(box, counted, NOT_EXAMINED)
            answer = yield from _asked(box, budget, page=page, limit=1, sorting=sorting)
            if not answer.rows:
                answer = yield from _asked(box, budget, page=page, limit=1, sorting=sorting)
            known.notice(answer.rows, box)
            places.update(row.id for row in answer.rows)
            if not answer.rows and counted > _WALKED:
                return known.lacking(box, counted, NOT_GIVEN)
        seen.append(places)
    alone = Counter(row.ms for row in known.rows.values())
    for key, row in known.rows.items():
        if alone[row.ms] == 1:
            known.repeated += [row] * (min(places[key] for places in seen) - 1)
    every_place = all(places.total() == counted for places in seen)
    return known.lacking(box, counted, NOT_PROVABLE if every_place else NOT_GIVEN)

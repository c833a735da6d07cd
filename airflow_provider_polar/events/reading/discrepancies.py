"""Reads a query again, ever more finely split, until it is proved or shown not to be provable. Decisions only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

from airflow_provider_polar.api.requests import MAX_LIMIT, EventSorting
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.events.reading.proof import (
    NOT_EXAMINED,
    NOT_GIVEN,
    NOT_PROVABLE,
    Budget,
    Found,
    Query,
    Requesting,
    requested,
)
from airflow_provider_polar.events.reading.splits import Split, alike, find_splits

_SAMPLED = 10 * MAX_LIMIT
"""Events from which on the first page alone is too small a sample: it may be all of one kind."""
_SPLITS_TRIED = 4
_WALKED = 12
"""Events up to which every place of a query is looked at to tell a repeated row from one that is not given."""
_DEEP = 60
"""Splits inside splits after which a query is only halved: a response without sense must not go on for ever."""
_ORDERS: tuple[EventSorting, EventSorting] = ("timestamp", "-timestamp")
_MOST_PAGES = 400
"""Requests that other pages of events which nothing tells apart may take."""


def resolve(query: Query, budget: Budget, page: RowPage | None = None, depth: int = 0) -> Requesting[Found]:
    """Everything that Polar gives of a query, and what it counts there besides.

    :param page: its first page, where that was requested already.
    :param depth: how often it was split already.
    """
    if page is None:
        page = yield from _requested(query, budget)
    counted = page.total_count
    found = Found(row for row in page.rows if row in query)
    excess = counted - found.given
    if excess <= 0:
        return found
    if budget.left <= 0:
        return found.lacking(query, counted, NOT_EXAMINED)
    many = excess > counted // 6
    divisible = _moment_to_split(query, counted, []) is not None
    if counted <= MAX_LIMIT and (many or not divisible):
        # A page may come out short once.
        for _ in range(2):
            again = Found(row for row in (yield from _requested(query, budget)).rows if row in query)
            if again.given >= counted:
                return again
            found.notice(again.rows.values(), query)
        if not found.rows:
            return found.lacking(query, counted, NOT_GIVEN)
        alone = len({row.ms for row in found.rows.values()})
        if many and divisible and counted > _WALKED and alone > 0.9 * len(found.rows):
            found = yield from _walk(query, counted, found, budget)
            if all(lack.reason != NOT_PROVABLE for lack in found.missing):
                return found
            found = Found(found.rows.values())
    if divisible:
        split = _moment_to_split(query, counted, list(found.rows.values()) if depth < _DEEP else [])
        return (yield from _by_time(query, split or query.start, counted, found, budget, depth + 1))
    return (yield from _by_properties(query, counted, found, budget, depth + 1))


def _requested(
    query: Query, budget: Budget, *, page: int = 1, limit: int = MAX_LIMIT, sorting: EventSorting = "timestamp"
) -> Requesting[RowPage]:
    budget.spend()
    return (yield from requested(query, page=page, limit=limit, sorting=sorting))


def _moment_to_split(query: Query, counted: int, rows: Sequence[EventRow]) -> int | None:
    """Where the second half of the query starts; None where time does not divide it."""
    latest = query.end - 1
    if latest <= query.start:
        return None
    moments = sorted({row.ms for row in rows})
    if not moments:
        split = (query.start + query.end) // 2
    else:
        # More than a page: what lies before the page's last millisecond is known; else the rows' middle.
        split = moments[-1] if counted > MAX_LIMIT else moments[len(moments) // 2]
    return min(max(split, query.start + 1), latest)


def _by_time(query: Query, split: int, counted: int, known: Found, budget: Budget, depth: int) -> Requesting[Found]:
    first, second = query.between(query.start, split), query.between(split, query.end)
    page = yield from _requested(first, budget)
    found = yield from resolve(first, budget, page, depth)
    rest = Found(row for row in [*known.rows.values(), *known.repeated] if row in second)
    if counted - page.total_count != rest.given:
        rest = yield from resolve(second, budget, None, depth)
    found.include(rest)
    return found


def _by_properties(query: Query, counted: int, known: Found, budget: Budget, depth: int) -> Requesting[Found]:
    """Cuts a query that time does not divide by whatever tells its events apart."""
    if counted >= _SAMPLED:
        yield from _sample(query, counted, known, budget)
    splits = find_splits(list(known.rows.values()), counted, query.filters)
    if not splits and MAX_LIMIT < counted < _SAMPLED:
        yield from _sample(query, counted, known, budget)
        splits = find_splits(list(known.rows.values()), counted, query.filters)
    if not known.rows:
        return known.lacking(query, counted, NOT_GIVEN)
    for split in splits[: _SPLITS_TRIED if depth < _DEEP else 0]:
        found = yield from _by_split(query, split, counted, known, budget, depth)
        if found is not None:
            return found
    if counted > MAX_LIMIT:
        return (yield from _by_other_pages(query, counted, known, budget))
    if counted <= _WALKED:
        return (yield from _walk(query, counted, known, budget))
    return known.lacking(query, counted, NOT_GIVEN)


def _sample(query: Query, counted: int, known: Found, budget: Budget) -> Requesting[None]:
    """Adds the rows of the middle and of the last page."""
    last = -(-counted // MAX_LIMIT)
    for page in sorted({(last + 1) // 2, last} - {1}):
        known.notice((yield from _requested(query, budget, page=page)).rows, query)


def _by_split(
    query: Query, split: Split, counted: int, known: Found, budget: Budget, depth: int
) -> Requesting[Found | None]:
    """The query by the parts of a split; None where the split does not divide it or its parts do not add up to it."""
    parts: list[tuple[Query, RowPage]] = []
    for part in split.parts:
        if budget.left <= 0:
            return known.lacking(query, counted, NOT_EXAMINED)
        inner = query.narrowed(part.filters, part.words)
        page = yield from _requested(inner, budget)
        known.notice(page.rows, inner)
        if page.total_count == counted:
            return None
        parts.append((inner, page))
        if sum(page.total_count for _, page in parts) >= counted:
            break
    added = sum(page.total_count for _, page in parts)
    if added != counted:
        counted = (yield from _requested(query, budget)).total_count
        if added != counted:
            return None
    found = Found()
    for inner, page in parts:
        found.include((yield from resolve(inner, budget, page, depth)))
    if found.given + sum(lack.lost for lack in found.missing) < counted:
        return found.lacking(query, counted, NOT_PROVABLE)
    return found


def _by_other_pages(query: Query, counted: int, known: Found, budget: Budget) -> Requesting[Found]:
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
                    return known.lacking(query, counted, NOT_PROVABLE)
                left -= 1
                response = yield from _requested(query, budget, page=page, limit=limit, sorting=sorting)
                known.notice(response.rows, query)
                if len(known.rows) >= counted:
                    known.repeated = []
                    return known
            idle = idle + 1 if len(known.rows) == before else 0
            if idle == 4:
                return known.lacking(query, counted, NOT_PROVABLE)
    return known.lacking(query, counted, NOT_PROVABLE)


def _walk(query: Query, counted: int, known: Found, budget: Budget) -> Requesting[Found]:
    """Looks at every place of a query: a row that has two places is counted twice, an empty place is not given.

    Which of the rows of one millisecond has which place differs from request to request. So only a row that is
    alone in its millisecond is taken for repeated, and, where that costs little, only if both orders show it.
    """
    if counted == 2 and len(known.rows) == 1:
        (row,) = known.rows.values()
        twin = yield from _requested(query.narrowed(alike(row, query.filters), {}), budget)
        if twin.total_count < counted:
            return known.lacking(query, counted, NOT_GIVEN)
    seen: list[Counter[str]] = []
    for sorting in _ORDERS if counted <= _WALKED else _ORDERS[:1]:
        places: Counter[str] = Counter()
        for page in range(1, counted + 1):
            if budget.left <= 0:
                return known.lacking(query, counted, NOT_EXAMINED)
            response = yield from _requested(query, budget, page=page, limit=1, sorting=sorting)
            if not response.rows:
                response = yield from _requested(query, budget, page=page, limit=1, sorting=sorting)
            known.notice(response.rows, query)
            places.update(row.id for row in response.rows)
            if not response.rows and counted > _WALKED:
                return known.lacking(query, counted, NOT_GIVEN)
        seen.append(places)
    alone = Counter(row.ms for row in known.rows.values())
    for key, row in known.rows.items():
        if alone[row.ms] == 1:
            known.repeated += [row] * (min(places[key] for places in seen) - 1)
    every_place = all(places.total() == counted for places in seen)
    return known.lacking(query, counted, NOT_PROVABLE if every_place else NOT_GIVEN)

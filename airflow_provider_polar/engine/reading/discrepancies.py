"""Where Polar counts more events than it gave: reads again, ever more finely split, until that is explained.

Polar's index can hold an event twice, and it can hold one that the store does not give. Either way a response is short:
of the places in the index that it stands for, those of one event give one row, and those of an event that is not
in the store give none. No single response tells the two apart.

*Proved* is what counts prove: a query for which as many rows were given as are counted is complete. *Seen* is a place
that gives no row, and only then an event is said to be in the index and not in the store.

*Inferred* is that an event is counted twice. One place at a time is looked at, with bounds and orders that differ, as
the order within a millisecond is any: where every look gives one of the rows that are known, no other event is there.
Looks cost requests for every event. Where many are counted twice it is inferred from many rows at once: each of them
has a value of its own under one property, and the query narrowed to these values counts as many as without them; or
every few rows are counted equally often. A place that is looked at by the way must give a row.
(An event that is not in the store escapes this only if it shares its value with a row of the same few pages.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from math import log

from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.requests import EventSorting
from airflow_provider_polar.api.rows import EventRow, RowPage
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.findings import Budget, Found
from airflow_provider_polar.engine.reading.queries import Query, requested
from airflow_provider_polar.engine.reading.reports import NOT_EXAMINED, NOT_GIVEN, NOT_PROVABLE
from airflow_provider_polar.engine.reading.splits import Split, alike, find_splits, telling

_MANY = 8
"""Events counted twice from which on they are explained together and not one by one."""
_ENOUGH = 20
"""Rows from which on they can be explained together."""
_EVEN = 8
"""Stretches that have to count their rows equally often, where no property tells rows apart."""
_LOOKS = 10
"""Places that are looked at before many events are first explained together."""
_SAMPLED = 10 * MAX_LIMIT
"""Events from which on the first page alone is too small a sample: it may be all of one kind."""
_BARREN = 40
"""Pages without a new row, and four more for every page of known rows, after which no other pages are tried."""
_SPLITS_TRIED = 4
_DEEP = 60
"""Splits inside splits after which properties are left alone: a response without sense must not go on for ever."""
_ORDERS: tuple[EventSorting, EventSorting] = ("timestamp", "-timestamp")
_ROUNDS = 3
"""How often each place is looked at in each order."""
_CONVINCING = 10
"""Events of a slice that turned out to be counted twice, after which fewer looks will do for others."""


def resolve(query: Query, counted: int, known: Found, budget: Budget) -> Steps[Found]:
    """Everything that Polar gives for a query, and what it counts there besides.

    :param known: what was given of it before.
    """
    if counted <= MAX_LIMIT and counted - known.given < _MANY:
        # A page may come out short once.
        page = yield from _requested(query, budget)
        counted, known = page.total_count, Found(page.rows).noticing(known.rows.values())
    elif counted > 2 * known.given:
        # A count taken from another one may be absurd.
        counted = (yield from _requested(query, budget, limit=1)).total_count
    return (yield from _by_time(query, counted, known, budget, 0))


def resolve_moment(query: Query, page: RowPage, budget: Budget) -> Steps[Found]:
    """Everything that Polar gives for a query of one millisecond, and what it counts there besides.

    :param page: its first page.
    """
    return (yield from _by_properties(query, page.total_count, Found(page.rows), budget, 0))


def _requested(
    query: Query, budget: Budget, *, page: int = 1, limit: int = MAX_LIMIT, sorting: EventSorting = "timestamp"
) -> Steps[RowPage]:
    budget.spend()
    response = yield from requested(query, page=page, limit=limit, sorting=sorting)
    response.rows = [row for row in response.rows if row in query]
    return response


# Many at once


def _are_many(counted: int, known: Found, budget: Budget) -> bool:
    return len(known.rows) >= _ENOUGH and (counted - known.given >= _MANY or budget.confirmed >= _CONVINCING)


def _together(query: Query, counted: int, known: Found, budget: Budget) -> Steps[Found | None]:
    """Explains at once what is counted besides the rows: all of it as these rows again, or none of it.

    None where that cannot be told.
    """
    rows = list(known.rows.values())
    looks = _LOOKS if budget.confirmed < _CONVINCING else 2
    filters = telling(rows, query.filters)
    if filters is None:
        twice = yield from _are_equally_often(query, counted, rows, looks, budget)
    else:
        narrowed = query.narrowed(filters, {})
        look = yield from _requested(narrowed, budget, limit=1)
        if look.total_count == len(rows):
            return (yield from _without_more_rows(query, counted, known, budget))
        twice = look.total_count == counted and (yield from _give_rows(narrowed, counted, looks - 1, budget))
    if not twice:
        return None
    budget.confirm(counted - known.given)
    return known.repeating(counted)


def _without_more_rows(query: Query, counted: int, known: Found, budget: Budget) -> Steps[Found | None]:
    """Each row is counted once, so the rest is not given, unless a page came out short: then the rest can be read."""
    before = len(known.rows)
    for number in range(1, -(-counted // MAX_LIMIT) + 1):
        if budget.left <= 0:
            return known.lacking(query, counted, NOT_EXAMINED)
        page = yield from _requested(query, budget, page=number)
        known.noticing(page.rows)
        # Where the count is another one now, it was absurd, or events have arrived.
        if len(known.rows) > before or page.total_count != counted:
            return None
    return known.lacking(query, counted, NOT_GIVEN)


def _give_rows(query: Query, counted: int, looks: int, budget: Budget) -> Steps[bool]:
    """Whether any places, as many as are to be looked at, give a row: an empty one shows that there is more."""
    chance = random.Random(query.start)  # noqa: S311
    for place in chance.sample(range(1, counted + 1), min(looks, counted)):
        look = yield from _requested(query, budget, page=place, limit=1)
        if look.total_count != counted or not look.rows:
            return False
    return True


def _are_equally_often(query: Query, counted: int, rows: Sequence[EventRow], looks: int, budget: Budget) -> Steps[bool]:
    """Whether every few rows are counted equally often, and some of the places give a row."""
    moments = sorted(row.ms for row in rows)
    parts = min(_EVEN, len(rows) // 5)
    edges = [
        query.start,
        *sorted({moments[len(rows) * i // parts] for i in range(1, parts)} - {query.start}),
        query.end,
    ]
    if counted % len(rows) or len(edges) < 4:
        return False
    for start, end in pairwise(edges):
        part = query.between(start, end)
        expected = counted // len(rows) * sum(row in part for row in rows)
        if not (yield from _give_rows(part, expected, max(1, looks // parts), budget)):
            return False
    return True


# Split by time


def _by_time(query: Query, counted: int, known: Found, budget: Budget, depth: int) -> Steps[Found]:
    """Halves at the rows' own milliseconds, as long as more is counted than given."""
    if counted <= known.given:
        return known
    if budget.left <= 0 or depth > _DEEP:
        return known.lacking(query, counted, NOT_EXAMINED)
    moments = sorted({row.ms for row in known.rows.values()})
    if not moments:
        return (yield from _without_rows(query, counted, budget, depth))
    if len(moments) == 1:
        return (yield from _around_a_moment(query, moments[0], counted, known, budget, depth))
    if _are_many(counted, known, budget):
        found = yield from _together(query, counted, known, budget)
        if found is not None:
            return found
    middle = moments[len(moments) // 2]
    first, second = query.between(query.start, middle), query.between(middle, query.end)
    page = yield from _requested(first, budget)
    given = known.within(first)
    given = Found(page.rows).noticing(given.rows.values()) if page.total_count <= MAX_LIMIT else given
    found = yield from _by_time(first, page.total_count, given, budget, depth + 1)
    second_counted = counted - page.total_count
    found.include((yield from _by_time(second, second_counted, known.within(second), budget, depth + 1)))
    return found


def _around_a_moment(query: Query, ms: int, counted: int, known: Found, budget: Budget, depth: int) -> Steps[Found]:
    moment = query.between(ms, ms + 1)
    page = yield from _requested(moment, budget)
    known = Found(page.rows).noticing(known.rows.values())
    found = yield from _by_properties(moment, page.total_count, known, budget, 0)
    left = counted - page.total_count
    for side in (query.between(query.start, ms), query.between(ms + 1, query.end)):
        if left > 0 and side.start < side.end:
            page = yield from _requested(side, budget)
            found.include((yield from _by_time(side, page.total_count, Found(page.rows), budget, depth + 1)))
            left -= page.total_count
    return found


def _without_rows(query: Query, counted: int, budget: Budget, depth: int) -> Steps[Found]:
    """No row is known of what is counted: a page may have come out short, or a later page has rows."""
    last = -(-counted // MAX_LIMIT)
    for page in sorted({1, last, *(2**i for i in range(1, last.bit_length()))}):
        if budget.left <= 0:
            return Found().lacking(query, counted, NOT_EXAMINED)
        response = yield from _requested(query, budget, page=page)
        if response.rows:
            return (yield from _by_time(query, response.total_count, Found(response.rows), budget, depth + 1))
        if response.total_count == 0:
            return Found()
    return Found().lacking(query, counted, NOT_GIVEN)


# Within a millisecond


def _by_properties(query: Query, counted: int, known: Found, budget: Budget, depth: int) -> Steps[Found]:
    """Splits the events of one millisecond by whatever tells them apart."""
    if counted <= known.given:
        return known
    if budget.left <= 0:
        return known.lacking(query, counted, NOT_EXAMINED)
    for _ in range(2):
        if not known.rows:
            # A page may come out short once.
            known = Found((yield from _requested(query, budget)).rows)
    if counted <= known.given:
        return known
    if counted <= MAX_LIMIT and _are_many(counted, known, budget):
        found = yield from _together(query, counted, known, budget)
        if found is not None:
            return found
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
    return (yield from _by_looks(query, counted, known, budget))


def _sample(query: Query, counted: int, known: Found, budget: Budget) -> Steps[None]:
    """Adds the rows of the middle and of the last page."""
    last = -(-counted // MAX_LIMIT)
    for page in sorted({(last + 1) // 2, last} - {1}):
        known.noticing((yield from _requested(query, budget, page=page)).rows)


def _by_split(
    query: Query, split: Split, counted: int, known: Found, budget: Budget, depth: int
) -> Steps[Found | None]:
    """The query by the parts of a split; None where it does not divide it or its parts do not add up to it."""
    parts: list[tuple[Query, RowPage]] = []
    for part in split.parts:
        if budget.left <= 0:
            return known.lacking(query, counted, NOT_EXAMINED)
        inner = query.narrowed(part.filters, part.words)
        page = yield from _requested(inner, budget)
        known.noticing(page.rows)
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
        found.include((yield from _by_properties(inner, page.total_count, Found(page.rows), budget, depth + 1)))
    found.add_known(known.rows.values())
    if found.given + sum(lack.lost for lack in found.missing) < counted:
        return found.lacking(query, counted, NOT_PROVABLE)
    return found


def _by_other_pages(query: Query, counted: int, known: Found, budget: Budget) -> Steps[Found]:
    """Nothing tells the events apart: other page sizes and the reverse order give other selections of them.

    Random pages of a hundred show all of N events after N / 100 * ln N of them, about.
    """
    left = int(-(-counted // MAX_LIMIT) * (log(counted) + 4)) + 8
    barren = 0
    for limit in range(MAX_LIMIT, MAX_LIMIT // 2, -7):
        for sorting in _ORDERS:
            for page in range(1, -(-counted // limit) + 1):
                if left <= 0 or budget.left <= 0 or barren > _BARREN + len(known.rows) // 25:
                    return known.lacking(query, counted, NOT_PROVABLE)
                left -= 1
                before = len(known.rows)
                response = yield from _requested(query, budget, page=page, limit=limit, sorting=sorting)
                known.noticing(response.rows)
                barren = barren + 1 if len(known.rows) == before else 0
                if len(known.rows) >= counted:
                    return known.repeating(counted)
    return known.lacking(query, counted, NOT_PROVABLE)


def _by_looks(query: Query, counted: int, known: Found, budget: Budget) -> Steps[Found]:
    """Looks at the places of a query one by one: an empty one is not given; where none is, rows are counted twice.

    Which of the events of one millisecond has which place differs from request to request, so every place is looked
    at several times: in both orders, and with bounds that differ on the far side.
    """
    looks = [(query.between(query.start, query.end + i), _ORDERS[0]) for i in range(_ROUNDS)]
    looks += [(query.between(query.start - i, query.end), _ORDERS[1]) for i in range(_ROUNDS)]
    for look, sorting in looks if budget.confirmed < _CONVINCING else looks[:1]:
        for page in range(1, counted + 1):
            if budget.left <= 0:
                return known.lacking(query, counted, NOT_EXAMINED)
            response = yield from _requested(look, budget, page=page, limit=1, sorting=sorting)
            if not response.rows:
                # A page may come out short once.
                response = yield from _requested(look, budget, page=page, limit=1, sorting=sorting)
            if not response.rows:
                return known.lacking(query, counted, NOT_GIVEN)
            known.noticing(row for row in response.rows if row in query)
            if len(known.rows) == counted:
                return known.repeating(counted)
    if len(known.rows) == 1:
        (row,) = known.rows.values()
        twin = yield from _requested(query.narrowed(alike(row, query.filters), {}), budget)
        if twin.rows and twin.total_count < counted:
            return known.lacking(query, counted, NOT_GIVEN)
    budget.confirm(counted - known.given)
    return known.repeating(counted)

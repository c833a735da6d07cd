"""Many waits in few requests: one request selects the events of all, and its page tells each wait its own.

Plain decisions without I/O. Where the page cannot tell, the waits are polled in halves, in the end each on its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote

from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.queries import Query
from airflow_provider_polar.engine.waiting.wait import EventWait, PollResult, query_of

T = TypeVar("T")
_LONGEST_QUERY = 6_000
"""Characters of names and customers in a request: what is between may refuse an address of 8 kB."""
_CUSTOMERS = ("external_customer_id", "customer_id")


def groups_of(items: Iterable[T], wait_of: Callable[[T], EventWait]) -> Iterator[list[T]]:
    """The items in groups whose waits one request can be made for: they differ in names, window and customers only."""
    alike: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        alike[_common(wait_of(item))].append(item)
    for some in alike.values():
        group: list[T] = []
        values: dict[tuple[str, str], int] = {}
        for item in sorted(some, key=lambda item: wait_of(item).start):
            together = values | _values(wait_of(item))
            if group and sum(together.values()) > _LONGEST_QUERY:
                yield group
                group, together = [], _values(wait_of(item))
            group.append(item)
            values = together
        yield group


def poll_together(waits: Sequence[EventWait]) -> Steps[list[PollResult]]:
    """One poll of a group of waits: the result of each, in their order."""
    if len(waits) == 1:
        return [(yield from waits[0].poll())]
    page = yield _query(waits).request()
    # What a wait must not pass over may be missing from a page that is short.
    whole = page.total_count == len(page.rows) or not any(wait.fail_on for wait in waits)
    if page.total_count <= MAX_LIMIT and whole and (own := _own_rows(waits, page.rows)) is not None:
        return [wait.judge(rows) for wait, rows in zip(waits, own, strict=True)]
    half = len(waits) // 2
    return [*(yield from poll_together(waits[:half])), *(yield from poll_together(waits[half:]))]


def _query(waits: Sequence[EventWait]) -> Query:
    names = sorted({name for wait in waits for name in (*wait.names, *wait.fail_on)})
    update: dict[str, list[str]] = {"name": names}
    if by := _customer_filter(waits[0]):
        update[by] = sorted({customer for wait in waits for customer in _customers(wait)})
    ends = [wait.end for wait in waits if wait.end is not None]
    return query_of(
        min(wait.start for wait in waits),
        max(ends) if len(ends) == len(waits) else None,
        waits[0].filters.model_copy(update=update),
    )


def _own_rows(waits: Sequence[EventWait], rows: Iterable[EventRow]) -> list[list[EventRow]] | None:
    """The rows of each wait's customers; None where a row does not tell whose it is.

    Polar finds a customer's events by either of its ids, and one that was ingested under the other id, or before the
    customer had this one, need not show it.
    """
    by = _customer_filter(waits[0])
    if by is None:
        return [list(rows)] * len(waits)
    of_customer: defaultdict[str, list[EventRow]] = defaultdict(list)
    wanted = {customer for wait in waits for customer in _customers(wait)}
    for row in rows:
        embedded = (row.get("customer") or {}).get(by.removesuffix("customer_id") + "id")
        shown = {row.get(by), embedded} - {None}
        if len(shown) != 1 or not shown <= wanted:
            return None
        of_customer[shown.pop()].append(row)
    return [[row for customer in _customers(wait) for row in of_customer[customer]] for wait in waits]


def _common(wait: EventWait) -> str:
    """What waits must have in common to be polled together."""
    filters = wait.filters.to_dict()
    if by := _customer_filter(wait):
        filters[by] = None
    return json.dumps(filters, sort_keys=True)


def _customer_filter(wait: EventWait) -> str | None:
    """The filter by which the wait names its customers, unless it names them by both."""
    given = [by for by in _CUSTOMERS if getattr(wait.filters, by) is not None]
    return given[0] if len(given) == 1 else None


def _values(wait: EventWait) -> dict[tuple[str, str], int]:
    """What the wait adds to a request, and how long it is there."""
    by = _customer_filter(wait)
    values = [("name", name) for name in (*wait.names, *wait.fail_on)] + [(by or "", one) for one in _customers(wait)]
    return {(name, value): len(f"&{name}={quote(value, safe='')}") for name, value in values}


def _customers(wait: EventWait) -> list[str]:
    by = _customer_filter(wait)
    return list(dict.fromkeys(getattr(wait.filters, by))) if by else []

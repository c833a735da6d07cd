"""What a reading requests, what it was given, and what is proved by the API's counts. No I/O.

A :class:`Query` is a range of whole milliseconds and filters, for which one request is answered. It is proved when as
many rows were given as Polar counts for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.requests import MAX_LIMIT, EventSorting, PolarRequest, list_events
from airflow_provider_polar.api.rows import EventRow, RowPage, from_ms, to_ms
from airflow_provider_polar.engine.window import EventWindow, moment_text

NOT_GIVEN = "not given: in Polar's index but not in its store"
NOT_PROVABLE = "not provable: nothing tells these events apart, and pages repeat and skip them"
NOT_EXAMINED = "counted twice or not given, not examined: the limit of requests for discrepancies was reached"
ARRIVING = "arriving: new events kept coming in while it was read"

_EARLIEST, _LATEST = to_ms(datetime.min.replace(tzinfo=UTC)), to_ms(datetime.max.replace(tzinfo=UTC))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HandedOn:
    """Rows in their final order, and what is proved up to them.

    :param rows: at least one, in order of (timestamp, id).
    :param so_far: on everything that was handed on, these rows included, as if the slice ended with them.
    """

    rows: list[EventRow]
    so_far: SliceReport


Requesting = Generator[PolarRequest, "RowPage | None", T]
Reading = Generator["PolarRequest | HandedOn", "RowPage | None", T]


def _bound(ms: int) -> datetime | None:
    """A bound as a moment; None where it lies outside the calendar, and so excludes nothing."""
    return from_ms(ms) if _EARLIEST <= ms <= _LATEST else None


def _moment(ms: int) -> datetime:
    return from_ms(min(max(ms, _EARLIEST), _LATEST))


@dataclass(frozen=True, slots=True)
class Query:
    """The filters and bounds that one request is answered for.

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

    def __str__(self) -> str:
        return f"[{moment_text(_moment(self.start))}, {moment_text(_moment(self.end))})"

    def __contains__(self, row: EventRow) -> bool:
        return self.start <= row.ms < self.end

    def request(self, *, page: int = 1, limit: int = MAX_LIMIT, sorting: EventSorting = "timestamp") -> PolarRequest:
        """The request for a page of it."""
        return list_events(
            self.filters,
            start_timestamp=_bound(self.start - 1),
            end_timestamp=_bound(self.end),
            page=page,
            limit=limit,
            sorting=sorting,
        )

    def between(self, start: int, end: int) -> Query:
        """The same for another range of milliseconds."""
        return replace(self, start=start, end=end)

    def narrowed(self, filters: EventFilters, words: Mapping[str, str]) -> Query:
        """A part of it: filters that include its own, and how they differ in words."""
        merged = dict(self.narrowing)
        for key, text in words.items():
            merged[key] = f"{merged[key]} and {text}" if key in merged else text
        return replace(self, filters=filters, narrowing=merged)

    def discrepancy(self, counted: int, given: int, reason: str) -> Discrepancy:
        """It, as one that is not proved."""
        return Discrepancy(_moment(self.start), _moment(self.end), counted, given, reason, dict(self.narrowing))


def requested(
    query: Query, *, page: int = 1, limit: int = MAX_LIMIT, sorting: EventSorting = "timestamp"
) -> Requesting[RowPage]:
    """Requests a page of a query. Rows outside its bounds are kept: a caller may learn from them."""
    response = yield query.request(page=page, limit=limit, sorting=sorting)
    if response is None:
        raise TypeError("a request must be answered with its RowPage")
    return response


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Where the API counts more events than it gives.

    :param start: aware, UTC.
    :param end: aware, UTC, not included.
    :param counted: what the API counts there.
    :param given: distinct events (and proved repetitions) that it gave.
    :param reason: why they differ, as far as is known.
    :param narrowing: what besides the time narrows it down, in words, by property.
    """

    start: datetime
    end: datetime
    counted: int
    given: int
    reason: str
    narrowing: Mapping[str, str] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Events counted and not given."""
        return self.counted - self.given

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: ``start`` and ``end`` as ISO 8601 text, ``counted``, ``given``, ``reason``, ``narrowing``."""
        return {
            "start": moment_text(self.start),
            "end": moment_text(self.end),
            "counted": self.counted,
            "given": self.given,
            "reason": self.reason,
            "narrowing": dict(self.narrowing),
        }


@dataclass(frozen=True, slots=True)
class SliceReport:
    """How the reading of one slice went.

    :param window: the slice.
    :param rows: events handed on, each once.
    :param counted: what the API counts in the request that holds the slice: ``rows``, what is in ``before``,
        ``after`` and ``repeated``, and what the discrepancies in ``missing`` lost.
    :param repeated: how often events were counted again after their first time.
    :param missing: the discrepancies that are not proved.
    :param before: rows that the request brought along from before the window (its first millisecond is whole).
    :param after: likewise from after it.
    :param arrived: events that became visible while it was read.
    :param requests: requests that it took.
    :param self_proved: one response that was not a full page held every row and its count, so no further count is
        needed. (A full page never is: an early newcomer can push an old event off it.)
    """

    window: EventWindow
    rows: int
    counted: int
    repeated: int = 0
    missing: tuple[Discrepancy, ...] = ()
    before: int = 0
    after: int = 0
    arrived: int = 0
    requests: int = 0
    self_proved: bool = False

    @property
    def proved(self) -> bool:
        """Whether every event that the API counts was handed on."""
        return not self.missing

    @property
    def lost(self) -> int:
        """Events that are counted and were not given."""
        return sum(found.lost for found in self.missing)

    @property
    def inside(self) -> int:
        """What the API counts in the slice itself, without what lies before and after it."""
        return self.rows + self.repeated + self.lost


class Found:
    """What was given for a query: distinct rows, proved repetitions, discrepancies that are not proved."""

    __slots__ = ("missing", "repeated", "rows")

    def __init__(self, rows: Iterable[EventRow] = ()) -> None:
        self.rows: dict[str, EventRow] = {}
        self.repeated: list[EventRow] = []
        self.missing: list[Discrepancy] = []
        for row in rows:
            if row.id in self.rows:
                self.repeated.append(row)
            else:
                self.rows[row.id] = row

    @property
    def given(self) -> int:
        """Places in Polar's index that gave a row."""
        return len(self.rows) + len(self.repeated)

    def noticing(self, rows: Iterable[EventRow]) -> Found:
        """Itself with rows that another page gave; that a row comes again there says nothing."""
        self.rows.update((row.id, row) for row in rows)
        return self

    def within(self, query: Query) -> Found:
        """The part of it that another query holds; nothing is missing yet."""
        return Found(row for row in [*self.rows.values(), *self.repeated] if row in query)

    def repeating(self, counted: int) -> Found:
        """Itself, with what is counted beyond its rows taken as some of them again."""
        first = next(iter(self.rows.values()))
        self.repeated = [first] * (counted - len(self.rows))
        return self

    def include(self, other: Found) -> None:
        """Adds what was given of a part of the query that no other part holds."""
        self.rows.update(other.rows)
        self.repeated += other.repeated
        self.missing += other.missing

    def add_known(self, rows: Iterable[EventRow]) -> None:
        """Adds rows that were given earlier and were not given now: so much less is missing."""
        for row in rows:
            if row.id in self.rows:
                continue
            self.rows[row.id] = row
            at = next((i for i, lack in enumerate(self.missing) if lack.start <= row.timestamp < lack.end), None)
            if at is not None:
                lack = replace(self.missing[at], given=self.missing[at].given + 1)
                self.missing[at : at + 1] = [lack] if lack.lost else []

    def lacking(self, query: Query, counted: int, reason: str) -> Found:
        """Itself, with what is not given of the query as one discrepancy in the place of finer ones."""
        self.missing = [query.discrepancy(counted, self.given, reason)] if counted > self.given else []
        return self


class Budget:
    """How many more requests may go into discrepancies. A part of a budget also draws on the whole.

    :ivar confirmed: events that turned out to be counted twice.
    """

    __slots__ = ("_left", "_whole", "confirmed")

    def __init__(self, requests: int, whole: Budget | None = None) -> None:
        self._left = requests
        self._whole = whole
        self.confirmed: int = 0 if whole is None else whole.confirmed

    @property
    def left(self) -> int:
        return self._left if self._whole is None else min(self._left, self._whole.left)

    def spend(self) -> None:
        self._left -= 1
        if self._whole is not None:
            self._whole.spend()

    def confirm(self, events: int) -> None:
        self.confirmed += events
        if self._whole is not None:
            self._whole.confirm(events)

    def part(self, requests: int) -> Budget:
        return Budget(requests, self)

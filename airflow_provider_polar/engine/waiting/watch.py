"""Watching for named events: which ones are new since the last poll. Plain decisions without I/O.

Every poll looks back over an overlap, because an event may become listable long after its timestamp, and tells new
events from known ones by their ids. It reads from the newest event backwards, a page at a time, and stops where Polar
counts as many events in the rest as are known there. So it costs one request where little is new, and otherwise
about as many as the new events have pages. Late events deep among known ones are found by halving.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import quote

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.rows import EventRow, from_ms, to_ms
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.forward import read_slice
from airflow_provider_polar.engine.reading.queries import Query
from airflow_provider_polar.engine.waiting.cursor import SeenEvent, WatchCursor
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarConfigurationError

LONGEST_QUERY = 4_000
"""Characters of names in a request: what is between may refuse an address of 8 kB."""
_LOOKS = 3
"""Stretches with events that Polar counts and does not give, which a poll looks at again."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a poll found.

    :param rows: by name, the events that not all of its cursors were certain of, oldest first.
    :param gone: short ids of known events that are no longer listed.
    :param now: aware; when it began.
    :param since: aware; from where on the next poll need look.
    """

    rows: Mapping[str, Sequence[SeenEvent]]
    gone: frozenset[bytes]
    now: datetime
    since: datetime


@dataclass(slots=True)
class Watch:
    """Which events are polled for, whatever their names.

    :param filters: what they must meet; its ``name`` must be empty.
    :param overlap: how long after its timestamp an event may become listable and still be found.
    :param ungiven: by names that one request selects, stretches where Polar counts more events than it gives.
    :raises PolarConfigurationError: names in the filters, a negative overlap.
    """

    filters: EventFilters
    overlap: timedelta
    ungiven: dict[tuple[str, ...], list[_Ungiven]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.filters.name is not None:
            raise PolarConfigurationError(
                f"filters names events too ({', '.join(self.filters.name)}): name them in event_name only."
            )
        if self.overlap < timedelta(0):
            raise PolarConfigurationError(f"overlap is {self.overlap}; it cannot be negative.")

    def poll(self, cursors: Mapping[str, Sequence[WatchCursor]], now: datetime) -> Steps[Look]:
        """One poll, for all cursors at once. It changes no cursor, so one that fails is simply made again.

        :param cursors: by name, at least one; each is to take what the poll finds.
        :param now: aware; when the poll begins.
        """
        start = min(cursor.since for of_name in cursors.values() for cursor in of_name).replace(microsecond=0)
        since = max(start, (now - self.overlap).replace(microsecond=0))
        fresh: set[SeenEvent] = set()
        gone: set[bytes] = set()
        ungiven: dict[tuple[str, ...], list[_Ungiven]] = {}
        for names in _groups(sorted(cursors)):
            query = Query.since(start, self.filters.model_copy(update={"name": list(names)}))
            known = _known_to_all([cursors[name] for name in names])
            reading = _Reading(query, known, self.ungiven.get(names, ()), now)
            yield from reading.read_new(to_ms(since))
            fresh.update(reading.fresh.values())
            gone |= reading.gone
            ungiven[names] = reading.ungiven
        self.ungiven = ungiven
        rows: dict[str, list[SeenEvent]] = {name: [] for name in cursors}
        for row in sorted(fresh):
            rows.setdefault(row.name, []).append(row)
        return Look(rows, frozenset(gone), now, since)


@dataclass(frozen=True, slots=True)
class _Ungiven:
    """Milliseconds [start, end) in which Polar counts so many more events than it gives.

    :param crowded: reading them takes more than a request.
    """

    start: int
    end: int
    number: int
    crowded: bool


class _Reading:
    """One poll's reading.

    :ivar fresh: by id, the events given that are not known.
    :ivar gone: keys of known events that are not given where all that is counted is given.
    """

    def __init__(self, query: Query, known: Mapping[bytes, int], ungiven: Sequence[_Ungiven], now: datetime) -> None:
        self.query = query
        self.known = known
        self.order = sorted((ms, key) for key, ms in known.items())
        self.moments = [ms for ms, _ in self.order]
        self.ungiven = [replace(one, start=max(one.start, query.start)) for one in ungiven if one.end > query.start]
        self.latest = to_ms(now) + 1000
        self.fresh: dict[str, SeenEvent] = {}
        self.gone: set[bytes] = set()

    def read_new(self, since: int) -> Steps[None]:
        """Reads what has changed, and some of what was counted and not given: all of it that lies before ``since``."""
        before = list(self.ungiven)
        yield from self._read(self.query.start, self.query.end)
        left = [one for one in before if any(one is other for other in self.ungiven)]
        leaving = [one for one in left if one.start < since]
        staying = [one for one in left if one.start >= since and not one.crowded]
        for one in (*leaving, *staying[:_LOOKS]):
            yield from self._read_again(one)

    def _read(self, start: int, end: int) -> Steps[int]:
        """Reads what has changed in [start, end), and returns what Polar counts there."""
        total: int | None = None
        newest: int | None = None
        above: tuple[int, int, list[SeenEvent], int] | None = None
        while start < end:
            page = yield self.query.between(start, end).request(sorting="-timestamp")
            counted, rows = page.total_count, self._seen(page.rows)
            total = counted if total is None else total
            if above is not None:
                self._settle(*above[:3], above[3] - counted)
            if counted <= MAX_LIMIT:
                self._settle(start, end, rows, counted)
                break
            if counted - self._add(rows) == self._expected(start, end):
                break
            edge = rows[0].ms if rows else start
            kept = [row for row in rows if row.ms > edge]
            if not kept or (newest is not None and rows[-1].ms != newest):
                # More events in one moment than a page holds, or a server that gives less than these bounds say.
                end = yield from self._read_slice(start if kept or not rows else edge, end)
                above = newest = None
                continue
            above, end, newest = (edge + 1, end, kept, counted), edge + 1, edge
            middle = None if self._add(kept) else self._middle(start, end)
            if middle is not None:
                newer = yield from self._read(middle, end)
                if counted - len(kept) - newer == self._expected(start, middle):
                    self._settle(*above[:3], len(kept))
                    break
                above, end, newest = (*above[:3], counted - newer), middle, None
        return total or 0

    def _read_slice(self, start: int, end: int) -> Steps[int]:
        """Reads [start, end) completely and returns its start."""
        rows: list[SeenEvent] = []
        window = EventWindow(from_ms(start), from_ms(max(start + 1, min(end, self.latest))))
        report = yield from read_slice(window, self.query.filters, lambda more, _: rows.extend(map(SeenEvent.of, more)))
        self._settle(start, end, rows, report.counted)
        return start

    def _read_again(self, one: _Ungiven) -> Steps[None]:
        if one.crowded:
            yield from self._read_slice(one.start, one.end)
            return
        page = yield self.query.between(one.start, one.end).request(sorting="-timestamp")
        self._settle(one.start, one.end, self._seen(page.rows), page.total_count)

    def _expected(self, start: int, end: int) -> int | None:
        """What Polar counts in [start, end) if nothing has changed; None where that is not known."""
        number = bisect_left(self.moments, end) - bisect_left(self.moments, start)
        for one in self.ungiven:
            if one.start < end and start < one.end:
                if one.start < start or end < one.end:
                    return None
                number += one.number
        return number

    def _middle(self, start: int, end: int) -> int | None:
        """The moment that halves what is known in [start, end); None where there is none to split at."""
        first, last = bisect_left(self.moments, start), bisect_left(self.moments, end)
        if last - first < 2:
            return None
        middle = self.moments[(first + last) // 2]
        middle = min([middle, *(one.start for one in self.ungiven if one.start < middle < one.end)])
        return middle if start < middle < end else None

    def _settle(self, start: int, end: int, rows: Sequence[SeenEvent], counted: int) -> None:
        """Learns that [start, end) holds these rows, of so many that are counted."""
        self._add(rows)
        self.ungiven = [one for one in self.ungiven if not start <= one.start < end]
        if counted > len(rows):
            end = max(start + 1, min(end, self.latest))
            self.ungiven.append(_Ungiven(start, end, counted - len(rows), counted > MAX_LIMIT))
        elif counted == len(rows):
            given = {row.key for row in rows}
            known = self.order[bisect_left(self.moments, start) : bisect_left(self.moments, end)]
            self.gone |= {key for _, key in known if key not in given}

    def _add(self, rows: Sequence[SeenEvent]) -> int:
        """Keeps the rows that are not known, and returns their number."""
        fresh = {row.id: row for row in rows if row.key not in self.known}
        self.fresh |= fresh
        return len(fresh)

    def _seen(self, rows: Sequence[EventRow]) -> list[SeenEvent]:
        """The rows, each once, oldest first."""
        return sorted({SeenEvent.of(row) for row in rows if row in self.query})


def cursors_of(watchers: Iterable[Mapping[str, WatchCursor]]) -> dict[str, list[WatchCursor]]:
    """By name, the cursors of all watchers."""
    cursors: dict[str, list[WatchCursor]] = {}
    for watcher in watchers:
        for name, cursor in watcher.items():
            cursors.setdefault(name, []).append(cursor)
    return cursors


def _groups(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The names in groups that fit in a request."""
    group: list[str] = []
    for name in names:
        if group and sum(len(quote(other)) + len("&name=") for other in (*group, name)) > LONGEST_QUERY:
            yield tuple(group)
            group = []
        group.append(name)
    yield tuple(group)


def _known_to_all(cursors: Iterable[Sequence[WatchCursor]]) -> dict[bytes, int]:
    """What all cursors of a name are certain of, for several names."""
    known: dict[bytes, int] = {}
    for of_name in cursors:
        first, *others = (cursor.certain for cursor in of_name)
        known |= {key: ms for key, ms in first.items() if all(key in other for other in others)} if others else first
    return known

"""Waiting for named events: what to request next, and whether the wait has ended. Plain decisions without I/O.

Every poll covers the whole window again and keeps nothing from the poll before, so an event that becomes listable
long after its timestamp is found, and so is one that came before the wait began or while nothing was polling.
"""

from __future__ import annotations

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Self, cast, get_args

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.rows import EventRow, RowPage, from_ms, to_ms
from airflow_provider_polar.engine.drive import Steps
from airflow_provider_polar.engine.reading.queries import Query
from airflow_provider_polar.engine.window import EventWindow, aware, moment_text
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarWindowError

Match = Literal["any", "all"]
SHOWN = 10
"""Events that a result holds at most; the count is of all."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll found.

    :param state: ``waiting``, ``found`` or ``failed`` (an event named in ``fail_on`` is there).
    :param count: matching events in the window; of the events named in ``fail_on`` where ``failed``.
    :param events: the first of them, oldest first, as the API's own JSON objects without the embedded customer,
        which is personal data and can change.
    :param unlisted: events that Polar counts and does not give: on their way, or in one of its two stores only.
    :param unseen: names that no event of the poll had.
    """

    state: Literal["waiting", "found", "failed"]
    count: int = 0
    events: tuple[dict[str, Any], ...] = ()
    unlisted: int = 0
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventWait:
    """Which events are waited for, where, and when that is enough.

    :param names: event names.
    :param start: aware; events exactly then count.
    :param end: aware; events exactly then do not count; None for no end.
    :param match: ``any``: enough events whatever their name; ``all``: enough events of every name.
    :param min_count: how many are enough.
    :param filters: what else the events must meet; its ``name`` must be empty.
    :param fail_on: names that end the wait with a failure, wherever in the window they lie. They count before what
        was waited for: where both are there the wait fails.
    :raises PolarConfigurationError: no name, an unknown ``match``, a ``min_count`` below 1, a name that is both
        waited for and in ``fail_on``, names in the filters too.
    :raises PolarWindowError: naive or reversed bounds.
    """

    names: tuple[str, ...]
    start: datetime
    end: datetime | None = None
    match: Match = "any"
    min_count: int = 1
    filters: EventFilters = field(default_factory=EventFilters)
    fail_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise PolarConfigurationError("event_name is empty: name one event or several.")
        if self.match not in get_args(Match):
            raise PolarConfigurationError(f"match is {self.match!r}; it is 'any' or 'all'.")
        if isinstance(self.min_count, bool) or not isinstance(self.min_count, int) or self.min_count < 1:
            raise PolarConfigurationError(f"min_count is {self.min_count!r}; it is a whole number, 1 or more.")
        if both := set(self.names) & set(self.fail_on):
            raise PolarConfigurationError(f"{sorted(both)[0]!r} is both in event_name and in fail_on.")
        if self.filters.name is not None:
            raise PolarConfigurationError(
                f"filters names events too ({', '.join(self.filters.name)}): name them in event_name only."
            )
        if self.end is not None and self.end <= self.start:
            raise PolarWindowError(
                f"the wait's window is empty or reversed: it starts at {moment_text(self.start)} "
                f"and ends at {moment_text(self.end)}"
            )

    @classmethod
    def of(
        cls,
        event_name: str | Sequence[str],
        *,
        start: datetime | str,
        end: datetime | str | None = None,
        match: str = "any",
        min_count: int | str = 1,
        filters: EventFilters | Mapping[str, Any] | None = None,
        fail_on: str | Sequence[str] | None = None,
    ) -> Self:
        """A wait from a user's (rendered) parameters; see the class for what is refused."""
        return cls(
            names=names_of(event_name, "event_name"),
            start=aware(start, "start"),
            end=None if end is None else aware(end, "end"),
            match=cast(Match, match),
            min_count=int(min_count) if isinstance(min_count, str) and min_count.isdigit() else cast(int, min_count),
            filters=EventFilters.parse(filters),
            fail_on=() if fail_on is None else names_of(fail_on, "fail_on"),
        )

    @classmethod
    def options(cls) -> list[str]:
        """The names of the parameters of :meth:`of`."""
        return list(inspect.signature(cls.of).parameters)

    def to_dict(self) -> dict[str, Any]:
        """The wait as plain JSON, under the names of the parameters of :meth:`of`."""
        return {
            "event_name": list(self.names),
            "start": moment_text(self.start),
            "end": None if self.end is None else moment_text(self.end),
            "match": self.match,
            "min_count": self.min_count,
            "filters": self.filters.to_dict(),
            "fail_on": list(self.fail_on),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`to_dict`; what is left out has the default of :meth:`of`."""
        return cls.of(**value)

    def with_filters(self, change: Callable[[EventFilters], EventFilters]) -> Self:
        """The same wait with other filters: the ones of a connection, for example, besides its own."""
        return replace(self, filters=change(self.filters))

    def __str__(self) -> str:
        every = f"every one of {', '.join(self.names)}" if self.match == "all" else " or ".join(self.names)
        often = f"{self.min_count} x " if self.min_count > 1 else ""
        until = "" if self.end is None else f" and before {moment_text(self.end)}"
        return f"{often}{every} from {moment_text(self.start)}{until}"

    def poll(self) -> Steps[PollResult]:
        """One poll: one request whatever the number of names.

        It takes more only where the page of that request cannot tell how many events of which name there are.
        """
        page = yield self._query((*self.names, *self.fail_on)).request(limit=self._limit())
        given = self._within(page.rows)
        failing = [row for row in given if row.get("name") in self.fail_on]
        named: RowPage | None = page
        if self.fail_on and not failing and page.total_count > len(page.rows):
            response = yield self._query(self.fail_on).request(limit=SHOWN)
            failing = self._within(response.rows)
            named = page if not response.total_count else None
        if failing or page.total_count <= self._limit():
            return self.judge([*failing, *given], unlisted=max(0, page.total_count - len(page.rows)))
        rows = [row for row in given if row.get("name") in self.names]
        enough, count = yield from self._beyond_a_page(Counter(str(row.get("name")) for row in rows), named)
        return PollResult("found" if enough else "waiting", count, _shown(rows))

    def judge(self, rows: Iterable[EventRow], *, unlisted: int = 0) -> PollResult:
        """What all rows that Polar gives mean for the wait, and perhaps rows of other names and times among them.

        It goes by the rows and not by Polar's count, for a row may be counted twice, or be counted and not be
        listable; a page that is short for no reason only means another poll.

        :param unlisted: events that Polar counts and does not give.
        """
        given = self._within(rows)
        if failing := [row for row in given if row.get("name") in self.fail_on]:
            return PollResult("failed", len(failing), _shown(failing))
        found = [row for row in given if row.get("name") in self.names]
        tally = Counter(str(row.get("name")) for row in found)
        return PollResult(
            "found" if self._enough(tally) else "waiting",
            len(found),
            _shown(found),
            unlisted,
            tuple(name for name in self.names if not tally[name]),
        )

    def _enough(self, tally: Counter[str]) -> bool:
        if self.match == "all":
            return all(tally[name] >= self.min_count for name in self.names)
        return tally.total() >= self.min_count

    def _beyond_a_page(self, tally: Counter[str], page: RowPage | None) -> Steps[tuple[bool, int]]:
        """Whether there are enough events, and how many, where a page does not hold them all.

        :param tally: the names of the rows in hand.
        :param page: the response for just :attr:`names`, if it is in hand.
        """
        if self.match == "all":
            for name in self.names:
                if tally[name] < self.min_count and (yield from self._count((name,))) < self.min_count:
                    return False, tally.total()
        count = yield from self._count(self.names, page)
        return self._enough(tally) or self.match == "all" or count >= self.min_count, max(count, tally.total())

    def _count(self, names: tuple[str, ...], page: RowPage | None = None) -> Steps[int]:
        """How many events of these names the window holds, and never more than there are.

        It goes by the rows where a page holds them all, else by Polar's count less what lies before the start or from
        the end on.

        :param page: the response for these names, if it is in hand.
        """
        query = self._query(names)
        page = page or (yield query.request())
        inside = len(self._within(page.rows))
        if page.total_count <= len(page.rows):
            return inside
        start = to_ms(self.start)
        # Rows are in ascending order, so what a response holds from before the start comes first, and once a row
        # behind the start's millisecond has come, all of it is in hand.
        if page.rows and (page.rows[-1].ms > start or (page.rows[-1].ms == start and self.start == from_ms(start))):
            count = page.total_count - sum(row.timestamp < self.start for row in page.rows)
        else:
            later = yield query.between(start + 1, query.end).request()
            if not later.rows or later.rows[-1].ms <= start:
                return inside
            count = inside + later.total_count - sum(row.ms <= start for row in later.rows)
        if self.end is not None and self.end.microsecond % 1000:
            last = yield query.request(sorting="-timestamp")
            if last.total_count <= len(last.rows):
                return len(self._within(last.rows))
            if not last.rows or last.rows[-1].ms >= to_ms(self.end):
                return inside
            count -= sum(row.timestamp >= self.end for row in last.rows)
        return count

    def _within(self, rows: Iterable[EventRow]) -> list[EventRow]:
        """The rows in the window, each once, oldest first."""
        inside = {
            row.id: row
            for row in rows
            if row.timestamp >= self.start and (self.end is None or row.timestamp < self.end)
        }
        return sorted(inside.values(), key=lambda row: (row.timestamp, row.id))

    def _limit(self) -> int:
        # Where one event is enough, a handful tells; otherwise a whole page saves further requests.
        one_is_enough = self.min_count == 1 and not self.fail_on and (self.match == "any" or len(self.names) == 1)
        return SHOWN if one_is_enough else MAX_LIMIT

    def _query(self, names: tuple[str, ...]) -> Query:
        filters = self.filters.model_copy(update={"name": list(names)})
        return query_of(self.start, self.end, filters)

    def found(self, result: PollResult) -> dict[str, Any]:
        """The outcome of the wait, JSON-ready: ``{"count", "events", "start", "end"}``."""
        return {
            "count": result.count,
            "events": list(result.events),
            "start": moment_text(self.start),
            "end": None if self.end is None else moment_text(self.end),
        }

    def failure(self, result: PollResult) -> str:
        """Why the wait failed, in words."""
        first = result.events[0]
        return (
            f"{first['name']} came (event {first['id']} at {first['timestamp']}) while waiting for {self}: "
            "fail_on ends the wait."
        )


def query_of(start: datetime, end: datetime | None, filters: EventFilters) -> Query:
    """The smallest query that holds a window, which may be open at its end."""
    return Query.since(start, filters) if end is None else Query.of(EventWindow(start, end), filters)


def names_of(value: str | Sequence[str], what: str) -> tuple[str, ...]:
    """Takes one event name or several and returns each once.

    :raises PolarConfigurationError: a value is not an event name.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Iterable) or isinstance(names, Mapping):
        raise PolarConfigurationError(f"{what} is {value!r}; it is an event name or a list of them.")
    names = list(names)
    for name in names:
        # A template renders what is not there to "None".
        if not isinstance(name, str) or name.strip() in ("", "None"):
            raise PolarConfigurationError(f"{what} has {name!r}, which is no event name.")
    return tuple(dict.fromkeys(names))


def unknown_names(names: Sequence[str], known: Iterable[str]) -> list[str]:
    """A sentence for each name that nobody has ever used, with the nearest ones that somebody has."""
    used = sorted(set(known))
    sentences = []
    for name in names:
        if name not in used:
            near = difflib.get_close_matches(name, used, n=3)
            nearest = (
                f"the nearest known names are {', '.join(map(repr, near))}" if near else "no known name is near it"
            )
            sentences.append(f"No event has ever had the name {name!r}; {nearest}. The wait goes on.")
    return sentences


def _shown(rows: list[EventRow]) -> tuple[dict[str, Any], ...]:
    events = []
    for row in rows[:SHOWN]:
        event = row.to_dict()
        event.pop("customer", None)
        events.append(event)
    return tuple(events)

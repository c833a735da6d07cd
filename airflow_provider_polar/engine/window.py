"""Half-open windows of time: how one reaches Polar, and how it is split without a gap or an overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Self

from airflow_provider_polar.api.rows import from_ms, to_ms
from airflow_provider_polar.exceptions import PolarWindowError

MILLISECOND = timedelta(milliseconds=1)
MICROSECOND = timedelta(microseconds=1)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)


def aware(value: datetime | str, what: str) -> datetime:
    """An aware UTC datetime from an aware datetime or ISO 8601 text with a zone.

    :param what: the value's name, for the error.
    :raises PolarWindowError: for a naive value or text that is no moment.
    """
    moment = value
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.strip())
        except ValueError:
            raise PolarWindowError(f"{what} is {value!r}, which is not an ISO 8601 moment") from None
    if not isinstance(moment, datetime):
        raise PolarWindowError(f"{what} is {value!r}; a moment is an aware datetime or ISO 8601 text with a zone")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise PolarWindowError(f"{what} is {value!s}, without a time zone: write it, for example {moment.isoformat()}Z")
    # A plain datetime: subclasses (pendulum's) would travel into comparisons, pickles and texts.
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise PolarWindowError(f"{what} is {value!s}, which UTC's calendar does not have") from None
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, tzinfo=UTC)


def moment_text(moment: datetime) -> str:
    """ISO 8601 in UTC with ``Z``; a fraction only where there is one, as Polar writes it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


@dataclass(frozen=True, slots=True, order=True)
class EventWindow:
    """The events with ``start <= timestamp < end``, to the microsecond.

    :param start: aware datetime (or ISO 8601 text with a zone), kept in UTC.
    :param end: likewise; later than ``start``.
    :raises PolarWindowError: naive, equal or reversed bounds. Polar would respond to those with nothing, and no error.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", aware(self.start, "start"))
        object.__setattr__(self, "end", aware(self.end, "end"))
        if self.start == self.end:
            raise PolarWindowError(
                f"the window is empty: it starts and ends at {moment_text(self.start)}. (A run of a plain cron "
                "schedule has an empty data interval in Airflow 3: give window=, or use a data interval timetable.)"
            )
        if self.start > self.end:
            raise PolarWindowError(
                f"the window is reversed: start {moment_text(self.start)} is after end {moment_text(self.end)}"
            )

    def __str__(self) -> str:
        return f"[{moment_text(self.start)}, {moment_text(self.end)})"

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, datetime) and self.start <= moment < self.end

    @property
    def duration(self) -> timedelta:
        """Length of the window."""
        return self.end - self.start

    @property
    def start_ms(self) -> int:
        """The first whole millisecond (since 1970) that holds a part of the window."""
        return to_ms(self.start)

    @property
    def end_ms(self) -> int:
        """The first whole millisecond (since 1970) that holds no part of it any more."""
        return to_ms(self.end) + (self.end.microsecond % 1000 > 0)

    def api_bounds(self) -> tuple[datetime, datetime]:
        """``start_timestamp`` and ``end_timestamp`` of the smallest request that holds the window.

        Polar compares whole milliseconds and excludes both bounds, so the start is the millisecond before. What
        lies in the edge milliseconds but outside the window comes along and is left out again here.
        (The calendar's own first and last millisecond cannot be reached so.)
        """
        start = _FIRST if self.start < _FIRST + MILLISECOND else from_ms(self.start_ms - 1)
        return start, _LAST if self.end > _LAST else from_ms(self.end_ms)

    @classmethod
    def from_api_bounds(cls, start_timestamp: datetime, end_timestamp: datetime) -> Self:
        """The whole-millisecond window that a request with these bounds covers."""
        return cls(from_ms(to_ms(start_timestamp) + 1), from_ms(to_ms(end_timestamp)))

    def split_at(self, *moments: datetime) -> list[EventWindow]:
        """Adjacent windows that meet at the given moments, in order; moments outside change nothing."""
        inside = sorted({m for m in (aware(moment, "moment") for moment in moments) if self.start < m < self.end})
        edges = [self.start, *inside, self.end]
        return [EventWindow(a, b) for a, b in pairwise(edges)]

    def split(self, parts: int) -> list[EventWindow]:
        """At most ``parts`` adjacent windows of about equal length (to the microsecond)."""
        if parts < 1:
            raise PolarWindowError(f"a window cannot be split into {parts} parts")
        return self.split_at(*(self.start + self.duration * i // parts for i in range(1, parts)))

    def steps(self, step: timedelta) -> Iterator[EventWindow]:
        """Adjacent windows of one length; the last may be shorter."""
        if step <= timedelta(0):
            raise PolarWindowError(f"a window cannot be split in steps of {step}")
        start = self.start
        while start < self.end:
            end = min(start + step, self.end)
            yield EventWindow(start, end)
            start = end

    def to_dict(self) -> dict[str, Any]:
        """``{"start": ..., "end": ...}`` as ISO 8601 text in UTC."""
        return {"start": moment_text(self.start), "end": moment_text(self.end)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """The reverse of :meth:`to_dict`."""
        return cls(value["start"], value["end"])

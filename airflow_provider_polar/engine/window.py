"""Half-open windows of time: the one place that knows that Polar excludes both bounds, in whole milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Self

from airflow_provider_polar.api.rows import from_ms, to_ms
from airflow_provider_polar.exceptions import PolarWindowError

MICROSECOND = timedelta(microseconds=1)
_FIRST_MS, _LAST_MS = to_ms(datetime.min.replace(tzinfo=UTC)), to_ms(datetime.max.replace(tzinfo=UTC))
NO_END_MS = _LAST_MS + 1
"""The millisecond after the calendar's last one: the end of what has no end."""


def aware(value: datetime | str, what: str) -> datetime:
    """An aware UTC datetime from an aware datetime or ISO 8601 text with a zone.

    :param what: the value's name, for the error.
    :raises PolarWindowError: the value is naive, or its text is not a moment.
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


def exclusive_bounds(start_ms: int, end_ms: int) -> tuple[datetime | None, datetime | None]:
    """``start_timestamp`` and ``end_timestamp`` of the request for the whole milliseconds [start_ms, end_ms).

    Polar compares whole milliseconds and excludes both bounds, so the start is the millisecond before. None stands
    for a bound outside the calendar, which excludes nothing.
    """
    start, end = (from_ms(ms) if _FIRST_MS <= ms <= _LAST_MS else None for ms in (start_ms - 1, end_ms))
    return start, end


def moment_of(ms: int) -> datetime:
    """The moment of a whole millisecond, or the calendar's first or last one where it lies outside."""
    return from_ms(min(max(ms, _FIRST_MS), _LAST_MS))


@dataclass(frozen=True, slots=True, order=True)
class EventWindow:
    """The events with ``start <= timestamp < end``, to the microsecond.

    :param start: aware datetime (or ISO 8601 text with a zone), kept in UTC.
    :param end: likewise; later than ``start``.
    :raises PolarWindowError: the bounds are naive, equal or reversed. Polar would respond to those with no events and
        without an error.
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

        What lies in the edge milliseconds but outside the window comes along and is left out again by the reader.
        (The calendar's own first and last millisecond cannot be reached so.)
        """
        start, end = exclusive_bounds(self.start_ms, self.end_ms)
        return start or moment_of(_FIRST_MS), end or moment_of(_LAST_MS)

    def split(self, parts: int) -> list[EventWindow]:
        """At most ``parts`` adjacent windows of about equal length (to the microsecond)."""
        if parts < 1:
            raise PolarWindowError(f"a window cannot be split into {parts} parts")
        edges = {self.start + self.duration * i // parts for i in range(parts)} | {self.end}
        return [EventWindow(start, end) for start, end in pairwise(sorted(edges))]

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

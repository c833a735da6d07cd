"""Which ``window=`` leaves no hour of a year out and reads none twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from airflow_provider_polar.windows.lengths import CalendarWindow, Length, parse_length, wall_clock
from airflow_provider_polar.windows.schedules import Schedule
from airflow_provider_polar.windows.ticks import LONGEST_CHANGE, Ticks

# It has no 29 February: what fills it fills a longer year, too.
_START, _END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


def filling_window(schedule: Schedule) -> str | None:
    """``window=`` text for windows before each tick that fill a year, both changes of the clocks included.

    None where no length does, or the ticks are not known.
    """
    first = schedule.ticks.next(_START)
    second = first and schedule.ticks.next(first)
    if first is None or second is None:
        return None
    return next((text for text in _lengths(second - first) if _fills(schedule, parse_length(text))), None)


def _lengths(distance: timedelta) -> Iterator[str]:
    """``window=`` texts for about this distance, the calendar's first."""
    for unit, days in (("year", 365), ("month", 28), ("week", 7), ("day", 1)):
        if count := distance // timedelta(days=days):
            yield f"{count} {unit}{'s' if count > 1 else ''}"
    for unit in ("hour", "minute", "second"):
        count, rest = divmod(distance, timedelta(**{f"{unit}s": 1}))
        if count and not rest:
            yield f"{count} {unit}{'s' if count > 1 else ''}"


def _fills(schedule: Schedule, length: Length) -> bool:
    if length == schedule.ticks.delta:
        return True
    if isinstance(length, timedelta) and _misses_a_midnight(schedule.ticks, length):
        return False
    for start, end in _to_look_at(schedule.ticks, length):
        tick = schedule.ticks.next(start)
        while tick is not None:
            following = schedule.ticks.next(tick)
            if following is None or schedule.before(following, length) != tick:
                return False
            tick = following if following < end else None
    return True


def _misses_a_midnight(ticks: Ticks, length: timedelta) -> bool:
    """Whether a midnight has no tick soon enough: seen at once, where many ticks would have to be looked at first."""
    days = (_START + timedelta(days=n) for n in range(365)) if not ticks.alike_every_day else ()
    return any((tick := ticks.next(day)) is None or tick - day > length for day in days)


def _to_look_at(ticks: Ticks, length: Length) -> Iterator[tuple[datetime, datetime]]:
    """The year, or of hours on days that are alike the first day and the changes of the clocks."""
    if isinstance(length, CalendarWindow) or not ticks.alike_every_day:
        yield _START, _END
        return
    yield _START, _START + timedelta(days=1)
    hour = _START
    while hour < _END:
        if wall_clock(hour + _HOUR, ticks.zone) - wall_clock(hour, ticks.zone) != _HOUR:
            yield hour - length - LONGEST_CHANGE, hour + length + LONGEST_CHANGE
        hour += _HOUR

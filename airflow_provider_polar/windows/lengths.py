"""How long a window is: a fixed duration, or a unit of the calendar that follows the clocks of a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pendulum

from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.parameters import number

CLOCK_UNITS = ("seconds", "minutes", "hours")
CALENDAR_UNITS = ("days", "weeks", "months", "years")
_TEXT = re.compile(
    r"(?:(\d+)\s+)?(second|minute|hour|day|week|month|quarter|year)s?(?:\s+(?:in\s+)?(\S+))?", re.IGNORECASE
)


def zone(value: str | tzinfo | None, default: tzinfo = UTC) -> tzinfo:
    """A time zone from its IANA name.

    :raises PolarWindowError: for a name that this machine does not know.
    """
    if value is None:
        return default
    if isinstance(value, tzinfo):
        return value
    try:
        return UTC if value.upper() in ("UTC", "Z") else ZoneInfo(value)
    except (KeyError, ValueError, OSError, AttributeError):
        raise PolarWindowError(f"time zone {value!r} is unknown: write an IANA name such as 'Europe/Berlin'") from None


def wall_clock(moment: datetime, where: tzinfo) -> datetime:
    """What the clock on the wall shows at ``moment``: naive."""
    return moment.astimezone(where).replace(tzinfo=None, fold=0)


def at_wall_clock(naive: datetime, where: tzinfo) -> datetime:
    """The UTC moment at which the clock on the wall shows ``naive``, chosen as Airflow's cron timetables choose.

    Of a time that comes twice it is the second, for a time that is skipped the moment as far after the change.
    """
    first, second = (naive.replace(tzinfo=where, fold=fold).astimezone(UTC) for fold in (0, 1))
    # In a skipped hour fold 0 is the later one of the two, in a repeated hour fold 1 is.
    return max(first, second)


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """A length in units of the calendar: a day is 23 or 25 hours when the clocks change, a month 28 to 31 days.

    As text, what ``window=`` takes: ``"1 day"``, ``"2 weeks"``, ``"1 month"``, ``"1 day Europe/Berlin"``.

    At least one unit is positive, and none is negative.

    :param years: number of years.
    :param months: number of months.
    :param weeks: number of weeks.
    :param days: number of days.
    :param timezone: IANA name; None is the time zone of the DAG's schedule.
    :raises PolarWindowError: no unit is positive, one is negative, or the time zone is unknown.
    """

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    timezone: str | None = None

    def __post_init__(self) -> None:
        counts = [getattr(self, unit) for unit in CALENDAR_UNITS]
        if any(not isinstance(count, int) or count < 0 for count in counts) or not any(counts):
            raise PolarWindowError(f"{self!r} is no window: give at least one unit, as a positive whole number")
        zone(self.timezone)

    def __str__(self) -> str:
        units = [
            f"{n} {unit if n > 1 else unit[:-1]}" for unit in reversed(CALENDAR_UNITS) if (n := getattr(self, unit))
        ]
        return " ".join([*units, *([self.timezone] if self.timezone else [])])

    def _shift(self, naive: datetime, direction: int) -> datetime:
        units = {unit: getattr(self, unit) for unit in CALENDAR_UNITS}
        day = pendulum.naive(naive.year, naive.month, naive.day)
        moved = day.add(**units) if direction > 0 else day.subtract(**units)
        return naive.replace(year=moved.year, month=moved.month, day=moved.day)

    def before(self, naive: datetime) -> datetime:
        """The wall-clock time this length before ``naive``."""
        return self._shift(naive, -1)

    def after(self, naive: datetime) -> datetime:
        """The wall-clock time this length after ``naive``."""
        return self._shift(naive, +1)


Length = timedelta | CalendarWindow


def parse_length(value: Any, name: str = "window") -> Length:
    """The length that ``window=`` means.

    :param value: a timedelta (exactly that long), a :class:`CalendarWindow`, seconds, or text such as ``"1 hour"``,
        ``"1 day"``, ``"1 month Europe/Berlin"``: hours and less are exact, days and more follow the calendar.
    :param name: the parameter, for the error.
    :raises PolarWindowError: for anything else, and for a length that is not positive.
    """
    length = _parse(value, name)
    if isinstance(length, timedelta) and length <= timedelta(0):
        raise PolarWindowError(f"{name}={value!r} is not positive")
    return length


def parse_duration(value: Any, name: str) -> timedelta:
    """The exact length of time that ``settle=`` or ``lookback=`` means, zero included.

    :param value: what :func:`parse_length` takes; a day has 24 hours here, and a month or a year is no exact length.
    :param name: the parameter, for the error.
    :raises PolarWindowError: for anything else, and for a negative length.
    """
    length = _parse(value, name)
    if isinstance(length, CalendarWindow):
        if length.years or length.months or length.timezone:
            raise PolarWindowError(f"{name}={value!r} depends on the calendar: give a timedelta, or days or hours")
        length = timedelta(weeks=length.weeks, days=length.days)
    if length < timedelta(0):
        raise PolarWindowError(f"{name}={value!r} is negative")
    return length


def _parse(value: Any, name: str) -> Length:
    if isinstance(value, CalendarWindow):
        return value
    if isinstance(value, pendulum.Duration) and (value.years or value.months):
        # As a plain timedelta a month would be 30 days.
        days, rest = divmod(value.as_timedelta(), timedelta(days=1))
        if rest:
            raise PolarWindowError(f"{name}={value!r} is no length: give months and years without hours beside them")
        return CalendarWindow(years=value.years, months=value.months, days=days - 365 * value.years - 30 * value.months)
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=seconds) if (seconds := number(value)) is not None else _parse_text(value, name)
    except OverflowError:
        raise PolarWindowError(f"{name}={value!r} is longer than any time that there is") from None


def _parse_text(value: Any, name: str) -> Length:
    if not isinstance(value, str) or not (match := _TEXT.fullmatch(value.strip())):
        raise PolarWindowError(
            f"{name}={value!r} is no length: give a timedelta, seconds, or text such as '1 hour', '1 day' or "
            "'1 month Europe/Berlin' (second, minute, hour, day, week, month, quarter, year)"
        )
    count, unit, place = int(match[1] or 1), match[2].lower() + "s", match[3]
    if count == 0:
        return timedelta(0)
    if unit in CLOCK_UNITS:
        if place:
            raise PolarWindowError(f"{name}={value!r}: {unit} are the same in every time zone, leave {place} out")
        return timedelta(**{unit: count})
    if unit == "quarters":
        unit, count = "months", 3 * count
    return CalendarWindow(**{unit: count, "timezone": place})  # type: ignore[arg-type]

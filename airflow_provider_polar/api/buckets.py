"""Buckets of time, which a meter's quantities are of: the ONE place that knows that Polar includes the last one."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from airflow_provider_polar.api.limits import FIRST_YEAR, INTERVAL_DAYS
from airflow_provider_polar.api.requests import timestamp_text
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarWindowError

Interval = Literal["hour", "day", "week", "month", "year"]
_MICROSECOND = timedelta(microseconds=1)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name.

    :raises PolarConfigurationError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise PolarConfigurationError(f"timezone {name!r} is not known; it is a name such as Europe/Paris") from None


def check_interval(interval: str) -> None:
    """Refuses an interval that Polar has no buckets of.

    :raises PolarConfigurationError: naming those that there are.
    """
    if interval not in INTERVAL_DAYS:
        raise PolarConfigurationError(f"interval {interval!r} is none of {', '.join(INTERVAL_DAYS)}")


def check_bounds(start: datetime, end: datetime, interval: Interval, bounds: str = "") -> None:
    """Refuses bounds that Polar would refuse.

    :param start: aware; ``start_timestamp`` of the request.
    :param end: aware; its ``end_timestamp``.
    :param bounds: what to call them, in the error.
    :raises PolarWindowError: they begin too early, are reversed, or too far apart. A retry does not help.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    bounds = bounds or f"start_timestamp {timestamp_text(start)}, end_timestamp {timestamp_text(end)}"
    if start.year < FIRST_YEAR:
        raise PolarWindowError(f"{bounds}: Polar has no quantities from before {FIRST_YEAR} (UTC)")
    if start > end:
        raise PolarWindowError(f"{bounds}: the start is after the end")
    # Polar counts the days between the two dates, whatever the hours.
    if (end.date() - start.date()).days > INTERVAL_DAYS[interval]:
        raise PolarWindowError(
            f"{bounds}: quantities by {interval} reach over {INTERVAL_DAYS[interval]:,} days at most. Make it several "
            "requests, or take a longer interval"
        )


def buckets_of(start: datetime, end: datetime, interval: Interval, timezone: str = "UTC") -> list[datetime]:
    """The buckets of the half-open window [start, end), by the moments (UTC) that Polar names them by.

    Polar knows no end of a window: ``end_timestamp`` lies in the last bucket that it gives, whole. So a request has the
    first of its buckets' moments as ``start_timestamp`` and the last one as ``end_timestamp``; with the window's end in
    its place Polar would give a bucket too many. Each moment is one interval after the one before by
    the clocks of the zone, which is the start of a bucket, but for days on which clocks skip midnight or show it twice.

    :param start: aware; where a bucket begins.
    :param end: aware, later; likewise.
    :param timezone: the zone whose clocks tell where hours, days, weeks (from Monday), months and years begin.
    :raises PolarWindowError: a bound lies within a bucket, of which Polar would give the whole; or the window is
        too early. A retry does not help.
    :raises PolarConfigurationError: an unknown interval or zone.
    """
    check_interval(interval)
    zone = zone_of(timezone)
    window = f"the window [{timestamp_text(start)}, {timestamp_text(end)})"
    check_bounds(start, start, interval, window)
    for name, moment in (("start", start), ("end", end)):
        if bucket_key(moment, interval, zone) == bucket_key(moment - _MICROSECOND, interval, zone):
            raise PolarWindowError(
                f"{window}: at its {name} no {interval} begins in {timezone}, and quantities are of whole ones only. "
                "Move it to where one begins, or take a shorter interval"
            )
    moments = []
    moment = start.astimezone(UTC)
    while moment < end:
        moments.append(moment)
        moment = _next(moment, interval, zone)
    return moments


def bucket_key(moment: datetime, interval: Interval, zone: ZoneInfo) -> Hashable:
    """What the moments of one bucket have in common."""
    clock = moment.astimezone(zone)
    day = clock.date()
    if interval == "hour":
        # An hour that clocks show twice is two.
        return moment.astimezone(UTC) - timedelta(
            minutes=clock.minute, seconds=clock.second, microseconds=clock.microsecond
        )
    if interval == "week":
        return day - timedelta(days=clock.weekday())
    return (day.year, day.month if interval != "year" else 1, day.day if interval == "day" else 1)


def _next(moment: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    """One interval later, as Polar's database reckons; months and years go from first to first."""
    if interval == "hour":
        return moment + timedelta(hours=1)
    clock = moment.astimezone(zone).replace(tzinfo=None)
    if interval in ("day", "week"):
        clock += timedelta(days=7 if interval == "week" else 1)
    else:
        year, month = divmod(clock.year * 12 + clock.month - 1 + (12 if interval == "year" else 1), 12)
        clock = clock.replace(year=year, month=month + 1)
    # A time that clocks show twice is the later one, one that they skip is told by the offset before: the later reading
    # in both cases.
    return max(clock.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))

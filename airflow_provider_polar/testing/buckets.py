"""Buckets of time as Polar's database makes them, in a time zone: `generate_series` and `date_trunc`."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from airflow_provider_polar.testing.times import EPOCH

QUARTER = 900_000_000
"""Microseconds of a quarter of an hour: no clock differs from UTC by less, so each lies within one bucket."""


class Interval(StrEnum):
    year = "year"
    month = "month"
    week = "week"
    day = "day"
    hour = "hour"


LONGEST = {Interval.year: 366, Interval.month: 31, Interval.week: 7, Interval.day: 1, Interval.hour: 1}
"""Days of a bucket at most, not counted what clocks are set back."""


def series(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo) -> list[datetime]:
    """`start`, each time one interval later, and `end` too where it is met; in UTC."""
    moments = []
    moment = start.astimezone(UTC)
    while moment <= end:
        moments.append(moment)
        moment = _next(moment, interval, zone)
    return moments


def _next(moment: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    if interval is Interval.hour:
        return moment + timedelta(hours=1)
    wall = moment.astimezone(zone).replace(tzinfo=None)
    if interval in (Interval.day, Interval.week):
        wall += timedelta(days=7 if interval is Interval.week else 1)
    else:
        months = wall.year * 12 + wall.month - 1 + (12 if interval is Interval.year else 1)
        year, month = months // 12, months % 12 + 1
        wall = wall.replace(year=year, month=month, day=min(wall.day, monthrange(year, month)[1]))
    # Of what a clock shows twice PostgreSQL takes the later moment, and what it never shows is reckoned with the
    # offset before the change; the one and the other is the later of the two readings.
    return max(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


@lru_cache(65_536)
def bucket(quarter: int, interval: str, zone: str) -> int:
    """What the moments of one bucket have in common, from whole quarters of an hour since 1970."""
    moment = (EPOCH + timedelta(microseconds=quarter * QUARTER)).astimezone(ZoneInfo(zone))
    match interval:
        case Interval.hour:
            # Two hours of one name, when clocks are set back, are two.
            return quarter - moment.minute // 15
        case Interval.day:
            return moment.toordinal()
        case Interval.week:
            return moment.toordinal() - moment.weekday()
        case Interval.month:
            return moment.year * 12 + moment.month
    return moment.year

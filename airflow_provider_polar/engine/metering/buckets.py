"""A window in the hours, days, weeks, months or years that Polar's quantities come by, and the requests for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, Self
from zoneinfo import ZoneInfo

from airflow_provider_polar.engine.window import MICROSECOND, EventWindow, moment_text
from airflow_provider_polar.exceptions import PolarResponseError, PolarWindowError

Interval = Literal["hour", "day", "week", "month", "year"]

MOST: dict[Interval, int] = {"hour": 168, "day": 366, "week": 53, "month": 48, "year": 10}
"""Buckets of one request at most: their dates are never further apart than Polar takes."""


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment of a local time, as PostgreSQL reads it.

    A time that a change of the clocks leaves out has the offset before it, one that comes twice the offset after it:
    in either case the later of the two moments that it may mean.
    """
    return max(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


@lru_cache(maxsize=4096)
def _truncated(moment: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    """PostgreSQL's ``date_trunc``; an hour keeps its offset, so that one that comes twice is two."""
    local = moment.astimezone(zone).replace(tzinfo=None)
    if interval == "hour":
        return moment - timedelta(minutes=local.minute)
    day = local.replace(hour=0, minute=0)
    if interval == "week":
        day -= timedelta(days=day.weekday())
    elif interval == "month":
        day = day.replace(day=1)
    elif interval == "year":
        day = day.replace(month=1, day=1)
    return _instant(day, zone)


def _bucket(moment: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    # No zone's clocks differ from UTC's, or change, but by quarters of an hour: events of one have one bucket.
    past = timedelta(minutes=moment.minute % 15, seconds=moment.second, microseconds=moment.microsecond)
    return _truncated(moment - past, interval, zone)


def _following(moment: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    """PostgreSQL's ``moment + interval``, for a moment in the first days of its month where that is the interval."""
    if interval == "hour":
        return moment + timedelta(hours=1)
    local = moment.astimezone(zone).replace(tzinfo=None)
    if interval in ("day", "week"):
        return _instant(local + timedelta(days=1 if interval == "day" else 7), zone)
    year, month = divmod(local.year * 12 + local.month - 1 + (1 if interval == "month" else 12), 12)
    return _instant(local.replace(year=year, month=month + 1), zone)


def _steps(window: EventWindow, interval: Interval, zone: ZoneInfo) -> Iterator[datetime]:
    """PostgreSQL's ``generate_series``."""
    step = window.start
    while step < window.end:
        yield step
        step = _following(step, interval, zone)


@dataclass(frozen=True, slots=True)
class QuantitiesRequest:
    """What to ask Polar for the quantities of adjacent buckets; the fields are the request's parameters.

    :param start_timestamp: the start of the first bucket.
    :param end_timestamp: the start of the last one, which the response includes. (Where a change of the clocks leaves
        out a midnight, Polar's steps go on from the hour after it, and this is the last step.)
    """

    start_timestamp: datetime
    end_timestamp: datetime
    interval: Interval
    timezone: str


class Buckets:
    """Adjacent whole hours (days, ...), each named by the moment to which Polar truncates its events' times, in UTC.

    :param steps: the moments for which Polar gives a quantity, each the first of its bucket or little later.
    :param interval: ``hour``, ``day``, ``week``, ``month`` or ``year``.
    :param timezone: IANA name of the zone in which they begin.
    """

    def __init__(self, steps: Iterable[datetime], interval: Interval, timezone: str) -> None:
        self.interval = interval
        self.timezone = timezone
        self._zone = ZoneInfo(timezone)
        self._by_step = {step: _bucket(step, interval, self._zone) for step in steps}
        self._names = frozenset(self._by_step.values())

    @classmethod
    def of(cls, window: EventWindow, interval: Interval = "hour", timezone: str = "UTC") -> Self:
        """The buckets of a window.

        :raises PolarWindowError: there is no such interval or time zone, or the window begins or ends within a bucket.
            A retry does not help.
        """
        if interval not in MOST:
            raise PolarWindowError(f"Polar has no quantities by {interval!r}; there are {', '.join(MOST)}")
        try:
            zone = ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise PolarWindowError(f"there is no time zone {timezone!r}; Europe/Berlin is one") from None
        for bound in (window.start, window.end):
            if _bucket(bound, interval, zone) == _bucket(bound - MICROSECOND, interval, zone):
                raise PolarWindowError(
                    f"the window {window} has to consist of whole {interval}s of {timezone}, as Polar's quantities do; "
                    f"{moment_text(bound)} lies within one"
                )
        return cls(_steps(window, interval, zone), interval, timezone)

    def __iter__(self) -> Iterator[datetime]:
        return iter(self._by_step.values())

    def __len__(self) -> int:
        return len(self._by_step)

    def find(self, moment: datetime) -> datetime | None:
        """The bucket that an event of that (aware) time falls into; None where it is none of these."""
        bucket = _bucket(moment, self.interval, self._zone)
        return bucket if bucket in self._names else None

    def only(self, chosen: Collection[datetime]) -> Self:
        """The buckets from the first to the last of those chosen."""
        steps = list(self._by_step)
        places = [place for place, bucket in enumerate(self) if bucket in chosen]
        return type(self)(steps[min(places) : max(places) + 1], self.interval, self.timezone)

    def requests(self) -> list[QuantitiesRequest]:
        """The fewest requests that give every bucket's quantity."""
        steps, most = list(self._by_step), MOST[self.interval]
        parts = [steps[first : first + most] for first in range(0, len(steps), most)]
        return [QuantitiesRequest(part[0], part[-1], self.interval, self.timezone) for part in parts]

    def by_bucket(self, given: Iterable[tuple[datetime, float]]) -> dict[datetime, float]:
        """Polar's quantities by bucket, from all the responses' times and quantities.

        :raises PolarResponseError: a bucket is not among them, or they have one that is not among these. A retry does
            not help.
        """
        quantities = dict(given)
        if odd := quantities.keys() ^ self._by_step.keys():
            raise PolarResponseError(
                f"Polar gave {len(quantities)} quantities by {self.interval} in {self.timezone} where {len(self)} were "
                f"asked for; the first that is missing, or not asked for, is that of {moment_text(min(odd))}"
            )
        return {bucket: quantities[step] for step, bucket in self._by_step.items()}

"""The whole hours, days, ... of a window that a meter is compared by, and the requests for their quantities."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Self

from airflow_provider_polar.api.buckets import Interval, bucket_key, buckets_of, zone_of
from airflow_provider_polar.api.limits import INTERVAL_DAYS
from airflow_provider_polar.engine.window import EventWindow, moment_text
from airflow_provider_polar.exceptions import PolarResponseError

_key_of_quarter = lru_cache(maxsize=4096)(bucket_key)


@dataclass(frozen=True, slots=True)
class QuantitiesRequest:
    """The request for the quantities of adjacent buckets; the fields are its parameters."""

    start_timestamp: datetime
    end_timestamp: datetime
    interval: Interval
    timezone: str


class Buckets:
    """Adjacent whole hours (days, ...), each named by the moment (UTC) that Polar gives its quantity with.

    :param moments: their names.
    :param interval: ``hour``, ``day``, ``week``, ``month`` or ``year``.
    :param timezone: IANA name of the zone in which they begin.
    """

    def __init__(self, moments: Iterable[datetime], interval: Interval, timezone: str) -> None:
        self.interval = interval
        self.timezone = timezone
        self._zone = zone_of(timezone)
        self._by_key = {self._key(moment): moment for moment in moments}

    @classmethod
    def of(cls, window: EventWindow, interval: Interval = "hour", timezone: str = "UTC") -> Self:
        """The buckets of a window.

        :raises PolarWindowError: the window begins or ends within a bucket, or too early. A retry does not help.
        :raises PolarConfigurationError: there is no such interval or time zone.
        """
        return cls(buckets_of(window.start, window.end, interval, timezone), interval, timezone)

    def __iter__(self) -> Iterator[datetime]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def _key(self, moment: datetime) -> Hashable:
        # No zone's clocks differ from UTC's, or change, but by quarters of an hour: events of one have one bucket.
        past = timedelta(minutes=moment.minute % 15, seconds=moment.second, microseconds=moment.microsecond)
        return _key_of_quarter(moment - past, self.interval, self._zone)

    def runs(self, chosen: Collection[datetime]) -> Iterator[list[datetime]]:
        """The buckets chosen, those that follow one on the other together."""
        for is_chosen, run in groupby(self, lambda moment: moment in chosen):
            if is_chosen:
                yield list(run)

    def find(self, moment: datetime) -> datetime | None:
        """The bucket that an event of that (aware) time falls into; None where it is none of these."""
        return self._by_key.get(self._key(moment))

    def only(self, chosen: Collection[datetime]) -> Self:
        """The buckets from the first to the last of those chosen."""
        first, last = min(chosen), max(chosen)
        return type(self)((moment for moment in self if first <= moment <= last), self.interval, self.timezone)

    def requests(self, chosen: Collection[datetime] | None = None) -> list[QuantitiesRequest]:
        """The requests that give the quantity of every bucket: of 168 hours each, 366 days, 53 weeks, ...

        :param chosen: the buckets whose quantities are wanted, if not all; some between them come along.
        """
        longest = timedelta(days=INTERVAL_DAYS[self.interval])
        parts: list[list[datetime]] = []
        for moment in self if chosen is None else sorted(chosen):
            if not parts or moment - parts[-1][0] >= longest:
                parts.append([])
            parts[-1].append(moment)
        return [QuantitiesRequest(part[0], part[-1], self.interval, self.timezone) for part in parts]

    def by_bucket(self, given: Iterable[tuple[datetime, float]]) -> dict[datetime, float]:
        """Polar's quantities by bucket, from all the responses' times and quantities.

        :raises PolarResponseError: a bucket is not among them, or they have one that is not among these. A retry does
            not help.
        """
        quantities = dict(given)
        if odd := quantities.keys() ^ set(self):
            raise PolarResponseError(
                f"Polar gave {len(quantities)} quantities by {self.interval} in {self.timezone} where {len(self)} were "
                f"requested; the first that is missing, or was not requested, is that of {moment_text(min(odd))}"
            )
        return quantities

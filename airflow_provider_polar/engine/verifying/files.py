"""The files of exports against Polar's list: by count, and where that differs by id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from airflow_provider_polar.engine.metering.filters import Event
from airflow_provider_polar.engine.metering.quantities import Customer, Meter, customer_of
from airflow_provider_polar.engine.verifying.bucketed import BucketedWindow
from airflow_provider_polar.engine.verifying.differences import Kind, UsageDifference
from airflow_provider_polar.engine.verifying.exported import ExportedEvents
from airflow_provider_polar.engine.verifying.listed import ListedEvents


def compare_files(
    place: BucketedWindow,
    meters: Sequence[Meter],
    exported: ExportedEvents,
    listed: ListedEvents,
    held: Mapping[datetime, int],
    suspects: Collection[datetime],
) -> list[UsageDifference]:
    """What only the files or only the list has.

    :param held: the events that the files hold, by bucket.
    :param suspects: buckets to compare in any case, besides those that Polar counts otherwise.
    """
    chosen = {*suspects, *miscounted(list(place.buckets), held, lambda run: listed.count(place.span(run)))}
    return [
        line
        for bucket in sorted(chosen)
        for line in compare_ids(
            bucket,
            meters,
            lambda one: place.events([one], exported.read),
            lambda one: place.events([one], listed.read),
        )
    ]


def miscounted(
    buckets: Sequence[datetime], held: Mapping[datetime, int], count: Callable[[Sequence[datetime]], int]
) -> Iterator[datetime]:
    """The buckets of which Polar counts another number of events than the files hold.

    One request where none is, and about two for each halving on the way to one that is.

    :param count: what Polar counts in adjacent buckets.
    """
    if not buckets or count(buckets) == sum(held.get(bucket, 0) for bucket in buckets):
        return
    if len(buckets) == 1:
        yield buckets[0]
        return
    middle = len(buckets) // 2
    yield from miscounted(buckets[:middle], held, count)
    yield from miscounted(buckets[middle:], held, count)


_Read = Callable[[datetime], Iterable[Event]]
"""Gives the events of a bucket."""


def compare_ids(bucket: datetime, meters: Sequence[Meter], exported: _Read, listed: _Read) -> Iterator[UsageDifference]:
    """The events of a bucket that only the files or only the list have; holds the bucket's ids."""
    in_files = {event["id"] for event in exported(bucket)}
    in_list: set[str] = set()
    new: list[Event] = []
    for event in listed(bucket):
        in_list.add(event["id"])
        if event["id"] not in in_files:
            new.append(event)
    gone = [event for event in exported(bucket) if event["id"] not in in_list] if in_files - in_list else []
    yield from _lines(Kind.ONLY_IN_FILES, bucket, meters, gone)
    yield from _lines(Kind.NOT_IN_FILES, bucket, meters, new)


def _lines(kind: Kind, bucket: datetime, meters: Sequence[Meter], events: Sequence[Event]) -> Iterator[UsageDifference]:
    found: dict[tuple[Meter | None, Customer], list[str]] = defaultdict(list)
    for event in events:
        takers: list[Meter | None] = [meter for meter in meters if meter.takes(event)]
        for meter in takers or [None]:
            found[meter, customer_of(event)].append(event["id"])
    for (meter, customer), ids in found.items():
        yield UsageDifference(
            kind=kind, meter=meter, bucket=bucket, customer=customer, events=len(ids), event_ids=tuple(ids)
        )

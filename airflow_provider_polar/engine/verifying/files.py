"""The files of exports against Polar's list: each event by its id, and by what the meters make of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_polar.engine.metering.filters import Event, time_of
from airflow_provider_polar.engine.metering.quantities import Customer, Meter, customer_of
from airflow_provider_polar.engine.verifying.bucketed import BucketedWindow
from airflow_provider_polar.engine.verifying.differences import Kind, UsageDifference
from airflow_provider_polar.engine.verifying.exported import ExportedEvents
from airflow_provider_polar.engine.verifying.listed import ListedEvents

Worth = tuple[Any, ...]
"""What each meter makes of an event; None where it does not take it."""


def worth_of(meters: Sequence[Meter], event: Event) -> Worth:
    """What the meters make of an event."""
    return tuple(meter.aggregation.value(event) if meter.takes(event) else None for meter in meters)


class EventSums:
    """Which events there are, by bucket: sums of digests, in any order, which only equal sets of equal events share.

    As each digest counts 2^256 besides, sets of different sizes differ whatever their events are.

    :param meters: what these make of an event is part of its digest, as its id is.
    """

    def __init__(self, meters: Sequence[Meter] = ()) -> None:
        self._meters = meters
        self._sums: dict[datetime, int] = defaultdict(int)

    def add(self, bucket: datetime, event: Event) -> None:
        """Takes one more event."""
        digest = hashlib.sha256(repr((event["id"], worth_of(self._meters, event))).encode()).digest()
        self._sums[bucket] += int.from_bytes(b"\1" + digest)

    def differing(self, other: EventSums) -> set[datetime]:
        """The buckets in which another has other events."""
        return {bucket for bucket, _ in self._sums.items() ^ other._sums.items()}


def compare_files(
    place: BucketedWindow, meters: Sequence[Meter], exported: ExportedEvents, listed: ListedEvents, sums: EventSums
) -> list[UsageDifference]:
    """What the files and the list do not share; reads the whole list, and holds the ids of a bucket that differs.

    :param sums: which events the files hold.
    """
    there = EventSums(meters)
    for event in listed.read(place.window):
        there.add(place.bucket_of(time_of(event)), event)
    return [
        line
        for bucket in sorted(sums.differing(there))
        for line in compare_ids(
            bucket,
            meters,
            lambda one: place.events([one], exported.read),
            lambda one: place.events([one], listed.read),
        )
    ]


_Read = Callable[[datetime], Iterable[Event]]
"""Gives the events of a bucket."""


def compare_ids(bucket: datetime, meters: Sequence[Meter], exported: _Read, listed: _Read) -> Iterator[UsageDifference]:
    """The events of a bucket that the files and the list do not share; holds the bucket's ids."""
    in_files = {event["id"]: worth_of(meters, event) for event in exported(bucket)}
    in_list: set[str] = set()
    new: list[Event] = []
    changed: dict[Meter | None, list[Event]] = defaultdict(list)
    for event in listed(bucket):
        in_list.add(event["id"])
        if event["id"] not in in_files:
            new.append(event)
            continue
        for meter, one, other in zip(meters, in_files[event["id"]], worth_of(meters, event), strict=True):
            if one != other:
                changed[meter].append(event)
    gone = [event for event in exported(bucket) if event["id"] not in in_list] if in_files.keys() - in_list else []
    for kind, events in ((Kind.ONLY_IN_FILES, gone), (Kind.NOT_IN_FILES, new)):
        takers: dict[Meter | None, list[Event]] = defaultdict(list)
        for event in events:
            its: list[Meter | None] = [meter for meter in meters if meter.takes(event)]
            for taker in its or [None]:
                takers[taker].append(event)
        yield from _lines(kind, bucket, takers)
    yield from _lines(Kind.OTHER_IN_FILES, bucket, changed)


def _lines(kind: Kind, bucket: datetime, events: Mapping[Meter | None, Sequence[Event]]) -> Iterator[UsageDifference]:
    found: dict[tuple[Meter | None, Customer], list[str]] = defaultdict(list)
    for meter, its in events.items():
        for event in its:
            found[meter, customer_of(event)].append(event["id"])
    for (meter, customer), ids in found.items():
        yield UsageDifference(
            kind=kind, meter=meter, bucket=bucket, customer=customer, events=len(ids), event_ids=tuple(ids)
        )

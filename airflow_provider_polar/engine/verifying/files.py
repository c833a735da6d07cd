"""The files of exports against Polar's list, by id."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from airflow_provider_polar.engine.metering.filters import Event, time_of
from airflow_provider_polar.engine.metering.quantities import Customer, Meter, customer_of
from airflow_provider_polar.engine.verifying.bucketed import BucketedWindow
from airflow_provider_polar.engine.verifying.differences import Kind, UsageDifference
from airflow_provider_polar.engine.verifying.exported import ExportedEvents
from airflow_provider_polar.engine.verifying.listed import ListedEvents


class IdSums:
    """Which events there are, by bucket: sums of their ids' digests, in any order, which only equal sets share.

    As each digest counts 2^256 besides, sets of different sizes differ whatever their ids are.
    """

    def __init__(self) -> None:
        self._sums: dict[datetime, int] = defaultdict(int)

    def add(self, bucket: datetime, event: Event) -> None:
        """Takes one more event."""
        digest = hashlib.sha256(event["id"].encode()).digest()
        self._sums[bucket] += int.from_bytes(b"\1" + digest)

    def differing(self, other: IdSums) -> set[datetime]:
        """The buckets in which another has other events."""
        return {bucket for bucket, _ in self._sums.items() ^ other._sums.items()}


def compare_files(
    place: BucketedWindow, meters: Sequence[Meter], exported: ExportedEvents, listed: ListedEvents, ids: IdSums
) -> list[UsageDifference]:
    """What only the files or only the list has; reads the whole list, and holds the ids of a bucket that differs.

    :param ids: which events the files hold.
    """
    there = IdSums()
    for event in listed.read(place.window):
        there.add(place.bucket_of(time_of(event)), event)
    return [
        line
        for bucket in sorted(ids.differing(there))
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

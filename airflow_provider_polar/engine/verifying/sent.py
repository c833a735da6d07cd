"""What was sent against what Polar lists: the witness at the source.

Polar does not return an event's ``external_id``, so that rows and listed events cannot be paired. They are compared by
how many there are of a name, a customer and a bucket, and where there are as many, by what the meters make of them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from airflow_provider_polar.engine.ingesting.sources import Row
from airflow_provider_polar.engine.ingesting.validation import EventValidator
from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.metering.filters import Event, time_of
from airflow_provider_polar.engine.metering.quantities import Customer, Meter, Quantities, customer_of
from airflow_provider_polar.engine.verifying.differences import Finding, Kind, UsageDifference, quantity_text
from airflow_provider_polar.wording import number_of

_Key = tuple[str, Customer, datetime]
"""Name, customer and bucket of events."""


class Sent:
    """What was sent, compared with what is listed; itself nothing at all."""

    def add_listed(self, event: Event, bucket: datetime) -> None:
        """Takes a listed event."""

    def forget_listed(self, chosen: Collection[datetime]) -> None:
        """Drops the listed events of some buckets, which are read again."""

    def compare(self) -> list[UsageDifference]:
        """What was sent and is not listed, or is listed otherwise."""
        return []

    def doubtful(self) -> set[datetime]:
        """The buckets to be read again before what :meth:`compare` says counts."""
        return {one.bucket for one in self.compare()}

    def findings(self) -> list[Finding]:
        """What else there is to know."""
        return []


class SentCount(Sent):
    """How many events an ingest has stored, by its result: as many of the window have to be listed."""

    def __init__(self, inserted: int, buckets: Buckets) -> None:
        self._inserted = inserted
        self._buckets = buckets
        self._listed: Counter[datetime] = Counter()

    def add_listed(self, event: Event, bucket: datetime) -> None:
        self._listed[bucket] += event["source"] == "user"

    def forget_listed(self, chosen: Collection[datetime]) -> None:
        for bucket in chosen:
            self._listed.pop(bucket, None)

    def compare(self) -> list[UsageDifference]:
        if (there := self._listed.total()) >= self._inserted:
            return []
        note = f"{number_of(self._inserted, 'event')} inserted, {there:,} listed in the whole window"
        first = next(iter(self._buckets))
        return [
            UsageDifference(
                kind=Kind.NOT_STORED, meter=None, bucket=first, events=there, expected=self._inserted, note=note
            )
        ]

    def doubtful(self) -> set[datetime]:
        return set(self._buckets) if self.compare() else set()


class SentEvents(Sent):
    """The rows of an ingest, and the listed events that may be theirs.

    Memory grows with names, customers and buckets, not with rows.

    :param rows: as an ingest takes them.
    :param mapping: makes an event of a row; None where rows are events.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        mapping: Callable[[Any], tuple[dict[str, Any], Sequence[Any]]] | None,
        meters: Sequence[Meter],
        buckets: Buckets,
    ) -> None:
        self._buckets = buckets
        self._sent = [Quantities(meter, buckets) for meter in meters]
        self._listed = [Quantities(meter, buckets) for meter in meters]
        self._counts: Counter[_Key] = Counter()
        self._listed_counts: Counter[_Key] = Counter()
        self._apart: Counter[str] = Counter()
        self._external_ids: dict[str, str] = {}
        for event in self._events(rows, mapping):
            bucket = self._buckets.find(time_of(event))
            if bucket is None:
                self._apart["outside of the window"] += 1
                continue
            customer = Customer(event.get("customer_id"), event.get("external_customer_id"))
            self._counts[event["name"], customer, bucket] += 1
            for quantities in self._sent:
                quantities.add(event, bucket, customer)

    def _events(self, rows: Iterable[Row], mapping: Any) -> Iterator[Event]:
        """The events that an ingest of the rows stores, each once."""
        validate = EventValidator()
        # An empty name is that of a temporary database, on disk where it grows.
        with closing(sqlite3.connect("")) as seen:
            seen.execute("CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")
            for row in rows:
                value, problems = mapping(row.value) if mapping and row.error is None else (row.value, ())
                event, more = validate(value)
                if row.error is not None or problems or more:
                    self._apart["invalid, so that an ingest rejects them"] += 1
                elif "timestamp" not in event:
                    self._apart["without a timestamp, so that they count when Polar receives them"] += 1
                elif "external_id" not in event or _is_new(seen, event["external_id"]):
                    yield {**event, "source": "user"}

    def add_listed(self, event: Event, bucket: datetime) -> None:
        whose = customer_of(event)
        if whose.id and whose.external_id:
            self._external_ids[whose.id] = whose.external_id
        for customer in (Customer(None, whose.external_id), Customer(whose.id, None)):
            if event["source"] == "user" and (event["name"], customer, bucket) in self._counts:
                self._listed_counts[event["name"], customer, bucket] += 1
                for quantities in self._listed:
                    quantities.add(event, bucket, customer)
                return

    def forget_listed(self, chosen: Collection[datetime]) -> None:
        for key in [key for key in self._listed_counts if key[2] in chosen]:
            del self._listed_counts[key]
        for quantities in self._listed:
            for bucket in chosen:
                quantities.forget(bucket)

    def compare(self) -> list[UsageDifference]:
        return list(self._differences())

    def _differences(self) -> Iterator[UsageDifference]:
        sent, listed = self._by_customer(self._counts), self._by_customer(self._listed_counts)
        short: set[tuple[Customer, datetime]] = set()
        for (name, customer, bucket), number in sorted(sent.items(), key=str):
            if (there := listed[name, customer, bucket]) != number:
                short.add((customer, bucket))
            if there < number:
                note = f"{name}: {number_of(number, 'event')} sent, {there:,} listed"
                yield UsageDifference(
                    kind=Kind.NOT_STORED,
                    meter=None,
                    bucket=bucket,
                    customer=customer,
                    events=there,
                    expected=number,
                    note=note,
                )
        places = {(customer, bucket) for _, customer, bucket in sent} - short
        for ours, theirs in zip(self._sent, self._listed, strict=True):
            for customer, bucket in sorted(places, key=str):
                keys = self._keys(customer)
                mine, tally = ours.tally(bucket, *keys), theirs.tally(bucket, *keys)
                if mine.events != tally.events or not mine.agrees_with(tally.quantity):
                    note = f"{quantity_text(mine.quantity)} sent, {quantity_text(tally.quantity)} listed"
                    yield UsageDifference(
                        kind=Kind.STORED_OTHERWISE,
                        meter=ours.meter,
                        bucket=bucket,
                        customer=customer,
                        events=tally.events,
                        expected=mine.quantity,
                        note=note,
                    )

    def findings(self) -> list[Finding]:
        found = [
            Finding(None, number, f"{number_of(number, 'row')} {why}: not compared")
            for why, number in self._apart.items()
        ]
        sent, listed = self._by_customer(self._counts), self._by_customer(self._listed_counts)
        if more := sum(max(0, listed[key] - number) for key, number in sent.items()):
            text = f"{number_of(more, 'event')} of the same names, customers and buckets listed besides those sent"
            found.append(Finding(None, more, text))
        return found

    def _by_customer(self, counts: Counter[_Key]) -> Counter[_Key]:
        """The same with one customer for both of the ids that rows may name it by."""
        merged: Counter[_Key] = Counter()
        for (name, customer, bucket), number in counts.items():
            external_id = self._external_ids.get(customer.id or "")
            merged[name, Customer(None, external_id) if external_id else customer, bucket] += number
        return merged

    def _keys(self, customer: Customer) -> list[Customer]:
        ids = [known for known, external_id in self._external_ids.items() if external_id == customer.external_id]
        return [customer, *(Customer(known, None) for known in ids)]


def _is_new(seen: sqlite3.Connection, external_id: str) -> bool:
    return seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (external_id,)).rowcount == 1

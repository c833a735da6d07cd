"""From a customer's hour that differs to the events that do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any
from urllib.parse import quote

from airflow_provider_polar.engine.metering.filters import Event
from airflow_provider_polar.engine.metering.quantities import Customer, Difference
from airflow_provider_polar.engine.verifying.bucketed import BucketedWindow
from airflow_provider_polar.engine.verifying.entries import (
    Culprits,
    Entry,
    deduce,
    entries_of,
    tally_of,
    telling_key,
)
from airflow_provider_polar.engine.verifying.listed import ListedEvents
from airflow_provider_polar.engine.verifying.metered import MeteredUsage, of_customers

_MOST_VALUES, _MOST_CHARACTERS = 100, 4_000
"""Values of a key in one request at most, and their characters."""


@dataclass(slots=True)
class Case:
    """A difference of one customer (or of no known one) and what explains it.

    :param entries: the customer's listed events that the meter takes.
    :param key: the metadata key that tells them apart.
    :ivar moved: events that are listed for this customer and metered for another one, with that one.
    :ivar received: events that are metered for this customer and listed for another one, with that one.
    :ivar sure: whether Polar says so of those; False where only the quantities fit.
    :ivar partner: the case that has as much more as this one has less, or the reverse, where no event can be told.
    """

    difference: Difference
    entries: Sequence[Entry] = ()
    key: str | None = None
    culprits: Culprits = field(default_factory=Culprits)
    moved: list[tuple[Entry, Customer | None]] = field(default_factory=list)
    received: list[tuple[Entry, Customer | None]] = field(default_factory=list)
    sure: bool = True
    partner: Case | None = None

    @property
    def rest(self) -> float:
        """What no event explains of the difference; above 0 where more is metered than is listed."""
        one, aggregation = self.difference, self.difference.meter.aggregation
        got = [entry for entry, _ in self.received]
        lost = [entry for entry, _ in self.moved]
        if aggregation.additive:
            shift = self.culprits.shift + sum(entry.value for entry in got) - sum(entry.value for entry in lost)
            rest = one.polar - one.ours - shift
            return 0.0 if abs(rest) <= one.tolerance else rest
        gone = {entry.id for entry in (*self.culprits.absent, *lost)}
        there = [entry for entry in self.entries if entry.id not in gone]
        tally = tally_of(aggregation, [*there, *self.culprits.twice, *got])
        return 0.0 if tally.agrees_with(one.polar) else one.polar - tally.quantity


class EventSearch:
    """Finds the events of customers' hours that explain what differs."""

    def __init__(self, listed: ListedEvents, polar: MeteredUsage, pool: Executor, place: BucketedWindow) -> None:
        self._listed = listed
        self._polar = polar
        self._pool = pool
        self._place = place

    def explain(self, differences: Iterable[Difference]) -> list[Case]:
        """A case for each difference; the events of a customer's hour are read once for all meters."""
        ordered = sorted(differences, key=_hour_of_customer)
        groups = [list(group) for _, group in groupby(ordered, key=_hour_of_customer)]
        return [case for cases in self._pool.map(self._cases, groups) for case in cases]

    def _cases(self, differences: Sequence[Difference]) -> list[Case]:
        bucket, customer = differences[0].bucket, differences[0].customer
        events: list[Event] = []
        if customer is not None and any(one.events for one in differences):
            events = self._read(bucket, of_customers([customer]))
        return [self._case(one, events) for one in differences]

    def _case(self, one: Difference, events: Sequence[Event]) -> Case:
        aggregation, entries = one.meter.aggregation, entries_of(one.meter, events)
        case = Case(one, entries, telling_key(entries))
        if case.key is not None and aggregation.function not in ("max", "min"):
            for part in _parts(entries, case.key):
                case.culprits.include(self._halve(case, part) or Culprits())
        if case.culprits:
            return case
        if aggregation.additive:
            left = [entry for entry in entries if case.key not in entry.texts]
            case.culprits = deduce(aggregation, left, tally_of(aggregation, left).quantity + case.rest)
        else:
            case.culprits = deduce(aggregation, entries, one.polar)
        return case

    def _halve(self, case: Case, groups: Sequence[Sequence[Entry]]) -> Culprits | None:
        """The culprits among the events of some values of the key; None where these events do not differ."""
        one, entries = case.difference, [entry for group in groups for entry in group]
        aggregation = one.meter.aggregation
        polar = self.quantity(one, one.customer, case.key, [group[0] for group in groups])
        if tally_of(aggregation, entries).agrees_with(polar):
            return None
        middle = len(groups) // 2
        halves = [self._halve(case, half) for half in (groups[:middle], groups[middle:])] if middle else []
        found = [half for half in halves if half is not None]
        if not found:
            return deduce(aggregation, entries, polar)
        culprits = Culprits()
        for half in found:
            culprits.include(half)
        return culprits

    def quantity(self, one: Difference, customer: Customer | None, key: str | None, entries: Sequence[Entry]) -> float:
        """What Polar meters of a customer's events, or of all, that share a value of the key with some events."""
        values = {key: [entry.texts[key] for entry in entries]} if key is not None else None
        customers = [customer] if customer else []
        return self._polar.quantities(one.meter, [one.bucket], customers=customers, metadata=values)[one.bucket]

    def listed_alike(self, one: Difference, key: str, entry: Entry) -> list[Entry]:
        """The listed events, of all customers, that the meter takes and that share an event's value of the key."""
        return entries_of(one.meter, self._read(one.bucket, {"metadata": {key: [entry.texts[key]]}}))

    def _read(self, bucket: datetime, filters: Mapping[str, Any]) -> list[Event]:
        return list(self._place.events([bucket], lambda window: self._listed.narrowed(filters, window)))


def _hour_of_customer(one: Difference) -> tuple[datetime, str]:
    return one.bucket, str(one.customer)


def _parts(entries: Sequence[Entry], key: str) -> Iterator[list[list[Entry]]]:
    """Events by their value of a key, as many values at once as a request holds."""
    values: dict[str, list[Entry]] = {}
    for entry in entries:
        if key in entry.texts:
            values.setdefault(entry.texts[key], []).append(entry)
    part: list[list[Entry]] = []
    characters = 0
    for text, group in values.items():
        characters += len(quote(text)) + len(quote(key)) + len("&metadata[]=")
        if part and (len(part) == _MOST_VALUES or characters > _MOST_CHARACTERS):
            yield part
            part, characters = [], len(text)
        part.append(group)
    if part:
        yield part

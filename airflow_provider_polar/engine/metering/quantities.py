"""A meter's quantities of a stream of events, by bucket and customer, and their comparison with Polar's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self

from airflow_provider_polar.engine.metering.aggregation import Aggregation, LeftOut, Tally
from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.metering.filters import Event, Takes, filter_of, time_of
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.wording import number_of


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter's rule, ready to be evaluated.

    :param takes: its filter.
    """

    id: str
    name: str
    takes: Takes
    aggregation: Aggregation

    @classmethod
    def parse(cls, meter: Mapping[str, Any]) -> Self:
        """The rule of a meter as the API gives it (``id``, ``name``, ``filter``, ``aggregation``).

        :raises PolarConfigurationError: it has an operator or a function that is not known here. A retry does not help.
        """
        try:
            takes, aggregation = filter_of(meter["filter"]), Aggregation.parse(meter["aggregation"])
        except ValueError as error:
            raise PolarConfigurationError(
                f"the meter {meter['name']} ({meter['id']}) cannot be evaluated: {error}. Leave it out, or upgrade the "
                "provider"
            ) from None
        return cls(meter["id"], meter["name"], takes, aggregation)


class Customer(NamedTuple):
    """Whose an event is, by Polar's id and by the organization's own; either may be unknown (None)."""

    id: str | None
    external_id: str | None


def customer_of(event: Event) -> Customer:
    """Whose an event is: the same for both ids that it may have been ingested under, once Polar has the customer.

    An export without the field ``customer`` tells a customer's two ids apart.
    """
    embedded = event.get("customer") or {}
    return Customer(
        embedded.get("id") or event.get("customer_id"),
        embedded.get("external_id") or event.get("external_customer_id"),
    )


class Quantities:
    """What a meter makes of events. Memory grows with buckets and customers, and for ``unique`` with distinct values.

    :ivar left_out: events that the meter's filter takes and its function leaves out, by what they carry.
    """

    def __init__(self, meter: Meter, buckets: Buckets) -> None:
        self.meter = meter
        self.buckets = buckets
        self.left_out: Counter[LeftOut] = Counter()
        self._tallies: dict[datetime, dict[Customer | None, Tally]] = {}

    def add(self, event: Event, bucket: datetime, customer: Customer | None = None) -> None:
        """Takes one more event, if the meter takes it."""
        if not self.meter.takes(event):
            return
        value = self.meter.aggregation.value(event)
        if isinstance(value, LeftOut):
            self.left_out[value] += 1
            return
        tallies = self._tallies.setdefault(bucket, {})
        if (tally := tallies.get(customer)) is None:
            tally = tallies[customer] = self.meter.aggregation.tally()
        tally.add(value)

    def forget(self, bucket: datetime) -> None:
        """Drops what there is of a bucket."""
        self._tallies.pop(bucket, None)

    @property
    def customers(self) -> set[Customer]:
        """The customers whose events the meter takes, where they are told apart."""
        return {customer for tallies in self._tallies.values() for customer in tallies if customer is not None}

    def tally(self, bucket: datetime, *customers: Customer) -> Tally:
        """What there is of a bucket, of some customers or of all; an empty tally where there is nothing."""
        tallies = self._tallies.get(bucket, {})
        return self._merged(
            tallies.values() if not customers else (tallies[one] for one in customers if one in tallies)
        )

    def total(self) -> Tally:
        """What there is of all buckets and customers.

        Polar's own ``total`` is that of the buckets requested with ``count``, ``sum``, ``max`` and ``min``, but of all
        events of all time with ``avg`` and ``unique``: it is not to be compared with those.
        """
        return self._merged(tally for tallies in self._tallies.values() for tally in tallies.values())

    def _merged(self, tallies: Iterable[Tally]) -> Tally:
        merged = self.meter.aggregation.tally()
        for tally in tallies:
            merged.merge(tally)
        return merged

    def findings(self) -> list[str]:
        """What the function leaves out, the most first, as sentences without the values."""
        path = self.meter.aggregation.path
        return [
            f"{number_of(events, 'event')} {'carries' if events == 1 else 'carry'} {what} `{path}`: the meter bills "
            f"{'it not' if events == 1 else 'none of them'}"
            for what, events in self.left_out.most_common()
        ]


def evaluate(
    meters: Sequence[Meter],
    events: Iterable[Event],
    buckets: Buckets,
    *,
    by: Callable[[Event], Customer | None] | None = None,
) -> list[Quantities]:
    """The quantities of each meter, in one pass over the events.

    :param events: as the API lists them, each once, in any order; those of no bucket are passed over.
    :param by: tells customers apart, as :func:`customer_of` does; None for the events of all that need no telling.
    """
    results = [Quantities(meter, buckets) for meter in meters]
    for event in events:
        if (bucket := buckets.find(time_of(event))) is not None:
            customer = by(event) if by else None
            for quantities in results:
                quantities.add(event, bucket, customer)
    return results


@dataclass(frozen=True, slots=True)
class Difference:
    """A bucket in which Polar meters something else than its rule makes of the events.

    :param customer: whose events; None for all.
    :param events: how many events the rule took.
    :param ours: the quantity that the rule makes of them.
    :param polar: the quantity that Polar gives.
    :param slack: by how much ``ours`` may differ with the order of adding floats.
    """

    meter: Meter
    bucket: datetime
    customer: Customer | None
    events: int
    ours: float
    polar: float
    slack: float = 0.0

    @property
    def tolerance(self) -> float:
        """How far sums that are made of both quantities may be apart and still be one.

        How many events Polar's is of is not known here, so that its last digits are given away.
        """
        return 4 * self.slack + 1e-12 * max(abs(self.ours), abs(self.polar))


def compare(ours: Quantities, polar: Mapping[datetime, float], *, customer: Customer | None = None) -> list[Difference]:
    """The buckets in which the quantities differ, by more than the order of adding floats can explain.

    :param polar: Polar's quantity of each bucket to compare, requested for the same customer.
    :param customer: compares this one's events; None for those of all.
    """
    differences = []
    for bucket, quantity in polar.items():
        tally = ours.tally(bucket, *([] if customer is None else [customer]))
        if not tally.agrees_with(quantity):
            differences.append(
                Difference(ours.meter, bucket, customer, tally.events, tally.quantity, quantity, tally.slack)
            )
    return differences

"""From an hour that differs to the customers whose quantities differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from functools import partial

from airflow_provider_polar.engine.metering.quantities import Customer, Difference, Quantities, compare
from airflow_provider_polar.engine.verifying.metered import MeteredUsage, alike

_SINGLY, _GROUP = 200, 25
"""Up to how many customers are compared one by one, and how many of more than these at once."""


class CustomerSearch:
    """Finds whose quantities differ.

    :param polar: what Polar meters.
    :param pool: sends requests side by side.
    :param known: the customers that have events in the window.
    :param each: compares customers one by one however many there are: in a group two may cancel each other out.
    """

    def __init__(self, polar: MeteredUsage, pool: Executor, known: Collection[Customer], *, each: bool) -> None:
        self._polar = polar
        self._pool = pool
        self._known = known
        self._each = each

    def find(self, ours: Quantities, chosen: Collection[datetime]) -> list[Difference]:
        """The customers that differ in some buckets, and what no known customer explains (customer None).

        :param ours: of a meter, by customer, of what is listed now.
        :param chosen: the buckets.
        """
        totals = self._polar.quantities(ours.meter, chosen)
        show = {one.bucket for one in compare(ours, totals)}.issuperset(chosen)
        size = _GROUP if show and not self._each and len(ours.customers) > _SINGLY else 1
        found = self._among(ours, chosen, ours.customers, size)
        others = set(self._unexplained(ours, totals, found))
        if not ours.meter.aggregation.additive:
            # What customers have more and less cannot be added up there.
            others |= {one.bucket for one in found}
        if others:
            found += self._among(ours, sorted(others), self._without(ours.customers), _GROUP)
        return [*found, *self._unexplained(ours, totals, found).values()]

    def _without(self, customers: Collection[Customer]) -> list[Customer]:
        """The known customers that are none of these; one may have been known by another of its ids."""
        ids, external_ids = ({one[at] for one in customers} - {None} for at in (0, 1))
        return [one for one in self._known if one.id not in ids and one.external_id not in external_ids]

    def _among(
        self, ours: Quantities, chosen: Collection[datetime], customers: Collection[Customer], size: int
    ) -> list[Difference]:
        search = partial(self._halve, ours, chosen)
        return [found for part in self._pool.map(search, alike(customers, size)) for found in part]

    def _halve(self, ours: Quantities, chosen: Collection[datetime], group: Sequence[Customer]) -> list[Difference]:
        polar = self._polar.quantities(ours.meter, chosen, customers=group)
        if len(group) == 1:
            return compare(ours, polar, customer=group[0])
        differing = [bucket for bucket in polar if not ours.tally(bucket, *group).agrees_with(polar[bucket])]
        if not differing:
            return []
        middle = len(group) // 2
        return [*self._halve(ours, differing, group[:middle]), *self._halve(ours, differing, group[middle:])]

    def _unexplained(
        self, ours: Quantities, totals: Mapping[datetime, float], found: Sequence[Difference]
    ) -> dict[datetime, Difference]:
        """What is left of the buckets' differences when the customers' are taken away."""
        left = {}
        for bucket, total in totals.items():
            tally = ours.tally(bucket)
            its = [one for one in found if one.bucket == bucket]
            if ours.meter.aggregation.additive:
                explained = tally.quantity + sum(one.polar - one.ours for one in its)
            elif its or tally.agrees_with(total):
                continue
            else:
                explained = tally.quantity
            rest = Difference(ours.meter, bucket, None, tally.events, explained, total, tally.slack)
            if abs(total - explained) > rest.tolerance:
                left[bucket] = rest
        return left

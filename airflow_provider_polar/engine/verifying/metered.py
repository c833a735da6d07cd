"""What Polar's meters say: the second store's witness."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.metering.quantities import Customer, Meter
from airflow_provider_polar.parameters import is_nothing

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import PolarClient
    from airflow_provider_polar.api.meters import QuantityFilters


class MeteredUsage:
    """Polar's quantities. Thread-safe, as the client is.

    :param buckets: of the window.
    """

    def __init__(self, client: PolarClient, buckets: Buckets) -> None:
        self._client = client
        self._buckets = buckets

    def quantities(
        self,
        meter: Meter,
        chosen: Collection[datetime] | None = None,
        *,
        customers: Sequence[Customer] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[datetime, float]:
        """Polar's quantity of each bucket; one request for 168 hours, 366 days.

        :param chosen: the buckets; None for all.
        :param customers: only of these customers' events: all by Polar's id, or all by their own, as
            :func:`alike` groups them.
        :param metadata: only of events that have one of the values of a key, as text.
        """
        filters: QuantityFilters = of_customers(customers)
        if metadata:
            filters["metadata"] = metadata
        found: dict[datetime, float] = {}
        for request in self._buckets.requests(chosen):
            given = self._client.meter_quantities(meter.id, **asdict(request), **filters).quantities
            part = self._buckets.only((request.start_timestamp, request.end_timestamp))
            found |= part.by_bucket((one.timestamp, one.quantity) for one in given)
        return found if chosen is None else {bucket: found[bucket] for bucket in chosen}


def of_customers(customers: Sequence[Customer]) -> QuantityFilters:
    """The filters of customers' events, of quantities and of lists; none for all customers."""
    if not customers:
        return {}
    if customers[0].id:
        return {"customer_id": [str(one.id) for one in customers]}
    return {"external_customer_id": [str(one.external_id) for one in customers]}


def can_be_told(customer: Customer) -> bool:
    """Whether a request can name a customer; not one whose only id is as a template renders nothing, "None" say."""
    return customer.id is not None or not is_nothing(customer.external_id or "")


def alike(customers: Collection[Customer], size: int) -> list[list[Customer]]:
    """Groups that one request can be for: all of a group have an id of Polar's, or none has."""
    ordered = sorted(
        filter(can_be_told, customers), key=lambda one: (one.id is None, one.id or "", one.external_id or "")
    )
    known = sum(one.id is not None for one in ordered)
    return [part[at : at + size] for part in (ordered[:known], ordered[known:]) for at in range(0, len(part), size)]

"""The calls of both clients that are about meters: the scope ``meters:read``, and one call its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Unpack
from uuid import UUID

from airflow_provider_polar.api import meters
from airflow_provider_polar.api.buckets import Interval
from airflow_provider_polar.api.calls import Call, method_of
from airflow_provider_polar.api.meters import (
    CustomerMeterFilters,
    CustomerMeterSorting,
    MeterFilters,
    MeterSorting,
    QuantityFilters,
)
from airflow_provider_polar.api.models import CustomerMeterPage, Meter, MeterPage, MeterQuantities
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.api.wire import Http, Wire


class MeterCalls(Wire[Http]):
    """One request each."""

    @method_of
    def list_meters(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        sorting: MeterSorting | Sequence[MeterSorting] | None = None,
        retries: Retries | None = None,
        **filters: Unpack[MeterFilters],
    ) -> Call[MeterPage]:
        """``GET /v1/meters/``: one page; sorted by ``created_at`` a new meter moves none between two pages."""
        return Call(meters.list_meters(filters, page=page, limit=limit, sorting=sorting), MeterPage.decode, retries)

    @method_of
    def get_meter(self, meter_id: str | UUID, *, retries: Retries | None = None) -> Call[Meter]:
        """``GET /v1/meters/{id}``: one meter."""
        return Call(meters.get_meter(meter_id), Meter.decode, retries)

    @method_of
    def meter_quantities(
        self,
        meter_id: str | UUID,
        *,
        start_timestamp: datetime,
        end_timestamp: datetime,
        interval: Interval,
        retries: Retries | None = None,
        **filters: Unpack[QuantityFilters],
    ) -> Call[MeterQuantities]:
        """``GET /v1/meters/{id}/quantities``: the quantity of each bucket.

        Buckets are whole, whatever the bounds, and the one that ``end_timestamp`` lies in is included:
        :meth:`airflow_provider_polar.hooks.polar.PolarHook.meter_quantities` takes a half-open window."""
        request = meters.meter_quantities(
            meter_id, filters, start_timestamp=start_timestamp, end_timestamp=end_timestamp, interval=interval
        )
        return Call(request, MeterQuantities.decode, retries)

    @method_of
    def list_customer_meters(
        self,
        *,
        page: int | None = None,
        limit: int | None = None,
        sorting: CustomerMeterSorting | Sequence[CustomerMeterSorting] | None = None,
        retries: Retries | None = None,
        **filters: Unpack[CustomerMeterFilters],
    ) -> Call[CustomerMeterPage]:
        """``GET /v1/customer-meters/``: one page; the scope ``customer_meters:read``."""
        request = meters.list_customer_meters(filters, page=page, limit=limit, sorting=sorting)
        return Call(request, CustomerMeterPage.decode, retries)

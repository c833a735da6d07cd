"""Meters and events in few words."""

from __future__ import annotations

from typing import Any

from airflow_provider_polar.engine.metering.buckets import Buckets
from airflow_provider_polar.engine.metering.quantities import Meter, Quantities, evaluate
from airflow_provider_polar.engine.window import EventWindow

DAY = Buckets.of(EventWindow("2026-11-02T00:00Z", "2026-11-03T00:00Z"))


def event(timestamp: str = "2026-11-02T14:00:00Z", **fields: Any) -> dict[str, Any]:
    return {"timestamp": timestamp, "name": "api.call", "source": "user", "metadata": {}} | fields


def carrying(*values: Any) -> list[dict[str, Any]]:
    """Events with these ``units``, at one time."""
    return [event(metadata={"units": value}) for value in values]


def meter(function: str = "count", *clauses: dict[str, Any], over: str = "units") -> Meter:
    aggregation = {"func": function} | ({} if function == "count" else {"property": over})
    its_filter = {"conjunction": "and", "clauses": list(clauses)}
    return Meter.parse({"id": "m-1", "name": "API calls", "filter": its_filter, "aggregation": aggregation})


def clause(property: str, operator: str, value: Any) -> dict[str, Any]:  # noqa: A002
    return {"property": property, "operator": operator, "value": value}


def quantities(it: Meter, events: list[dict[str, Any]], buckets: Buckets = DAY) -> Quantities:
    [result] = evaluate([it], events, buckets)
    return result

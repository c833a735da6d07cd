"""
Run when orders are paid.

A watcher in the triggerer looks for ``order.paid`` once a minute and updates the asset; the DAG runs on the asset,
and exports each window that the watcher named. An order that becomes listable late has a window of its own, so what
was exported before is not exported again with it. Each order updates the asset at least once, through kills and
restarts of the triggerer too (Airflow 3.3 and newer). The asset event only names the orders; their data is in the
exports.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.sdk import AssetWatcher, task

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")

paid_orders = Asset(
    "paid_orders",
    watchers=[AssetWatcher(name="order_paid", trigger=PolarEventWatchTrigger(event_name="order.paid"))],
)

with DAG(
    "run_on_order_paid",
    schedule=[paid_orders],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    doc_md=__doc__,
    tags=["polar"],
) as dag:

    @task
    def windows(triggering_asset_events: Any = None) -> list[dict[str, str]]:
        """Of all asset events that became this run: start and end, each once."""
        events = [event for of_asset in triggering_asset_events.values() for event in of_asset]
        named = {(window["start"], window["end"]) for event in events for window in [event.extra["payload"]["window"]]}
        return [{"start": start, "end": end} for start, end in sorted(named)]

    PolarExportEventsOperator.partial(
        task_id="export_orders",
        destination=f"{LAKE}/orders",
        filters={"name": "order.paid"},
    ).expand_kwargs(windows())

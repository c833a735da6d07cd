"""
Run when orders are paid.

A watcher in the triggerer looks for ``order.paid`` once a minute and updates the asset; the DAG runs on the asset,
and exports the window that the watcher named. Each order updates the asset at least once, through restarts of the
triggerer too (Airflow 3.3 and newer). The asset event only names the orders; their data is in the export.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.sdk import AssetWatcher

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
    PolarExportEventsOperator(
        task_id="export_orders",
        destination=f"{LAKE}/orders",
        filters={"name": "order.paid"},
    )

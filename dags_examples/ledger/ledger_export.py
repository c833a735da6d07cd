"""
A window of the ledger every three hours.

With the two other DAGs of this folder it fills the page that Airflow shows under Polar: windows that are exported, one
after the other, each by a run that the page leads to. A day that was missed is exported by
``airflow backfill create --dag-id ledger_export --from-date 2026-11-01 --to-date 2026-11-02``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_polar.operators.export import PolarExportEventsOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")

with DAG(
    "ledger_export",
    schedule="0 */3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    PolarExportEventsOperator(
        task_id="export",
        destination=f"{LAKE}/ledger",
        window="3 hours",
        settle=timedelta(minutes=2),
    )

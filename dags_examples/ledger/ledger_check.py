"""
The last seven days of the ledger, compared with Polar every night.

A window with as many events as Polar counts is shown as verified on the page, another one as changed since.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")

with DAG(
    "ledger_check",
    schedule="0 1 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    PolarReconcileEventsOperator(
        task_id="check",
        destination=f"{LAKE}/ledger",
        window="7 days",
        on_difference="warn",
    )

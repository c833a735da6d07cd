"""
An event for each hour that a machine ran, so that there is something to export.

The page lists the ingests of the last runs: what they sent, and what Polar had already.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

with DAG(
    "ledger_ingest",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    PolarIngestEventsOperator(
        task_id="ingest",
        events=[
            {
                "name": "machine.ran",
                "external_customer_id": "acme",
                "timestamp": "{{ dag_run.run_after.isoformat() }}",
                "metadata": {"hours": 1},
            }
        ],
    )

"""
Every night, are the exports still what Polar has?

Each window that was exported up to midnight is counted again, by one request, and a twentieth of the windows is read
again and compared with its files event by event: another twentieth each night, so that after twenty nights every window
was. What differs is exported again, and the second task is told what to load. An equal count alone would not do: an
event that was removed at Polar and one that came late count as before.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "s3://aws_default@my-bucket/polar")

with DAG(
    "nightly_reconcile",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 2, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    # [START reconcile]
    reconcile = PolarReconcileEventsOperator(
        task_id="reconcile",
        destination=f"{LAKE}/events",
        start="2026-01-01T00:00:00Z",  # the first window of the lake
        end="{{ ds }}T00:00:00Z",
        deep=0.05,
        on_difference="export",
        report_path=LAKE + "/differences/{{ ds }}.jsonl",
    )
    # [END reconcile]

    @task
    def load(reconciled: dict) -> list[str]:
        """Where a warehouse would replace these windows by what their manifests name."""
        manifests = [export["manifest"] for export in reconciled["exported"]]
        print("to load:", *manifests, sep="\n  ")
        return manifests

    load(reconcile.output)

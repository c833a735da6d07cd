"""
Every hour's events to S3, late ones included.

Each run exports the hour before it as one gzipped JSONL file and a manifest. Senders choose an event's timestamp, so an
hour that was exported can gain events: ``lookback`` compares the manifests of the last two days with what Polar counts
now, one request an hour, and exports again what has changed. The second task is told which hours to load.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_polar.operators.export import PolarExportEventsOperator

# s3://CONNECTION@BUCKET/PATH: the Airflow connection of the store stands before the @.
LAKE = os.environ.get("POLAR_DEMO_LAKE", "s3://aws_default@my-bucket/polar")

with DAG(
    "hourly_export_s3",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    # [START export]
    export = PolarExportEventsOperator(
        task_id="export",
        destination=f"{LAKE}/events",
        window="1 hour",  # "@hourly" names a moment; the window is the hour before it
        settle=timedelta(minutes=2),  # for events that are on their way when the hour ends
        lookback=timedelta(days=2),
        compression="gzip",
    )
    # [END export]

    @task
    def load(exported: dict) -> list[str]:
        """Where a warehouse would replace these hours by what their manifests name."""
        manifests = [*(window["manifest"] for window in exported["changed"]), exported["manifest"]]
        print("to load:", *manifests, sep="\n  ")
        return manifests

    load(export.output)

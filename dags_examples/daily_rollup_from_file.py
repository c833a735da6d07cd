"""
A daily roll-up from a file to Polar, with rejected rows kept for whoever fixes them.

Another system leaves one CSV file a day with a line for each account. The mapping says, as data, which column is the
customer, which the time, and which numbers are billed. Each line has an ``external_id`` made of account and day:
however often the task is retried or the file is sent again, an account is billed once a day. Lines that Polar would
refuse do not hold up the others; they go to a file of their own, with their reasons, and the last task says so.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")
# A run by hand may have no logical date, and then the template ds fails.
DAY = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"

with DAG(
    "daily_rollup_from_file",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    # [START ingest]
    ingest = PolarIngestEventsOperator(
        task_id="ingest",
        source=f"{LAKE}/rollups/{DAY}.csv",
        mapping={
            "name": {"const": "storage.rolled_up"},
            "external_customer_id": "account",
            "timestamp": {"column": "day", "format": "%Y-%m-%d", "timezone": "Europe/Berlin"},
            "external_id": {"template": "storage-{account}-{day}"},
            "metadata": {
                "gigabytes": {"column": "gigabytes", "type": "float"},
                "region": {"column": "region", "optional": True},
            },
        },
        on_invalid="skip",
        rejected_path=f"{LAKE}/rejected/{DAY}.jsonl",
    )
    # [END ingest]

    @task
    def tell(ingested: dict) -> str:
        """Where somebody would be told."""
        said = f"{ingested['inserted']} roll-ups billed, {ingested['duplicates']} were there already"
        if ingested["rejected"]:
            said += f"; {ingested['rejected']} rejected, see {ingested['rejected_path']}"
        print(said)
        return said

    tell(ingest.output)

"""
Every hour's usage from a warehouse to Polar, each row billed once.

The query names the hour as ``:start`` and ``:end`` (SQLite's way; PostgreSQL and MySQL write ``%(start)s``). A
warehouse is never still: rows come late and are corrected while a task is retried. So the rows are frozen before the
first request, and each attempt sends the same; and a row is known by its ``id``, so that neither a corrected row nor an
hour that is run again is billed twice. What was sent is kept: if a row has changed since, the task says which one.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")

with DAG(
    "warehouse_to_polar",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    # [START ingest]
    ingest = PolarIngestEventsOperator(
        task_id="ingest",
        sql="SELECT id, account, at_utc, tokens FROM usage WHERE at_utc >= :start AND at_utc < :end",
        sql_conn_id="warehouse",
        window="1 hour",  # "@hourly" names a moment; the window is the hour before it
        mapping={
            "name": {"const": "tokens.used"},
            "external_customer_id": "account",
            "timestamp": "at_utc",
            "metadata": {"usage_id": "id", "tokens": {"column": "tokens", "type": "int"}},
        },
        key="id",
        snapshot_path=f"{LAKE}/frozen",
        keep_snapshot=True,
    )
    # [END ingest]

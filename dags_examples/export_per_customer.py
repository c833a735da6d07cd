"""
One export for each customer, every day.

Each customer's events of the day go to a directory of their own, the personal data left out. A preset such as
``@daily`` names moments in Airflow 3, not days: ``window="1 day"`` says that each run means the day before it, of 23 or
25 hours when the clocks of the DAG's time zone change.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_polar.operators.export import PolarExportEventsOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")

with DAG(
    "export_per_customer",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Berlin"),
    catchup=False,
    params={"customers": Param(["acme", "globex"], type="array", items={"type": "string"})},
    default_args={"retries": 3},
    doc_md=__doc__,
    tags=["polar"],
) as dag:

    @task
    def exports(params: dict) -> list[dict]:
        return [
            {"destination": f"{LAKE}/customers/{customer}", "filters": {"external_customer_id": customer}}
            for customer in params["customers"]
        ]

    PolarExportEventsOperator.partial(
        task_id="export",
        window="1 day",
        settle=timedelta(minutes=10),
        exclude_fields=["customer"],
        max_active_tis_per_dagrun=4,
        map_index_template="{{ task.filters['external_customer_id'] }}",
    ).expand_kwargs(exports())

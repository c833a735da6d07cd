"""
No invoice before what is billed is proved, and a person has approved it.

Each night the day's usage goes to Polar and is waited for. Then what was sent, what Polar lists and what its meters
bill of the day are compared, hour by hour and customer by customer: a difference fails the task and names meter,
customer, hour and, as far as it can, event. Only a day that is equal is shown to a person, with what was compared; only
when they approve it, invoicing begins. Approval is a feature of Airflow 3.1 and newer.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.operators.verify import PolarVerifyUsageOperator
from airflow_provider_polar.sensors.event import PolarEventSensor

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")
# The day before the run, whatever the timetable made of it.
DAY = "{{ ((dag_run.logical_date or dag_run.run_after) - macros.timedelta(days=1)) | ds }}"
NEXT_DAY = "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"
USAGE = f"{LAKE}/usage/{DAY}.jsonl"  # an event a line
WINDOW = {"start": f"{DAY}T00:00:00Z", "end": f"{NEXT_DAY}T00:00:00Z"}

with DAG(
    "verify_usage",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    ingest = PolarIngestEventsOperator(task_id="ingest", source=USAGE, retries=3)

    wait = PolarEventSensor(
        task_id="wait_until_listed",
        event_name="api.called",
        min_count="{{ ti.xcom_pull(task_ids='ingest')['events'] }}",
        deferrable=True,
        poke_interval=timedelta(seconds=10),
        timeout=timedelta(hours=1),
        **WINDOW,
    )

    verify = PolarVerifyUsageOperator(
        task_id="verify",
        by="customer",
        source=USAGE,
        settle=timedelta(minutes=2),  # for what Polar lists or meters a moment later
        report_path=f"{LAKE}/verified/{DAY}.jsonl",
        **WINDOW,
    )

    approve = ApprovalOperator(
        task_id="approve",
        subject=f"Invoice the usage of {DAY}?",
        body="""
{% set verified = ti.xcom_pull(task_ids='verify') %}
Polar bills what was sent: {{ verified['events'] }} events of {{ verified['customers'] }} customers, compared for each
meter ({{ verified['meters'] }}) and hour ({{ verified['hours'] }}). Findings, if any, are in {{ verified['report'] }}.
""",
    )

    @task
    def invoice() -> str:
        """Where invoicing would begin; a rejection skips it."""
        return "invoicing"

    ingest >> wait >> verify >> approve >> invoice()

"""
From a table to Polar and back to a table, verified.

The rows of a day's usage go from the warehouse to Polar, which bills them. What Polar then lists of the day is exported
and loaded into a table beside the first one, and a query compares the two, customer by customer: what the warehouse
says is what Polar bills, or the last task names the customers for whom it is not. Run again, it bills nothing twice.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, BaseHook, get_current_context, task

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator
from airflow_provider_polar.sensors.event import PolarEventSensor
from airflow_provider_polar.transfers.events_to_sql import PolarEventsToSqlOperator
from airflow_provider_polar.windows import resolve_window

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")
WAREHOUSE = "polar_warehouse"  # a connection to DuckDB, with a table usage (id, account, moment, gigabytes)
DAY = timedelta(days=1)

OF_THE_DAY = "SELECT id, account, moment, gigabytes FROM usage WHERE moment >= ? AND moment < ? ORDER BY id"
DIFFERENCES = """
    WITH sent AS (
        SELECT account, sum(gigabytes) AS gigabytes FROM usage
        WHERE moment >= $1 AND moment < $2 GROUP BY account
    ), billed AS (
        SELECT external_customer_id AS account, sum(gigabytes) AS gigabytes FROM billed_usage
        WHERE "timestamp" >= $1 AND "timestamp" < $2 GROUP BY external_customer_id
    )
    SELECT account, sent.gigabytes, billed.gigabytes FROM sent FULL JOIN billed USING (account)
    WHERE sent.gigabytes IS DISTINCT FROM billed.gigabytes ORDER BY account
"""

with DAG(
    "round_trip",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # one process at a time can write to a file of DuckDB
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:

    def of_the_day(sql: str) -> list:
        """The rows of a query over the run's day."""
        window = resolve_window(get_current_context(), window=DAY)
        return BaseHook.get_connection(WAREHOUSE).get_hook().get_records(sql, [window.start, window.end])

    @task
    def usage() -> list[dict]:
        """The day's rows as events; the row's key is the event's identity."""
        return [
            {
                "name": "storage.used",
                "external_id": f"usage-{key}",
                "external_customer_id": account,
                "timestamp": moment.isoformat(),
                "metadata": {"gigabytes": gigabytes},
            }
            for key, account, moment, gigabytes in of_the_day(OF_THE_DAY)
        ]

    sent = usage()
    ingest = PolarIngestEventsOperator(task_id="ingest", events=sent)
    wait = PolarEventSensor(
        task_id="wait",
        event_name="storage.used",
        start="{{ (dag_run.logical_date or dag_run.run_after) - macros.timedelta(days=1) }}",
        end="{{ dag_run.logical_date or dag_run.run_after }}",
        min_count="{{ ti.xcom_pull('usage') | length }}",
        poke_interval=2,
        timeout=600,
    )
    export = PolarExportEventsOperator(
        task_id="export", destination=f"{LAKE}/usage", window=DAY, filters={"name": "storage.used"}
    )
    load = PolarEventsToSqlOperator(
        task_id="load",
        manifest=export.output,
        sql_conn_id=WAREHOUSE,
        table="billed_usage",
        mode="replace_window",
        exclude_fields=["customer"],
        metadata_columns={"gigabytes": "double"},
    )

    @task
    def verify() -> None:
        """Fails, and names the customers, unless what was sent is what came back."""
        if differences := of_the_day(DIFFERENCES):
            raise ValueError(f"account, gigabytes sent, gigabytes billed: {differences}")

    ingest >> wait >> export
    load >> verify()

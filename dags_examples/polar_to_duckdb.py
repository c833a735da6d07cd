"""
What was paid, by day, in a table of DuckDB.

Each night the orders of the day before are exported, with the earlier days of a week that have changed since; all of
them are loaded into one table, a day in one transaction, so that a query never sees half a day. A day that has not
changed is not touched. Then a query draws the revenue. Any other database takes the same tasks: only the connection
and the query differ.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, BaseHook, task

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.transfers.events_to_sql import PolarEventsToSqlOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")
WAREHOUSE = (
    "polar_warehouse"  # AIRFLOW_CONN_POLAR_WAREHOUSE='{"conn_type": "duckdb", "host": "/data/warehouse.duckdb"}'
)

REVENUE = """
    SELECT CAST(timezone('UTC', "timestamp") AS DATE) AS day, currency, sum(amount) / 100 AS revenue
    FROM orders WHERE name = 'order.paid' GROUP BY ALL ORDER BY ALL
"""

with DAG(
    "polar_to_duckdb",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # one process at a time can write to a file of DuckDB
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    export = PolarExportEventsOperator(
        task_id="export",
        destination=f"{LAKE}/orders",
        window="1 day",
        filters={"name": ["order.paid", "order.refunded"]},
        lookback=timedelta(days=7),
    )
    # [START load]
    load = PolarEventsToSqlOperator(
        task_id="load",
        manifest=export.output,  # the run's window, and those that the look-back exported again
        sql_conn_id=WAREHOUSE,
        table="orders",
        mode="replace_window",
        exclude_fields=["customer"],
        metadata_columns={"amount": "bigint", "currency": "text"},
    )
    # [END load]

    @task
    def revenue_by_day() -> list[str]:
        """Draws what was paid each day."""
        rows = BaseHook.get_connection(WAREHOUSE).get_hook().get_records(REVENUE)
        most = max((revenue for _, _, revenue in rows), default=1)
        bars = [
            f"{day}  {revenue:>12,.2f} {currency}  {'#' * round(40 * revenue / most)}"
            for day, currency, revenue in rows
        ]
        print(*bars, sep="\n")
        return bars

    load >> revenue_by_day()

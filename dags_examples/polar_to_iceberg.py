"""
Every hour's events into an Iceberg table.

Each run exports the hour before it, with the hours of the last two days that have changed since, and loads them into
one table of a lakehouse: an hour is one snapshot, so that Spark, Trino and DuckDB see all of it or nothing. An hour
that has not changed is not touched. Then the last snapshots are told, each with the hour that it brought.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.transfers.events_to_iceberg import PolarEventsToIcebergOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")

# A catalogue in a file, for a try; a REST catalogue is {"type": "rest", "uri": "https://..."}, with its credential in
# the connection that iceberg_conn_id names.
FOLDER = os.environ.get("POLAR_DEMO_ICEBERG", "/tmp/polar-iceberg")
CATALOG = {"name": "lakehouse", "type": "sql", "uri": f"sqlite:///{FOLDER}/catalog.db", "warehouse": f"file://{FOLDER}"}

with DAG(
    "polar_to_iceberg",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=2)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    export = PolarExportEventsOperator(
        task_id="export", destination=f"{LAKE}/events", window="1 hour", lookback=timedelta(days=2)
    )

    @task
    def make_folder() -> None:
        """Only a catalogue in a file needs it."""
        os.makedirs(FOLDER, exist_ok=True)

    # [START load]
    load = PolarEventsToIcebergOperator(
        task_id="load",
        manifest=export.output,  # the run's window, and those that the look-back exported again
        catalog=CATALOG,
        table="usage.events",
        mode="replace_window",
        exclude_fields=["customer"],
        metadata_columns={"distance": "double"},
    )
    # [END load]

    @task
    def history() -> list[str]:
        """Tells which window each of the last snapshots brought."""
        from pyiceberg.catalog import load_catalog

        summaries = [one.summary for one in load_catalog(**CATALOG).load_table("usage.events").snapshots()]
        lines = [f"{one['polar.window-start']}  {one['polar.rows']:>8} events" for one in summaries[-24:]]
        print(*lines, sep="\n")
        return lines

    make_folder() >> load >> history()

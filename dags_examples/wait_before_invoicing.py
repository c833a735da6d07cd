"""
Wait for the nightly roll-up before invoicing.

The roll-up is ingested with a timestamp of midnight, some time after midnight; invoicing must not begin before it is
there, and must not begin at all where the roll-up says that it failed. The wait is anchored on the day, not on when
the task starts: a run that is late, cleared or backfilled finds the roll-up of its own day. It waits in the triggerer,
without a worker slot, for six hours at most.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_polar.sensors.event import PolarEventSensor

with DAG(
    "wait_before_invoicing",
    schedule="30 0 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    wait = PolarEventSensor(
        task_id="wait_for_roll_up",
        event_name="usage.rolled_up",
        fail_on="usage.roll_up_failed",
        # A run is for its day, whatever the timetable made of it.
        start="{{ (dag_run.logical_date or dag_run.run_after).strftime('%Y-%m-%dT00:00:00Z') }}",
        deferrable=True,
        poke_interval=timedelta(minutes=2),
        timeout=timedelta(hours=6),
    )

    @task
    def invoice(rolled_up: dict) -> str:
        """Where invoicing would begin."""
        first = rolled_up["events"][0]
        return f"invoicing after {rolled_up['count']} roll-up(s), the first at {first['timestamp']}"

    invoice(wait.output)

"""
Wait for each customer by itself.

One mapped sensor for each customer waits until that customer has reached 100 calls since the start of the day, and the
task behind it runs for each customer as soon as its own wait has ended. A customer who does not reach them by the
timeout is skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param, task, task_group

from airflow_provider_polar.sensors.event import PolarEventSensor

with DAG(
    "sensor_per_customer",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"customers": Param(["acme", "globex"], type="array"), "calls": Param(100, type="integer", minimum=1)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:

    @task
    def customers(params: dict) -> list[str]:
        """Who is waited for: here a parameter, elsewhere a query."""
        return list(params["customers"])

    @task_group
    def each(customer: str) -> None:
        """What happens for one customer."""
        wait = PolarEventSensor(
            task_id="wait_for_calls",
            event_name="api.call",
            min_count="{{ params.calls }}",
            filters={"external_customer_id": customer},
            deferrable=True,
            poke_interval=timedelta(minutes=5),
            timeout=timedelta(hours=23),
            soft_fail=True,
        )

        @task
        def notify(reached: dict, customer: str) -> str:
            """Where a message would go out."""
            return f"{customer} has made {reached['count']} calls since {reached['start']}"

        notify(wait.output, customer)

    each.expand(customer=customers())

"""
Bills a customer for a finished pipeline run.

The notifier sends one usage event when the run has succeeded, and one for each mapped task that has; a callback that
Airflow repeats sends the same event again, and Polar keeps the first.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_polar.notifications.event import PolarEventNotifier

with DAG(
    "notify_usage",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    params={"customer": Param("acme", type="string")},
    on_success_callback=PolarEventNotifier(
        event_name="pipeline.finished",
        external_customer_id="{{ params.customer }}",
        metadata={"run": "{{ run_id }}"},
    ),
    # Numbers stay numbers in what templates give: meters can sum them.
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["polar"],
) as dag:

    @task(
        on_success_callback=PolarEventNotifier(
            event_name="report.rendered",
            external_customer_id="{{ params.customer }}",
            metadata={"number": "{{ ti.map_index + 1 }}"},
        )
    )
    def render(report: str) -> str:
        return f"{report}.pdf"

    render.expand(report=["usage", "costs", "forecast"])

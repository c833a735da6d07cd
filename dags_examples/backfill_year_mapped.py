"""
A year of events on many workers.

The planning task splits the year, by Polar's own counts, into shards of about equally many events; mapped exports write
them, on whichever workers the executor has; the last task checks the shards against Polar's count and puts one manifest
in the place of theirs. The request budget is Polar's for the whole organization, so it is divided among the exports at
work, and no more of them run at once than it was divided for. The same DAG runs on a laptop.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_polar.assets.polar import create_asset
from airflow_provider_polar.operators.assemble import PolarAssembleExportOperator
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.plan import PolarPlanExportOperator

LAKE = os.environ.get("POLAR_DEMO_LAKE", "file:///tmp/polar-lake")
WORKERS = 4

with DAG(
    "backfill_year_mapped",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    params={"year": Param(2025, type="integer", minimum=2000, maximum=2100)},
    default_args={"retries": 3, "retry_delay": timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["polar"],
) as dag:
    where = {"destination": f"{LAKE}/years"}

    plan = PolarPlanExportOperator(
        task_id="plan",
        start="{{ params.year }}-01-01T00:00:00Z",
        end="{{ params.year + 1 }}-01-01T00:00:00Z",
        workers=WORKERS,
    )
    export = PolarExportEventsOperator.partial(
        task_id="export",
        compression="gzip",
        max_active_tis_per_dagrun=WORKERS,
        map_index_template="{{ task.start }}",
        **where,
    ).expand_kwargs(plan.output)
    assemble = PolarAssembleExportOperator(
        task_id="assemble",
        plan=plan.output,
        outlets=[create_asset(organization="acme", event_name="years")],
        **where,
    )
    export >> assemble

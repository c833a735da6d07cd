"""What Airflow makes of the provider's metadata, and of DAGs with its operators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import DAG, Asset

from airflow_provider_polar.notifications.event import PolarEventNotifier
from airflow_provider_polar.operators.assemble import PolarAssembleExportOperator
from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.get import PolarGetEventOperator
from airflow_provider_polar.operators.names import PolarListEventNamesOperator
from airflow_provider_polar.operators.plan import PolarPlanExportOperator
from airflow_provider_polar.operators.verify import PolarVerifyUsageOperator
from airflow_provider_polar.transfers.events_to_iceberg import PolarEventsToIcebergOperator
from airflow_provider_polar.transfers.events_to_sql import PolarEventsToSqlOperator


def test_the_asset_scheme_is_registered() -> None:
    manager = ProvidersManager()
    assert "polar" in manager.asset_uri_handlers
    assert "polar" in manager.asset_factories
    assert "polar" in manager.asset_to_openlineage_converters
    assert Asset(uri="polar://Acme/events/a b/").uri == "polar://acme/events/a%20b"


def test_links_and_notifier_are_registered() -> None:
    manager = ProvidersManager()
    assert "airflow_provider_polar.links.polar.PolarEventsLink" in manager.extra_links_class_names
    assert "airflow_provider_polar.links.polar.PolarManifestLink" in manager.extra_links_class_names
    assert "airflow_provider_polar.notifications.event.PolarEventNotifier" in manager.notification


def serialized(dag: DAG) -> Any:
    try:
        from airflow.serialization.serialized_objects import DagSerialization

        # Reading a DAG as the scheduler does, which another test may have done in this process, turns links off.
        DagSerialization._load_operator_extra_links = True
        return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    except ImportError:  # Airflow before 3.2
        from airflow.serialization.serialized_objects import SerializedDAG

        return SerializedDAG.deserialize_dag(SerializedDAG.serialize_dag(dag))


@pytest.fixture
def dag() -> DAG:
    notifier = PolarEventNotifier(event_name="done", external_customer_id="acme")
    with DAG(
        "all", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), on_success_callback=notifier
    ) as made:
        where: dict[str, Any] = {"destination": "file:///tmp/x"}
        PolarListEventNamesOperator(task_id="names")
        PolarGetEventOperator(task_id="get", event_id="00000000-0000-4000-8000-000000000000")
        PolarExportEventsOperator(task_id="day", window="1 day", settle=timedelta(minutes=5), **where)
        PolarVerifyUsageOperator(task_id="verify", window="1 day", report_path="file:///tmp/r-{{ ds }}.jsonl")
        plan = PolarPlanExportOperator(task_id="plan", window=timedelta(days=1))
        mapped = PolarExportEventsOperator.partial(task_id="mapped", **where).expand_kwargs(plan.output)
        assembled = PolarAssembleExportOperator(task_id="assemble", plan=plan.output, **where)
        mapped >> assembled
        PolarEventsToSqlOperator(task_id="load", manifest=assembled.output, sql_conn_id="warehouse", table="events")
        PolarEventsToIcebergOperator(task_id="lake", manifest=assembled.output, catalog="c", table="usage.events")
    return made


def test_dags_round_trip_through_serialization(dag: DAG) -> None:
    again = serialized(dag)
    assert set(again.task_dict) == set(dag.task_dict)
    for task_id in ("day", "verify", "plan", "assemble", "load", "lake"):
        assert tuple(again.get_task(task_id).template_fields) == tuple(dag.get_task(task_id).template_fields)
    assert again.get_task("mapped").upstream_task_ids == {"plan"}


@pytest.mark.parametrize(
    ("task_id", "links"),
    [("day", ["Manifest", "Polar events"]), ("verify", ["Polar events", "Report"]), ("plan", ["Polar events"])],
)
def test_links_are_known_to_the_ui(dag: DAG, task_id: str, links: list[str]) -> None:
    assert sorted(link.name for link in serialized(dag).get_task(task_id).operator_extra_links) == links

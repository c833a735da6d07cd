"""Listing names for dynamic mapping, and getting one event, in a real run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from airflow.exceptions import AirflowFailException
from airflow.sdk import DAG, task

from airflow_provider_polar.exceptions import PolarNotFoundError
from airflow_provider_polar.operators.get import PolarGetEventOperator
from airflow_provider_polar.operators.names import PolarListEventNamesOperator


def test_one_mapped_task_for_each_name(polar_server: Any, polar_connection: Any, run_dag: Any) -> None:
    polar_server.add_events(
        {"name": f"name {n:03}", "timestamp": "2026-01-01T00:00:00Z", "external_customer_id": "a"} for n in range(120)
    )
    with DAG("names", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        names = PolarListEventNamesOperator(task_id="names", filters={"query": "name 00"})

        @task
        def one(name: str) -> str:
            return name

        one.expand(name=names.output)
        every = PolarListEventNamesOperator(task_id="every")
        names >> every
    run = run_dag(dag, logical_date=datetime(2026, 1, 2, tzinfo=UTC))
    assert run.state == "success"
    assert run.xcom("names") == [f"name {n:03}" for n in range(10)]
    assert [run.xcom("one", map_index=index) for index in range(10)] == run.xcom("names")
    assert run.xcom("every") == [f"name {n:03}" for n in range(120)]


def test_an_unknown_filter_fails_at_once(polar_server: Any, polar_connection: Any) -> None:
    with pytest.raises(AirflowFailException, match="unknown"):
        PolarListEventNamesOperator(task_id="names", filters={"nmae": "{{ params.x }}"}).execute({})
    assert not polar_server.requests


def test_one_event(polar_server: Any, polar_connection: Any) -> None:
    (event_id,) = polar_server.add_events(
        [{"name": "a", "timestamp": "2026-01-01T00:00:00Z", "external_customer_id": "a", "metadata": {"n": 1}}]
    )
    event = PolarGetEventOperator(task_id="get", event_id=event_id).execute({})
    assert (event["id"], event["metadata"]) == (event_id, {"n": 1})


def test_no_such_event_is_left_to_the_tasks_retries(polar_server: Any, polar_connection: Any) -> None:
    with pytest.raises(PolarNotFoundError):
        PolarGetEventOperator(task_id="get", event_id=str(uuid4())).execute({})
    with pytest.raises(AirflowFailException, match="UUID"):
        PolarGetEventOperator(task_id="get", event_id="{{ params.x }}").execute({})

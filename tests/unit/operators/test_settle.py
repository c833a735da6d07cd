"""Waiting for a window to settle: in the worker's slot, or in the triggerer and without one."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG

from airflow_provider_polar.operators.export import PolarExportEventsOperator
from airflow_provider_polar.operators.plan import PolarPlanExportOperator
from airflow_provider_polar.operators.reconcile import PolarReconcileEventsOperator
from airflow_provider_polar.testing import LocalPolar

HOUR = timedelta(hours=1)


@pytest.fixture
def polar(polar_server: LocalPolar, polar_connection: Any) -> LocalPolar:
    return polar_server


def over_since(seconds: float) -> dict[str, Any]:
    """A window of an hour that ended so many seconds ago."""
    end = datetime.now(UTC) - timedelta(seconds=seconds)
    return {"start": end - HOUR, "end": end}


def make(cls: type, tmp_path: Path, **options: Any) -> Any:
    where = {} if cls is PolarPlanExportOperator else {"destination": f"file://{tmp_path}"}
    return cls(task_id="t", requests_per_minute=60_000, **where, **options)


OPERATORS = [PolarExportEventsOperator, PolarPlanExportOperator, PolarReconcileEventsOperator]


@pytest.mark.parametrize("cls", OPERATORS)
@pytest.mark.parametrize("settle", [120, "120", "2 minutes", timedelta(minutes=2)])
def test_a_task_defers_instead_of_sleeping(polar: LocalPolar, tmp_path: Path, cls: type, settle: Any) -> None:
    window = over_since(30)
    with pytest.raises(TaskDeferred) as deferred:
        make(cls, tmp_path, settle=settle, deferrable=True, **window).execute({})
    assert deferred.value.trigger.moment == window["end"] + timedelta(seconds=120)
    assert deferred.value.method_name == "execute_settled"
    assert polar.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cls", OPERATORS)
def test_nothing_is_waited_for_that_has_settled(polar: LocalPolar, tmp_path: Path, cls: type) -> None:
    options = {"on_difference": "warn"} if cls is PolarReconcileEventsOperator else {}
    make(cls, tmp_path, settle=120, deferrable=True, **over_since(121), **options).execute({})


def through_airflow(deferred: TaskDeferred) -> tuple[Any, dict[str, Any]]:
    """The trigger and the arguments of the resumed task, written and read as Airflow's database keeps them."""
    from airflow.models.trigger import Trigger

    row = Trigger.from_object(deferred.trigger)
    module, _, name = row.classpath.rpartition(".")
    trigger = getattr(import_module(module), name)(**row.kwargs)
    event = asyncio.run(anext(trigger.run()))
    return trigger, json.loads(json.dumps(deferred.kwargs)) | {"event": event.payload}


def test_the_window_that_settled_is_exported(polar: LocalPolar, tmp_path: Path, airflow_db: Path) -> None:
    """The operator that goes on is another object, and its templates may say something else by then."""
    window = over_since(0)
    polar.add_events([{"name": "call", "timestamp": window["start"], "external_customer_id": "a"}])
    with pytest.raises(TaskDeferred) as deferred:
        make(PolarExportEventsOperator, tmp_path, settle=1, deferrable=True, **window).execute({})
    trigger, kwargs = through_airflow(deferred.value)
    assert datetime.now(UTC) >= trigger.moment
    later = make(PolarExportEventsOperator, tmp_path, settle=3600, deferrable=True, **over_since(0))
    result = later.resume_execution(deferred.value.method_name, kwargs, {})
    assert (result["rows"], result["complete"]) == (1, True)
    assert [datetime.fromisoformat(result[bound]) for bound in window] == list(window.values())


def test_a_wrong_parameter_is_told_before_the_deferral(polar: LocalPolar, tmp_path: Path) -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    operator = make(PolarExportEventsOperator, tmp_path, settle=120, deferrable=True, **over_since(0))
    operator.lookback = "0"
    with pytest.raises(AirflowFailException, match="lookback"):
        operator.execute({})


def test_in_a_real_run(polar: LocalPolar, tmp_path: Path, run_dag: Any) -> None:
    window = over_since(0)
    with DAG("settles", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        export = make(PolarExportEventsOperator, tmp_path, settle="{{ 2 }}", deferrable=True, **window)
        export.retries = 0
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("t")["complete"]
    assert run.xcom("t", key="_link_PolarEventsLink")


def test_without_a_word_airflow_s_own_setting_decides(tmp_path: Path) -> None:
    assert make(PolarExportEventsOperator, tmp_path).deferrable is False

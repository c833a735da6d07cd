"""The notifier: one event a run, however often the callback comes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk import DAG, task

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarInvalidEventsError, PolarServerError
from airflow_provider_polar.notifications.event import PolarEventNotifier


def task_context(**changes: Any) -> dict[str, Any]:
    ti = {"dag_id": "etl", "run_id": "run-1", "task_id": "load", "map_index": -1, "try_number": 1} | changes
    return {"ti": SimpleNamespace(**ti), "run_id": ti["run_id"], "dag": DAG(ti["dag_id"], schedule=None)}


def notifier(**changes: Any) -> PolarEventNotifier:
    return PolarEventNotifier(**{"event_name": "pipeline.finished", "external_customer_id": "acme"} | changes)


def external_id(context: dict[str, Any], **changes: Any) -> str:
    return str(notifier(**changes).event(context)["external_id"])


def test_repeated_callbacks_are_billed_once(polar_server: Any, polar_connection: Any) -> None:
    polar_server.fail(kind="lost_response", path="ingest", times=1)
    for attempt in (1, 2, 3):
        notifier(metadata={"attempt": attempt})(task_context(try_number=attempt))
    (event,) = polar_server.events()
    assert (event["name"], event["metadata"], event["customer"]) == ("pipeline.finished", {"attempt": 1}, None)


@pytest.mark.parametrize("other", [{"run_id": "run-2"}, {"task_id": "save"}, {"map_index": 0}, {"dag_id": "elt"}])
def test_another_task_instance_is_another_event(other: dict[str, Any]) -> None:
    assert external_id(task_context()) != external_id(task_context(**other))


@pytest.mark.parametrize(
    "other",
    [{"event_name": "x"}, {"external_customer_id": "b"}, {"identity": "2"}, {"identity": "{{ ti.try_number }}"}],
)
def test_another_name_customer_or_identity_is_another_event(other: dict[str, Any]) -> None:
    assert external_id(task_context()) != external_id(task_context(), **other)


CUSTOMER = "5c27e45b-7259-4c1b-a3fa-1f1625ba8e66"


@pytest.mark.parametrize("written", [CUSTOMER.upper(), f"{{{CUSTOMER}}}", CUSTOMER.replace("-", ""), UUID(CUSTOMER)])
def test_a_customer_of_polar_is_one_customer_however_the_id_is_written(written: Any) -> None:
    ids = {"external_customer_id": None}
    assert external_id(task_context(), **ids, customer_id=written) == external_id(
        task_context(), **ids, customer_id=CUSTOMER
    )
    assert external_id(task_context(), external_customer_id="ACME") != external_id(task_context())


def test_the_identity_is_a_promise_that_later_versions_keep() -> None:
    assert external_id(task_context()) == "airflow-v1-f79b93dafa793a17d4990e77801a15ee8edcb651"
    by_customer = {"external_customer_id": None, "customer_id": CUSTOMER, "identity": "2"}
    assert external_id(task_context(), **by_customer) == "airflow-v1-a973be6c6f63c1b69cb30d293043a9b2a4b8261a"


def test_an_identity_that_a_template_makes_a_value_of_is_taken_as_text() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert external_id(task_context(), identity=moment) == external_id(task_context(), identity=str(moment))


def test_a_dags_callback_does_not_depend_on_the_task_that_was_last() -> None:
    """The DAG processor gives it the last task's context, or only the DAG, the run and a reason."""
    full = [{**task_context(task_id=task_id), "reason": "success"} for task_id in ("load", "save")]
    bare = {"dag": DAG("etl", schedule=None), "run_id": "run-1", "reason": "success"}
    assert len({external_id(context) for context in [*full, bare]}) == 1
    assert external_id(bare) != external_id(task_context())


def test_a_deadlines_context_of_plain_dicts() -> None:
    deadline = {"dag_run": {"dag_id": "etl", "dag_run_id": "run-1", "run_id": "run-1"}, "deadline": {}}
    bare = {"dag": DAG("etl", schedule=None), "run_id": "run-1", "reason": "success"}
    assert external_id(deadline) == external_id(bare)


def test_from_a_triggerer(polar_server: Any, polar_connection: Any) -> None:
    asyncio.run(notifier().async_notify(task_context()))  # type: ignore[arg-type]
    asyncio.run(notifier().async_notify(task_context()))  # type: ignore[arg-type]
    assert len(polar_server.events()) == 1


def test_what_polar_would_refuse_is_refused_here(polar_server: Any, polar_connection: Any) -> None:
    with pytest.raises(PolarInvalidEventsError, match=r"metadata\.nested is nested"):
        notifier(metadata={"nested": {"a": 1}}).notify(task_context())  # type: ignore[arg-type]
    with pytest.raises(PolarConfigurationError, match="no DAG run"):
        notifier().notify({})
    assert not polar_server.requests


@pytest.mark.parametrize("customers", [{"external_customer_id": None}, {"customer_id": "x"}])
def test_exactly_one_customer(customers: dict[str, Any]) -> None:
    with pytest.raises(PolarConfigurationError, match="either"):
        notifier(**customers)


def test_callbacks_of_a_real_run(polar_server: Any, polar_connection: Any, run_dag: Any) -> None:
    sent = PolarEventNotifier(
        event_name="{{ ti.task_id }}.finished",
        external_customer_id="{{ params.customer }}",
        metadata={"run": "{{ run_id }}", "rows": "{{ 6 * 7 }}"},
    )
    with DAG(
        "notifying",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        params={"customer": "acme"},
        render_template_as_native_obj=True,
    ) as dag:

        @task(on_success_callback=sent)
        def load() -> int:
            return 1

        load()
    assert run_dag(dag, logical_date=datetime(2026, 1, 2, tzinfo=UTC)).state == "success"
    (event,) = polar_server.events()
    assert event["name"] == "load.finished"
    assert event["metadata"]["rows"] == 42


def test_one_notifier_for_several_callbacks_in_one_process(polar_server: Any, polar_connection: Any) -> None:
    """As when the DAG processor works off the callbacks of several runs: none may bill another's customer."""
    one = notifier(external_customer_id="{{ run_id }}")
    for run_id in ("acme", "globex"):
        one({"dag": DAG("etl", schedule=None), "run_id": run_id, "reason": "success"})
    sent = [event["external_customer_id"] for event in polar_server.events()]
    assert sorted(sent) == ["acme", "globex"]


def test_a_fault_of_polar_is_raised_for_airflow_to_log(
    polar_server: Any, polar_connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_polar.hooks import polar as hooks

    def refuse(*_: Any) -> Any:
        raise PolarServerError("Polar failed", status=500)

    monkeypatch.setattr(hooks.PolarHook, "ingest_events", refuse)
    with pytest.raises(PolarServerError):
        notifier().notify(task_context())  # type: ignore[arg-type]

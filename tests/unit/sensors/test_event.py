"""The sensor in Airflow: where a wait starts, what it returns, mapping, decorators, and the example DAGs."""

from __future__ import annotations

import importlib.util
import json
import warnings
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarConnectionNotFoundError, PolarWindowError
from airflow_provider_polar.sensors.event import PolarEventSensor, anchor
from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.triggers.event import PolarEventTrigger

T = datetime(2026, 11, 1, 12, tzinfo=UTC)


def paid(after: float = 0, **more: Any) -> dict[str, Any]:
    return {"name": "order.paid", "timestamp": T + timedelta(seconds=after), "external_customer_id": "c"} | more


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, polar_server: LocalPolar) -> None:
    monkeypatch.setattr(PolarEventTrigger, "shortest_poll_interval", 0.05)
    connect(monkeypatch, polar_server)


def connect(monkeypatch: pytest.MonkeyPatch, polar: LocalPolar, token: str | None = None) -> None:
    extra = {"environment": "sandbox", "requests_per_minute": 1_000_000}
    connection = {"conn_type": "polar", "host": polar.base_url, "password": token or polar.token, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(connection))


def sensor(**more: Any) -> PolarEventSensor:
    return PolarEventSensor(**{"task_id": "wait", "event_name": "order.paid", "start": T} | more)


def test_a_wait_is_anchored_on_the_run_and_never_on_now() -> None:
    day, run = timedelta(days=1), SimpleNamespace(run_after=T + timedelta(hours=3))
    assert anchor({"data_interval_start": T - day, "logical_date": T, "dag_run": run}) == T - day  # type: ignore[typeddict-item]
    assert anchor({"logical_date": T, "dag_run": run}) == T  # type: ignore[typeddict-item]
    assert anchor({"dag_run": run}) == run.run_after  # type: ignore[typeddict-item]
    queued = SimpleNamespace(queued_at=T, run_after=T + day)
    assert anchor({"data_interval_start": None, "logical_date": None, "dag_run": queued}) == T  # type: ignore[typeddict-item]
    with pytest.raises(PolarWindowError, match="give the wait a start"):
        anchor({})


@pytest.mark.parametrize("interval", [True, False])
def test_the_data_interval_of_a_real_run_is_the_default(polar_server: LocalPolar, run_dag: Any, interval: bool) -> None:
    from airflow.sdk import DAG

    try:
        from airflow.sdk import CronDataIntervalTimetable, CronTriggerTimetable
    except ImportError:  # Airflow before 3.2
        from airflow.timetables.interval import CronDataIntervalTimetable
        from airflow.timetables.trigger import CronTriggerTimetable
    timetable = CronDataIntervalTimetable if interval else CronTriggerTimetable
    polar_server.add_events([paid(), paid(-1e-6)])
    dag_id = f"anchored_{interval}"
    with DAG(dag_id, schedule=timetable("0 * * * *", timezone="UTC"), start_date=T - timedelta(days=1)) as dag:
        sensor(start=None)
    # A manual run belongs to the last whole interval before its date, or, without intervals, to the date itself.
    run = run_dag(dag, logical_date=T + timedelta(hours=1) if interval else T)
    result = run.xcom("wait")
    assert (result["start"], result["count"]) == ("2026-11-01T12:00:00Z", 1)


def test_start_and_filters_are_templated(polar_server: LocalPolar, run_dag: Any) -> None:
    from airflow.sdk import DAG

    polar_server.add_events([paid(), paid(external_customer_id="other")])
    with DAG("templated", schedule=None, params={"customer": "c", "least": 1}) as dag:
        sensor(
            start="{{ logical_date }}",
            filters={"external_customer_id": "{{ params.customer }}"},
            min_count="{{ params.least }}",
        )
    assert run_dag(dag, logical_date=T).xcom("wait")["count"] == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_mapped_over_customers(polar_server: LocalPolar, run_dag: Any, deferrable: bool) -> None:
    from airflow.sdk import DAG

    polar_server.add_events([paid(external_customer_id=customer) for customer in ("a", "a", "b")])
    with DAG(f"mapped_{deferrable}", schedule=None) as dag:
        PolarEventSensor.partial(
            task_id="wait",
            event_name="order.paid",
            start=T.isoformat(),
            deferrable=deferrable,
            timeout=1,
            poke_interval=0.1,
            soft_fail=True,
        ).expand(filters=[{"external_customer_id": customer} for customer in ("a", "b", "nobody")])
    run = run_dag(dag)
    assert run.states() == {"wait[0]": "success", "wait[1]": "success", "wait[2]": "skipped"}
    assert [run.xcom("wait", map_index=index)["count"] for index in (0, 1)] == [2, 1]


def test_in_a_task_sensor(polar_server: LocalPolar, run_dag: Any) -> None:
    from airflow.sdk import DAG, get_current_context, task

    with DAG("decorated", schedule=None) as dag:

        @task.sensor(poke_interval=0.1, timeout=10)
        def wait() -> Any:
            look = sensor(task_id="inner").poke(get_current_context())
            polar_server.add_events([paid()])
            return look

        wait()
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("wait")["count"] == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_exponential_backoff_asks_ever_more_rarely(
    polar_server: LocalPolar, run_dag: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk import DAG

    with DAG(f"backing_off_{deferrable}", schedule=None) as dag:
        sensor(exponential_backoff=True, deferrable=deferrable, poke_interval=0.1, timeout=2.5)
    assert run_dag(dag).state == "failed"
    # Every 0.1 seconds they would be 25.
    assert sum(record.endpoint == "list" for record in polar_server.requests) <= 8


def test_an_unknown_name_is_warned_of_once(polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch) -> None:
    polar_server.add_events([paid()])
    waiting, said = sensor(event_name="order.payed"), []
    monkeypatch.setattr(waiting.log, "warning", lambda text, *args: said.append(text % args))
    for _ in range(3):
        assert not waiting.poke({})
    assert said == [
        "No event has ever had the name 'order.payed'; the nearest known names are 'order.paid'. The wait goes on."
    ]
    # A wait for a name that is known asks for no names.
    polar_server.clear_requests()
    known = sensor(start=T + timedelta(days=1))
    monkeypatch.setattr(known.log, "warning", lambda text, *args: said.append(text % args))
    assert not known.poke({})
    assert len(said) == 1


def test_names_that_cannot_be_looked_up_do_not_hold_up_a_look(polar_server: LocalPolar) -> None:
    polar_server.fail("rate_limit", path="names", retry_after=600)
    assert not sensor().poke({})
    assert [record.endpoint for record in polar_server.requests] == ["list", "names"]


def test_a_rescheduled_look_does_not_warn_again(polar_server: LocalPolar) -> None:
    assert not sensor(event_name="x").poke({"task_reschedule_count": 3})  # type: ignore[typeddict-unknown-key]
    assert [record.endpoint for record in polar_server.requests] == ["list"]


def test_what_a_trigger_says_ends_the_task(polar_server: LocalPolar) -> None:
    result = {"count": 1, "events": [], "start": "2026-11-01T12:00:00Z", "end": None}
    waiting = sensor()
    assert waiting.execute_complete({}, {"status": "found", "result": result}) == result
    for status, error in (
        ("timeout", AirflowSensorTimeout),
        ("failed", AirflowFailException),
        ("error", AirflowFailException),
    ):
        with pytest.raises(error, match="why"):
            waiting.execute_complete({}, {"status": status, "message": "why"})


def test_a_token_that_was_rotated_while_waiting_costs_nothing(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = sensor()
    assert not waiting.poke({})
    polar_server.add_token("polar_oat_second")
    polar_server.remove_token(polar_server.token)
    polar_server.on_request(lambda _: connect(monkeypatch, polar_server, "polar_oat_second"))
    polar_server.add_events([paid()])
    assert waiting.poke({})


def test_only_a_connection_that_is_unchanged_fails_the_wait(polar_server: LocalPolar) -> None:
    waiting = sensor()
    assert not waiting.poke({})
    polar_server.remove_token(polar_server.token)
    with pytest.raises(AirflowFailException, match="refused the access token"):
        waiting.poke({})


def test_another_host_is_noticed_at_the_next_look(polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = sensor()
    assert not waiting.poke({})
    with LocalPolar() as another:
        another.add_events([paid()])
        connect(monkeypatch, another)
        assert waiting.poke({})


def test_a_connection_that_goes_missing_while_waiting_is_waited_for(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = sensor()
    assert not waiting.poke({})
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    polar_server.add_events([paid()])
    assert not sensor().poke({"task_reschedule_count": 1})  # type: ignore[typeddict-unknown-key]
    assert waiting.poke({})


def test_a_refused_connection_that_airflow_does_not_give_may_have_been_changed(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = sensor()
    assert not waiting.poke({})
    polar_server.add_token("polar_oat_second")
    polar_server.remove_token(polar_server.token)
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    assert not waiting.poke({})
    connect(monkeypatch, polar_server, "polar_oat_second")
    polar_server.add_events([paid()])
    assert waiting.poke({})


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    ("more", "error"),
    [({}, PolarConnectionNotFoundError), ({"soft_fail": True}, PolarConnectionNotFoundError),
     ({"never_fail": True}, AirflowSkipException)],
)  # fmt: skip
def test_a_connection_that_is_missing_at_the_first_look(
    monkeypatch: pytest.MonkeyPatch, deferrable: bool, more: dict[str, Any], error: type[Exception]
) -> None:
    """Airflow's retries help, so it is no :class:`AirflowFailException`."""
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    with pytest.raises(error, match=r"polar_default|never_fail"):
        sensor(deferrable=deferrable, **more).execute({})


@pytest.mark.parametrize("deferrable", [True, False])
def test_silent_fail_waits_for_a_connection_that_is_missing(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    waiting = sensor(deferrable=deferrable, silent_fail=True, poke_interval=0.05, timeout=0.01)
    with pytest.raises(TaskDeferred if deferrable else AirflowSensorTimeout):
        waiting.execute({})


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"event_name": ""}, "event_name"),
        ({"event_name": []}, "event_name"),
        ({"event_name": None}, "event_name"),
        ({"match": "some"}, "match"),
        ({"min_count": 0}, "min_count"),
        ({"start": datetime(2026, 11, 1)}, "start"),  # noqa: DTZ001
        ({"end": "2026-11-01T12:00:00"}, "end"),
        ({"end": T - timedelta(days=1)}, "reversed"),
        ({"filters": {"nmae": "order.paid"}}, "nmae"),
        ({"filters": {"name": "order.paid"}}, "event_name only"),
        ({"fail_on": "order.paid"}, "fail_on"),
    ],
)
def test_what_is_static_and_wrong_is_refused_with_the_dag_file(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(PolarConfigurationError, match=rf"(?s)task 'wait'.*{named}"):
        sensor(**wrong)


def test_what_is_templated_is_not_judged_before_it_is_rendered() -> None:
    from airflow.sdk import DAG, task

    with DAG("templated_and_not_judged"):

        @task
        def names() -> list[str]:
            return []

        text = "{{ params.x }}"
        sensor(event_name=names(), match=text, min_count=text, start=text, end=text, filters={"source": text})
        sensor(task_id="other", event_name=[text], filters={"source": [text]}, fail_on=names(), start=text, end=T)
        sensor(task_id="third", start=None, end=T)


def test_reschedule_mode_below_a_minute_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="deferrable=True"):
        sensor(mode="reschedule", poke_interval=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sensor(mode="reschedule", poke_interval=60)
        sensor(mode="reschedule", poke_interval=30, deferrable=True)
        sensor(poke_interval=30)


@pytest.mark.parametrize("deferrable", [True, False])
def test_what_was_found_is_said_alike_in_every_mode(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    said: list[str] = []
    polar_server.add_events([paid()])
    waiting = sensor()
    monkeypatch.setattr(waiting.log, "info", lambda text, *args: said.append(text % args))
    if deferrable:
        result = {"count": 1, "events": [], "start": "2026-11-01T12:00:00Z", "end": None}
        waiting.execute_complete({}, {"status": "found", "result": result})
    else:
        waiting.poke({})
    assert said == ["Found 1 event: order.paid from 2026-11-01T12:00:00Z"]


DOWN, BROKEN = {"error": "Trigger timeout"}, {"error": "Trigger failure", "traceback": ["Traceback", "  ..."]}
"""What Airflow hands over where it ends a deferral: no triggerer was up at the deadline, or the trigger raised."""


@pytest.mark.parametrize("ended", [DOWN, BROKEN])
def test_where_airflow_ends_the_deferral_there_is_one_more_look(
    polar_server: LocalPolar, ended: dict[str, Any]
) -> None:
    polar_server.add_events([paid()])
    polar_server.fail("status", path="list", times=1)
    result = sensor(deferrable=True).resume_execution("__fail__", ended, {})
    assert (result["count"], result["start"]) == (1, "2026-11-01T12:00:00Z")


@pytest.mark.parametrize(
    ("ended", "more", "error"),
    [
        (DOWN, {}, AirflowSensorTimeout),
        (BROKEN, {}, AirflowException),
        (DOWN, {"soft_fail": True}, AirflowSkipException),
        (BROKEN, {"soft_fail": True}, AirflowSkipException),
    ],
)
def test_where_that_look_finds_nothing_the_wait_ends_as_airflow_says(
    polar_server: LocalPolar, ended: dict[str, Any], more: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        sensor(deferrable=True, **more).resume_execution("__fail__", ended, {})
    assert [record.endpoint for record in polar_server.requests].count("list") == 1


def test_where_the_last_look_of_the_trigger_failed_the_task_looks(polar_server: LocalPolar) -> None:
    ended = {"status": "timeout", "message": "why", "looked": False}
    with pytest.raises(AirflowSensorTimeout, match="why"):
        sensor().execute_complete({}, ended)
    polar_server.add_events([paid()])
    assert sensor().execute_complete({}, ended)["count"] == 1
    with pytest.raises(AirflowSensorTimeout, match="why"):
        sensor().execute_complete({}, {"status": "timeout", "message": "why"})


def test_a_connection_that_is_missing_at_the_last_look_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the modes that look on the worker: a retry would wait for the whole time again."""
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    with pytest.raises(AirflowSensorTimeout, match="why"):
        sensor().execute_complete({}, {"status": "timeout", "message": "why", "looked": False})
    with pytest.raises(AirflowSensorTimeout):
        sensor(deferrable=True).resume_execution("__fail__", DOWN, {})


@pytest.mark.parametrize("event", [None, "found", {}, {"status": "found"}, {"status": "found", "result": {"count": 1}}])
def test_what_is_no_result_is_none(polar_server: LocalPolar, event: Any) -> None:
    with pytest.raises(AirflowException, match="not known here"):
        sensor().execute_complete({}, event)


def test_deferred_by_default_where_airflow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_polar.sensors import event

    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    spec = importlib.util.spec_from_file_location("configured_otherwise", event.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PolarEventSensor(task_id="wait", event_name="a").deferrable is True
    assert sensor().deferrable is False


def test_wait_before_invoicing(polar_server: LocalPolar, run_dag: Any, example: Any) -> None:
    midnight = {"name": "usage.rolled_up", "timestamp": "2026-11-01T00:00:00Z", "external_customer_id": "c"}
    polar_server.add_events([midnight])
    run = run_dag(example("wait_before_invoicing"), logical_date=datetime(2026, 11, 1, 0, 30, tzinfo=UTC))
    assert run.state == "success"
    assert run.xcom("invoice") == "invoicing after 1 roll-up(s), the first at 2026-11-01T00:00:00Z"
    polar_server.add_events([midnight | {"name": "usage.roll_up_failed"}])
    run = run_dag(example("wait_before_invoicing"), logical_date=datetime(2026, 11, 1, 0, 31, tzinfo=UTC))
    assert run.states() == {"wait_for_roll_up": "failed", "invoice": "upstream_failed"}


def test_sensor_per_customer(polar_server: LocalPolar, run_dag: Any, example: Any) -> None:
    call = {"name": "api.call", "timestamp": T}
    polar_server.add_events(
        [call | {"external_customer_id": "acme"}] * 120 + [call | {"external_customer_id": "globex"}] * 110
    )
    run = run_dag(example("sensor_per_customer"), logical_date=T - timedelta(hours=12))
    assert run.state == "success"
    assert [run.xcom("each.notify", map_index=index) for index in (0, 1)] == [
        "acme has made 120 calls since 2026-11-01T00:00:00Z",
        "globex has made 110 calls since 2026-11-01T00:00:00Z",
    ]

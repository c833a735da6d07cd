"""The same waits in poke mode, in reschedule mode and deferred, in a real Airflow: the same outcome in each."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
END = START + timedelta(hours=1)
MODES = ("poke", "reschedule", "deferrable")
PAID, CREATED, REFUNDED = "order.paid", "order.created", "order.refunded"


def event(name: str = PAID, after: float = 60, customer: str = "c1") -> dict[str, Any]:
    """An event some seconds after the start."""
    return {"name": name, "timestamp": START + timedelta(seconds=after), "external_customer_id": customer}


@dataclass
class Scenario:
    """What is there, what happens, and how the wait should end.

    :param before: events there before the task starts.
    :param later: events that become visible after the second look.
    :param happens: what happens then, too, to the server and to the connection of that name.
    :param fault: ordered before the task starts.
    :param requests: list requests that it takes at most; None for any number.
    """

    outcome: str
    before: list[dict[str, Any]] = field(default_factory=list)
    later: list[dict[str, Any]] = field(default_factory=list)
    sensor: dict[str, Any] = field(default_factory=dict)
    happens: Callable[[LocalPolar, str], None] = lambda *_: None
    fault: Callable[[LocalPolar], Any] | None = None
    token: str | None = None
    requests: int | None = None


def rotate_token(polar: LocalPolar, name: str) -> None:
    """The old token is revoked when the new one is in the connection."""
    polar.add_token("polar_oat_second")
    os.environ[name] = connection(polar, "polar_oat_second")
    polar.remove_token(polar.token)


def take_secrets_away(_: LocalPolar, name: str) -> None:
    """For a second; Airflow then says that the connection is not defined."""
    kept = os.environ.pop(name)
    threading.Timer(1, os.environ.__setitem__, (name, kept)).start()


SHORT = {"timeout": 0.6}
BOTH = {"event_name": [PAID, CREATED]}
SCENARIOS = {
    "before the task started": Scenario("success 1", [event()], requests=1),
    "exactly at start": Scenario("success 1", [event(after=0)], requests=1),
    "a microsecond before start": Scenario("failed", [event(after=-1e-6)], sensor=SHORT),
    "a microsecond before end": Scenario("success 1", [event(after=3600 - 1e-6)], sensor={"end": END}),
    "exactly at end": Scenario("failed", [event(after=3600)], sensor=SHORT | {"end": END}),
    "between two looks": Scenario("success 1", later=[event()]),
    "visible late, long after its time": Scenario("success 1", [event(CREATED, 7200)], later=[event(after=1)]),
    "another name": Scenario("failed", [event(CREATED)], sensor=SHORT),
    "another customer": Scenario(
        "failed", [event(customer="c2")], sensor=SHORT | {"filters": {"external_customer_id": "c1"}}
    ),
    "any of two": Scenario("success 1", [event(CREATED)], sensor=BOTH),
    "all of two, one there": Scenario("failed", [event()], sensor=SHORT | BOTH | {"match": "all"}),
    "all of two": Scenario("success 2", [event()], later=[event(CREATED)], sensor=BOTH | {"match": "all"}),
    "min_count not reached": Scenario("failed", [event(), event()], sensor=SHORT | {"min_count": 3}),
    "min_count reached": Scenario("success 3", [event(), event()], [event()], sensor={"min_count": 3}),
    "timeout": Scenario("failed", sensor=SHORT),
    "timeout with soft_fail": Scenario("skipped", sensor=SHORT | {"soft_fail": True}),
    "503": Scenario("success 1", [event()], fault=lambda polar: polar.fail("status", path="list", times=2)),
    "429": Scenario(
        "success 1", [event()], fault=lambda polar: polar.fail("rate_limit", path="list", times=1, retry_after=1)
    ),
    "reset": Scenario("success 1", [event()], fault=lambda polar: polar.fail("reset", path="list", times=2)),
    "truncated answer": Scenario("success 1", [event()], fault=lambda polar: polar.fail("truncated", times=1)),
    "503 until the timeout": Scenario("failed", sensor=SHORT, fault=lambda polar: polar.fail("status", path="list")),
    "wrong token": Scenario("failed", [event()], token="polar_oat_wrong", requests=1),
    "wrong token with soft_fail": Scenario(
        "skipped", [event()], token="polar_oat_wrong", sensor={"soft_fail": True}, requests=1
    ),
    "token revoked while waiting": Scenario(
        "failed", fault=lambda polar: polar.fail("status", status=401, path="list", after=2), requests=3
    ),
    "token rotated while waiting": Scenario("success 1", later=[event()], happens=rotate_token),
    "secrets away while waiting": Scenario("success 1", later=[event()], happens=take_secrets_away),
    "no such connection": Scenario("failed", [event()], sensor={"polar_conn_id": "nowhere"}, requests=0),
    "no such connection with never_fail": Scenario(
        "skipped", [event()], sensor={"polar_conn_id": "nowhere", "never_fail": True}, requests=0
    ),
    "timeout with never_fail": Scenario("skipped", sensor=SHORT | {"never_fail": True}),
    "missing scope": Scenario("failed", [event()], fault=lambda polar: polar.fail("missing_scope"), requests=1),
    "fail_on": Scenario("failed", later=[event(REFUNDED)], sensor={"fail_on": REFUNDED}),
    "fail_on and the event": Scenario("failed", [event(), event(REFUNDED)], sensor={"fail_on": REFUNDED}, requests=1),
    "fail_on with soft_fail": Scenario(
        "skipped", [event(REFUNDED)], sensor={"fail_on": [REFUNDED], "soft_fail": True}, requests=1
    ),
    "an impossible filter": Scenario("failed", [event()], sensor={"filters": {"customer_id": "{{ 'x' }}"}}, requests=0),
}


def connection(polar: LocalPolar, token: str | None = None) -> str:
    extra = {"environment": "sandbox", "requests_per_minute": 100_000}
    return json.dumps({"conn_type": "polar", "host": polar.base_url, "password": token or polar.token, "extra": extra})


@pytest.fixture(scope="module")
def outcomes(airflow_db: Any) -> Iterator[dict[tuple[str, str], tuple[str, int]]]:
    """(scenario, mode) to how it ended and the list requests that it took."""
    from airflow.sdk import DAG

    from airflow_provider_polar.engine.waiting import cadence
    from airflow_provider_polar.sensors.event import PolarEventSensor
    from airflow_provider_polar.triggers.event import PolarEventTrigger
    from tests.airflow_env import run_dag

    found: dict[tuple[str, str], tuple[str, int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PolarEventTrigger, "shortest_poll_interval", 0.05)
        patch.setattr(cadence, "_FIRST", 0.2)
        for mode in MODES:
            with ExitStack() as stack:
                servers: dict[str, LocalPolar] = {}
                with DAG(f"waits_{mode}", schedule=None, start_date=START) as dag:
                    for number, (title, scenario) in enumerate(SCENARIOS.items()):
                        servers[title] = polar = stack.enter_context(LocalPolar())
                        variable = f"AIRFLOW_CONN_POLAR_{mode.upper()}_{number}"
                        set_up(polar, scenario, variable)
                        patch.setenv(variable, connection(polar, scenario.token))
                        PolarEventSensor(
                            task_id=f"wait_{number}",
                            **{
                                "event_name": PAID,
                                "start": START.isoformat(),
                                "timeout": 600,  # one pass over so many tasks may take a minute
                                "polar_conn_id": f"polar_{mode}_{number}",
                            }
                            | scenario.sensor,
                            poke_interval=0.2,
                            mode="reschedule" if mode == "reschedule" else "poke",
                            deferrable=mode == "deferrable",
                            # A mistake is not to be tried again, and a wait that has timed out neither.
                            retries=1,
                            retry_delay=timedelta(0),
                        )
                run = run_dag(dag)
                for number, (title, polar) in enumerate(servers.items()):
                    outcome = run.states()[f"wait_{number}"]
                    if outcome == "success":
                        outcome += f" {run.xcom(f'wait_{number}')['count']}"
                    found[title, mode] = outcome, sum(record.endpoint == "list" for record in polar.requests)
        yield found


def set_up(polar: LocalPolar, scenario: Scenario, variable: str) -> None:
    polar.add_events(scenario.before)
    if scenario.fault is not None:
        scenario.fault(polar)
    looks = 0

    def look(record: Any) -> None:
        nonlocal looks
        looks += record.endpoint == "list"
        if looks == 3 and record.endpoint == "list":
            polar.add_events(scenario.later)
            scenario.happens(polar, variable)

    polar.on_request(look)


def test_every_mode_ends_alike(outcomes: dict[tuple[str, str], tuple[str, int]], capsys: Any) -> None:
    with capsys.disabled():
        print(f"\n\n{'scenario':36}" + "".join(f"{mode:>14}" for mode in MODES))
        for title in SCENARIOS:
            print(f"{title:36}" + "".join(f"{outcomes[title, mode][0]:>14}" for mode in MODES))
    assert {key: outcome for key, (outcome, _) in outcomes.items()} == {
        (title, mode): scenario.outcome for title, scenario in SCENARIOS.items() for mode in MODES
    }


def test_what_cannot_be_mended_is_not_asked_again(outcomes: dict[tuple[str, str], tuple[str, int]]) -> None:
    most = {title: scenario.requests for title, scenario in SCENARIOS.items() if scenario.requests is not None}
    taken = {(title, mode): requests for (title, mode), (_, requests) in outcomes.items() if title in most}
    assert taken == {(title, mode): most[title] for title in most for mode in MODES}


@pytest.mark.parametrize(
    ("seconds", "soft", "state"), [(60, False, "success"), (7200, False, "failed"), (7200, True, "skipped")]
)
def test_a_triggerer_that_is_down_past_the_deadline_loses_no_event(
    airflow_db: Any, polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch, seconds: float, soft: bool, state: str
) -> None:
    """The wait is deferred, no triggerer runs, and Airflow's own scheduler ends the deferral: the task looks once more.

    In poke and in reschedule mode nothing runs in a triggerer, and the table above holds.
    """
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.sdk import DAG

    from airflow_provider_polar.sensors import event as sensors
    from tests.integration.scheduling import Scheduling

    monkeypatch.setattr(sensors, "BACKSTOP", 0.1)
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", connection(polar_server))
    with DAG(f"triggerer_down_{seconds}_{soft}", schedule="@once", start_date=START) as dag:
        sensors.PolarEventSensor(
            task_id="wait", event_name=PAID, start=START, end=END, timeout=0.2, deferrable=True, soft_fail=soft
        )
    scheduling = Scheduling(dag, run_triggerer=False)
    scheduling.create_runs()

    def nobody_is_there(states: dict[str, str]) -> None:
        assert states == {"wait": "deferred"}
        if polar_server.count() == 0:
            polar_server.add_events([event(after=seconds)])
        SchedulerJobRunner(job=Job()).check_trigger_timeouts()
        time.sleep(0.05)

    scheduling.while_nothing_is_ready = nobody_is_there
    (run,) = scheduling.run_queued()
    assert run.states() == {"wait": state}
    assert sum(record.endpoint == "list" for record in polar_server.requests) == 2


def keep_connection(name: str, polar: LocalPolar | None, token: str | None = None) -> None:
    """Puts the connection into Airflow's database, or takes it away."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(Connection).where(Connection.conn_id == name))
        if polar is not None:
            given = json.loads(connection(polar, token))
            given["extra"] = json.dumps(given["extra"])
            session.add(Connection(conn_id=name, **given))


def test_in_a_real_triggerer_secrets_come_back_and_a_token_is_rotated(
    airflow_db: Path, polar_server: LocalPolar, tmp_path: Path
) -> None:
    from airflow.sdk import DAG

    from airflow_provider_polar.sensors.event import PolarEventSensor
    from tests.integration.scheduling import Scheduling
    from tests.integration.test_triggerer import triggerer, until

    keep_connection("polar_kept", polar_server)
    log = tmp_path / "triggerer.log"
    with DAG("real_triggerer", schedule="@once", start_date=START) as dag:
        for task_id in ("wait", "wait_too"):
            PolarEventSensor(
                task_id=task_id, event_name=PAID, start=START, polar_conn_id="polar_kept", poke_interval=5,
                deferrable=True, filters={"external_customer_id": "c1" if task_id == "wait" else "c2"},
            )  # fmt: skip
    scheduling = Scheduling(dag, run_triggerer=False)
    scheduling.create_runs()

    def looks() -> int:
        return sum(record.endpoint == "list" for record in polar_server.requests)

    def said(text: str) -> bool:
        """In the log of each of the tasks."""
        logs = (airflow_db.parent / "logs" / "dag_id=real_triggerer").rglob("*trigger*.log")
        return sum(text in one.read_text() for one in logs) == 2

    def go_on(states: dict[str, str]) -> None:
        assert set(states.values()) == {"deferred"}
        keep_connection("polar_kept", None)
        before = looks()
        with triggerer(polar_server, log):
            until(lambda: said("no connection 'polar_kept'"), 120, "the triggerer did not say what it waits for")
            keep_connection("polar_kept", polar_server)
            until(lambda: looks() > before, 60, "the triggerer did not look")
            keep_connection("polar_kept", polar_server, "polar_oat_second")
            polar_server.add_token("polar_oat_second")
            polar_server.remove_token(polar_server.token)
            polar_server.add_events([event(customer="c1"), event(customer="c2")])
            until(lambda: "deferred" not in scheduling.states().values(), 60, "the waits did not end")

    scheduling.while_nothing_is_ready = go_on
    try:
        (run,) = scheduling.run_queued()
    except AssertionError:
        print(log.read_text()[-20_000:])
        raise
    assert run.states() == {"wait": "success", "wait_too": "success"}
    assert "Task was destroyed" not in log.read_text()


@pytest.mark.parametrize("what", ["names", "customers"])
async def test_a_thousand_waits_whose_events_come_in_time(
    monkeypatch: pytest.MonkeyPatch, what: str, capsys: Any
) -> None:
    """In one event loop, with the default budget: with SCALE=1 a look a minute, events at 100 s, deadline at 150 s."""
    import httpx

    from airflow_provider_polar.triggers.event import PolarEventTrigger
    from benchmarks.waiting_load import TOKEN, local_polar

    scale, many = float(os.environ.get("SCALE", "10")), 1000
    ended: list[dict[str, Any]] = []

    async def take(trigger: PolarEventTrigger) -> None:
        ended.extend([event.payload async for event in trigger.run()])

    with local_polar() as base_url:
        extra = {"environment": "production", "requests_per_minute": 300}
        given = {"conn_type": "polar", "host": base_url, "password": TOKEN, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(given))
        deadline = datetime.now(UTC) + timedelta(seconds=150 / scale)
        began = time.monotonic()
        tasks = []
        for number in range(many):
            name = f"usage.rolled_up.{number}" if what == "names" else PAID
            filters = {} if what == "names" else {"external_customer_id": f"c{number}"}
            trigger = PolarEventTrigger(
                event_name=[name],
                start=(START - timedelta(hours=number)).isoformat(),
                filters=filters,
                poll_interval=60 / scale,
                deadline=deadline.isoformat(),
            )
            tasks.append(asyncio.create_task(take(trigger)))
        async with httpx.AsyncClient(base_url=base_url, timeout=60) as control:
            await asyncio.sleep(100 / scale)
            before = int((await control.get("/_local/state")).json()["requests"])
            come = [
                {
                    "name": f"usage.rolled_up.{number}" if what == "names" else PAID,
                    "external_customer_id": f"c{number}",
                    "timestamp": START.isoformat(),
                }
                for number in range(many)
            ]
            await control.post("/_local/events", json={"events": come})
            await asyncio.gather(*tasks)
            after = int((await control.get("/_local/state")).json()["requests"])
    with capsys.disabled():
        print(
            f"\n1,000 waits for {what}, a look each {60 / scale:g} s: {before} requests in {100 / scale:g} s, "
            f"{after - before} more until all were found, {time.monotonic() - began:.1f} s after the start"
        )
    assert [outcome["status"] for outcome in ended] == ["found"] * many
    # Each on its own would have been 1,000 a look.
    assert before <= 60
    assert after - before <= 100

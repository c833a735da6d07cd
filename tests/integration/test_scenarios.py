"""The same waits in poke mode, in reschedule mode and deferred, in a real Airflow: the same outcome in each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
    :param fault: ordered before the task starts.
    :param requests: list requests that it takes at most; None for any number.
    """

    outcome: str
    before: list[dict[str, Any]] = field(default_factory=list)
    later: list[dict[str, Any]] = field(default_factory=list)
    sensor: dict[str, Any] = field(default_factory=dict)
    fault: Callable[[LocalPolar], Any] | None = None
    token: str | None = None
    requests: int | None = None


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
                        set_up(polar, scenario)
                        patch.setenv(f"AIRFLOW_CONN_POLAR_{number}", connection(polar, scenario.token))
                        PolarEventSensor(
                            task_id=f"wait_{number}",
                            **{"event_name": PAID, "start": START.isoformat(), "timeout": 20} | scenario.sensor,
                            poke_interval=0.2,
                            polar_conn_id=f"polar_{number}",
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


def set_up(polar: LocalPolar, scenario: Scenario) -> None:
    polar.add_events(scenario.before)
    if scenario.fault is not None:
        scenario.fault(polar)
    looks = 0

    def look(record: Any) -> None:
        nonlocal looks
        looks += record.endpoint == "list"
        if looks == 3 and record.endpoint == "list":
            polar.add_events(scenario.later)

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

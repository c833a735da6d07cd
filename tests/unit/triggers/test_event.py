"""What a deferred wait waits in."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_polar.engine.waiting import cadence
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.hooks.settings import ConnectionSettings
from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.triggers import _client, _looks
from airflow_provider_polar.triggers.event import PolarEventTrigger

T = datetime(2026, 11, 1, 12, tzinfo=UTC)
PAID = {"name": "order.paid", "timestamp": T, "external_customer_id": "c1"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, polar_server: LocalPolar) -> None:
    monkeypatch.setattr(PolarEventTrigger, "shortest_poll_interval", 0.02)
    monkeypatch.setattr(cadence, "_FIRST", 0.05)
    connect(monkeypatch, polar_server)


def connect(
    monkeypatch: pytest.MonkeyPatch, polar: LocalPolar, token: str | None = None, budget: float = 1_000_000
) -> None:
    extra = {"environment": "sandbox", "requests_per_minute": budget}
    connection = {"conn_type": "polar", "host": polar.base_url, "password": token or polar.token, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(connection))


def trigger(seconds: float | None = 20, **more: Any) -> PolarEventTrigger:
    """A trigger as the triggerer makes it: from its stored arguments."""
    deadline = None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    given = {"event_name": ["order.paid"], "start": T.isoformat(), "poll_interval": 0.02, "deadline": deadline} | more
    path, kwargs = PolarEventTrigger(**given).serialize()
    assert path == "airflow_provider_polar.triggers.event.PolarEventTrigger"
    return PolarEventTrigger(**json.loads(json.dumps(kwargs)))


async def outcome(waiting: PolarEventTrigger) -> dict[str, Any]:
    payloads = [event.payload async for event in waiting.run()]
    assert len(payloads) == 1
    return payloads[0]


def lists(polar: LocalPolar) -> int:
    return sum(record.endpoint == "list" for record in polar.requests)


async def test_found(polar_server: LocalPolar) -> None:
    polar_server.add_events([PAID])
    event = await outcome(trigger())
    assert event["status"] == "found"
    assert event["result"]["count"] == 1
    assert json.loads(json.dumps(event)) == event


async def test_fail_on(polar_server: LocalPolar) -> None:
    polar_server.add_events([PAID | {"name": "order.refunded"}])
    event = await outcome(trigger(fail_on=["order.refunded"]))
    assert event["status"] == "failed"
    assert "order.refunded came" in event["message"]


async def test_a_deadline_is_a_moment_that_no_restart_moves(polar_server: LocalPolar) -> None:
    waiting = trigger(0.3)
    for _ in range(3):
        waiting = PolarEventTrigger(**waiting.serialize()[1])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(outcome(waiting), 0.15 if _ < 1 else 0.01)
    await asyncio.sleep(0.2)
    assert (await outcome(PolarEventTrigger(**waiting.serialize()[1])))["status"] == "timeout"


async def test_after_the_deadline_there_is_one_last_look(polar_server: LocalPolar) -> None:
    assert (await outcome(trigger(-60)))["status"] == "timeout"
    assert lists(polar_server) == 1
    polar_server.add_events([PAID])
    assert (await outcome(trigger(-60)))["status"] == "found"


async def test_what_came_while_the_triggerer_was_down_is_found(polar_server: LocalPolar) -> None:
    waiting = trigger()
    task = asyncio.create_task(outcome(waiting))
    while not lists(polar_server):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    polar_server.add_events([PAID])
    assert (await outcome(PolarEventTrigger(**waiting.serialize()[1])))["status"] == "found"


@pytest.mark.parametrize("kind", ["status", "reset", "truncated", "broken"])
async def test_transient_faults_are_waited_out_and_said(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    said: list[str] = []
    polar_server.add_events([PAID])
    polar_server.fail(kind, path="list", times=3)
    waiting = trigger()
    monkeypatch.setattr(waiting.log, "warning", lambda text, *args: said.append(text % args))
    assert (await outcome(waiting))["status"] == "found"
    assert len(said) == 3
    assert all("The wait goes on in" in line for line in said)


async def test_faults_back_off(polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cadence, "_FIRST", 0.1)
    polar_server.fail("status", path="list")
    assert (await outcome(trigger(1)))["status"] == "timeout"
    # 0.1, 0.2 and 0.4 seconds apart, and the last look; every 0.02 seconds they would be 50.
    assert 3 <= lists(polar_server) <= 6


async def test_an_answer_that_never_comes_does_not_hold_the_deadline_up(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "LONGEST_RESPONSE", 0.2)
    polar_server.fail("delay", path="list", delay=5)
    assert (await asyncio.wait_for(outcome(trigger(0.1)), 3))["status"] == "timeout"
    polar_server.clear_requests()
    # Many waits that share a look: its request would be repeated after a fault, and is not where it hangs.
    monkeypatch.setattr(_looks, "_PATIENCE", 0.1)
    ended = await asyncio.gather(*(outcome(trigger(-60, poll_interval=2)) for _ in range(3)))
    assert [(event["status"], event["looked"]) for event in ended] == [("timeout", False)] * 3
    assert lists(polar_server) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "status", "status": 401}, "refused the access token"),
        ({"kind": "missing_scope"}, "lacks a scope"),
        ({"kind": "status", "status": 422}, "Polar refused"),
    ],
)
async def test_a_mistake_ends_the_wait_at_once(polar_server: LocalPolar, fault: Any, words: str) -> None:
    polar_server.fail(**fault)
    event = await outcome(trigger())
    assert event["status"] == "error"
    assert words in event["message"]
    assert polar_server.token not in json.dumps(event)
    assert lists(polar_server) == 1


@pytest.mark.parametrize("wrong", [{"filters": {"nmae": "x"}}, {"start": "x"}])
async def test_what_cannot_be_waited_for_is_an_error_event(polar_server: LocalPolar, wrong: Any) -> None:
    event = await outcome(trigger(**wrong))
    assert event["status"] == "error"
    assert event["message"]
    assert not polar_server.requests


async def looked(polar: LocalPolar, times: int = 1) -> None:
    """Until there were this many more looks."""
    before = lists(polar)
    while lists(polar) < before + times:
        await asyncio.sleep(0.01)


async def test_a_token_that_was_rotated_while_waiting_costs_nothing(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(outcome(trigger()))
    await looked(polar_server)
    polar_server.add_token("polar_oat_second")
    # The old token is revoked while its request is on the way, the new one is set before the response is there.
    polar_server.on_request(lambda _: connect(monkeypatch, polar_server, "polar_oat_second"))
    polar_server.remove_token(polar_server.token)
    await looked(polar_server, 2)
    polar_server.add_events([PAID])
    assert (await task)["status"] == "found"


async def test_a_look_up_from_before_a_token_was_rotated_does_not_end_a_wait(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secrets back-end takes its time, and waits with other filters look at the same moment."""
    task = asyncio.create_task(outcome(trigger(poll_interval=1)))
    await looked(polar_server)
    look_up = PolarHook.aget_settings
    began = threading.Event()

    async def slowly(hook: PolarHook) -> ConnectionSettings:
        settings = await look_up(hook)
        if not began.is_set():
            connect(monkeypatch, polar_server, "polar_oat_second")
            polar_server.add_token("polar_oat_second")
            polar_server.remove_token(polar_server.token)
            began.set()
            await asyncio.sleep(0.5)
        return settings

    async def another() -> None:
        monkeypatch.setattr(PolarHook, "aget_settings", slowly)
        [looks] = _looks._shared[asyncio.get_running_loop()].values()
        await looks._connection._read_once()

    def refuse(_: object) -> None:
        # The token is rotated while the request is on its way, and just after somebody else has read the connection.
        if not began.is_set():
            asyncio.run_coroutine_threadsafe(another(), loop)
            began.wait(5)

    loop = asyncio.get_running_loop()
    polar_server.on_request(refuse)
    async with asyncio.timeout(20):
        await asyncio.to_thread(began.wait)
    polar_server.add_events([PAID])
    assert (await task)["status"] == "found"


async def test_another_host_is_noticed_at_the_next_look(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [asyncio.create_task(outcome(trigger(filters=filters))) for filters in (None, {"source": "user"})]
    await looked(polar_server)
    with LocalPolar() as another:
        another.add_events([PAID])
        connect(monkeypatch, another)
        assert [event["status"] for event in await asyncio.gather(*tasks)] == ["found", "found"]


async def test_a_connection_that_airflow_does_not_give_is_waited_for(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secrets back-end that is away when the triggerer starts is for Airflow a connection that is not defined."""
    said: list[str] = []
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    polar_server.add_events([PAID])
    waiting = trigger()
    monkeypatch.setattr(waiting.log, "warning", lambda text, *args: said.append(text % args))
    task = asyncio.create_task(outcome(waiting))
    while len(said) < 2:
        await asyncio.sleep(0.01)
    assert all("no connection 'polar_default'" in line and "secrets back-end" in line for line in said)
    connect(monkeypatch, polar_server)
    assert (await task)["status"] == "found"


async def test_until_the_deadline_and_no_longer(polar_server: LocalPolar) -> None:
    event = await outcome(trigger(0.3, polar_conn_id="nowhere"))
    assert (event["status"], event["looked"]) == ("timeout", False)
    assert "The last look failed: Airflow gives no connection 'nowhere'" in event["message"]
    assert not polar_server.requests


async def test_while_a_connection_is_missing_it_is_used_as_it_was(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(outcome(trigger()))
    await looked(polar_server)
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    await looked(polar_server, 2)
    polar_server.add_events([PAID])
    assert (await task)["status"] == "found"


async def test_a_refused_connection_that_airflow_does_not_give_may_have_been_changed(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(outcome(trigger()))
    await looked(polar_server)
    polar_server.add_token("polar_oat_second")
    polar_server.remove_token(polar_server.token)
    monkeypatch.delenv("AIRFLOW_CONN_POLAR_DEFAULT")
    async with asyncio.timeout(20):
        await looked(polar_server, 2)
    connect(monkeypatch, polar_server, "polar_oat_second")
    polar_server.add_events([PAID])
    assert (await task)["status"] == "found"


async def test_what_polar_refuses_of_one_wait_does_not_end_another(polar_server: LocalPolar) -> None:
    refused = lambda record: "wrong" in str(record.params)  # noqa: E731
    polar_server.fail("status", status=422, path="list", when=refused)
    good = asyncio.create_task(outcome(trigger(event_name=["order.paid"])))
    wrong = asyncio.create_task(outcome(trigger(event_name=["wrong"])))
    assert (await wrong)["status"] == "error"
    polar_server.add_events([PAID])
    assert (await good)["status"] == "found"


async def test_waits_that_need_many_requests_together_see_their_events_through_faults(polar_server: LocalPolar) -> None:
    """Between their windows lies more than a page holds, so that each takes a request of its own."""
    hours = [T + timedelta(hours=number) for number in range(12)]
    between = [PAID | {"timestamp": hour + timedelta(minutes=30)} for hour in hours]
    polar_server.add_events([PAID | {"timestamp": hour} for hour in hours] + between * 110)
    polar_server.fail("status", path="list", every=5)
    waits = [
        trigger(-60, poll_interval=2, start=hour.isoformat(), end=(hour + timedelta(minutes=30)).isoformat())
        for hour in hours
    ]
    assert {event["status"] for event in await asyncio.gather(*map(outcome, waits))} == {"found"}


async def test_a_wait_whose_events_fill_pages_shares_no_request_from_its_second_look_on(
    polar_server: LocalPolar,
) -> None:
    polar_server.add_events([PAID] * 150)
    waits = [trigger(min_count=500), *(trigger(event_name=[f"rolled_up.{number}"]) for number in range(20))]
    tasks = [asyncio.create_task(outcome(wait)) for wait in waits]
    await looked(polar_server, 20)
    polar_server.clear_requests()
    await looked(polar_server, 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    named = [{value for key, value in record.params if key == "name"} for record in polar_server.requests]
    assert {len(names) for names in named if "order.paid" in names} == {1}
    assert max(map(len, named)) > 1


async def test_the_queue_for_the_budget_does_not_eat_a_last_look(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred waits that share nothing: a tenth of the budget goes at once, the others queue for nine seconds."""
    connect(monkeypatch, polar_server, budget=400)
    monkeypatch.setattr(_client, "LONGEST_RESPONSE", 5)
    polar_server.add_events([PAID | {"metadata": {"k": number}} for number in range(100)])
    waits = [trigger(0.2, poll_interval=60, filters={"metadata": {"k": number}}) for number in range(100)]
    assert {event["status"] for event in await asyncio.gather(*map(outcome, waits))} == {"found"}
    assert lists(polar_server) == 100
    assert "of the 400 requests a minute" not in caplog.text


async def test_it_is_said_once_when_the_budget_is_nearly_used_up(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect(monkeypatch, polar_server, budget=200)
    waits = [trigger(0, filters={"metadata": {"k": number}}) for number in range(170)]
    tasks = [asyncio.create_task(outcome(wait)) for wait in waits]
    while "of the 200 requests a minute" not in caplog.text:
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert caplog.text.count("requests a minute that connection polar_default allows") == 1


async def test_the_connection_is_looked_up_asynchronously(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.compat.sdk import BaseHook, Connection

    if not hasattr(Connection, "aextra_dejson"):
        pytest.skip("Airflow before 3.3.2 looks it up in a thread")

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a synchronous look-up in the event loop")

    monkeypatch.setattr(BaseHook, "get_connection", never)
    polar_server.add_events([PAID])
    assert (await outcome(trigger()))["status"] == "found"


async def test_all_triggers_of_a_connection_share_one_client(
    polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = _client._client
    monkeypatch.setattr(_client, "_client", lambda settings: made.append(make(settings)) or made[-1])
    tasks = [asyncio.create_task(outcome(trigger())) for _ in range(40)]
    while lists(polar_server) < 80:
        await asyncio.sleep(0.01)
    polar_server.add_events([PAID])
    assert {event["status"] for event in await asyncio.gather(*tasks)} == {"found"}
    assert len(made) == 1
    assert made[0]._http.is_closed

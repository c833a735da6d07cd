"""The watcher's trigger: it never ends, never spins, never yields an error, and stores its cursor last."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_polar.engine.waiting import cadence
from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.triggers import _watch_polls
from airflow_provider_polar.triggers._checkpoint import Checkpoint
from airflow_provider_polar.triggers._watch_polls import WatchPolls
from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

store_exists = pytest.mark.skipif(
    not hasattr(BaseEventTrigger, "shared_stream_key"),
    reason="asset state stores and shared streams are of Airflow 3.3",
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, polar_server: LocalPolar) -> None:
    monkeypatch.setattr(PolarEventWatchTrigger, "shortest_poll_interval", 0.02)
    monkeypatch.setattr(WatchPolls, "together", 0.01)
    if hasattr(BaseEventTrigger, "shared_stream_key"):
        from airflow_provider_polar.triggers._watch_stream import WatchStream

        monkeypatch.setattr(WatchStream, "settling", 0.05)
    monkeypatch.setattr(cadence, "_FIRST", 0.05)
    extra = {"environment": "sandbox", "requests_per_minute": 1_000_000}
    connection = {"conn_type": "polar", "host": polar_server.base_url, "password": polar_server.token, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(connection))


def trigger(**more: Any) -> PolarEventWatchTrigger:
    """A trigger as the triggerer makes it: from its stored arguments."""
    _, kwargs = PolarEventWatchTrigger(**{"event_name": "order.paid", "poll_interval": 0.02} | more).serialize()
    return PolarEventWatchTrigger(**json.loads(json.dumps(kwargs)))


def paid(polar: LocalPolar, many: int = 1, name: str = "order.paid") -> list[str]:
    moment = datetime.now(UTC)
    return polar.add_events(
        {"name": name, "timestamp": moment - timedelta(milliseconds=i), "external_customer_id": "c"}
        for i in range(many)
    )


def lists(polar: LocalPolar) -> int:
    return sum(record.endpoint == "list" for record in polar.requests)


async def polls(polar: LocalPolar, more: int = 2) -> None:
    """Until so many more polls have been made."""
    there = lists(polar)
    while lists(polar) < there + more:
        await asyncio.sleep(0.01)


class Running:
    """A trigger that runs, and what it has yielded."""

    def __init__(self, events: AsyncIterator[Any], hand_on: Callable[[], None] = lambda: None) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._take(events, hand_on))

    async def _take(self, events: AsyncIterator[Any], hand_on: Callable[[], None]) -> None:
        async for event in events:
            self.payloads.append(event.payload)
            hand_on()

    async def ids(self, number: int) -> list[str]:
        """So many delivered ids."""
        async with asyncio.timeout(60):
            while sum(payload["count"] for payload in self.payloads) < number:
                await asyncio.sleep(0.01)
        return [event for payload in self.payloads for event in payload["ids"]]

    async def kill(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def test_one_small_event_a_poll_and_each_polar_event_once(polar_server: LocalPolar) -> None:
    paid(polar_server, 3)
    running = Running(trigger().run())
    await polls(polar_server)
    assert running.payloads == []
    due = paid(polar_server, 40)
    assert sorted(await running.ids(40)) == sorted(due)
    await polls(polar_server, 3)
    (payload,) = running.payloads
    assert payload.keys() == {"count", "names", "ids", "window"}
    assert not running.task.done()
    await running.kill()


async def test_start_delivers_what_has_happened_since(polar_server: LocalPolar) -> None:
    due = paid(polar_server, 150)
    running = Running(trigger(start=(datetime.now(UTC) - timedelta(hours=1)).isoformat()).run())
    await running.ids(150)
    (payload,) = running.payloads
    assert (payload["count"], len(payload["ids"])) == (150, 100)
    assert set(payload["ids"]) < set(due)
    await running.kill()


@pytest.mark.parametrize(
    "fault", [{"kind": "status"}, {"kind": "reset"}, {"kind": "status", "status": 401}, {"kind": "missing_scope"}]
)
async def test_faults_and_mistakes_are_waited_out(
    polar_server: LocalPolar, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cadence, "_FIRST", 0.1)
    said: list[str] = []
    monkeypatch.setattr(_watch_polls.log, "warning", lambda *args: said.append("warning"))
    monkeypatch.setattr(_watch_polls.log, "error", lambda *args: said.append("error"))
    running = Running(trigger().run())
    await polls(polar_server)
    polar_server.fail(**fault)
    await polls(polar_server)  # whichever was under way has ended
    there = lists(polar_server)
    due = paid(polar_server, 2)
    await asyncio.sleep(1)
    # 0.1, 0.2 and 0.4 seconds apart, and not 50 times a second.
    assert lists(polar_server) - there <= 6
    assert not running.task.done()
    assert running.payloads == []
    polar_server.clear_faults()
    assert sorted(await running.ids(2)) == sorted(due)
    assert set(said) == {"error" if fault.get("status") == 401 or "scope" in fault["kind"] else "warning"}
    await running.kill()


async def test_a_token_that_is_mended_is_taken_up(polar_server: LocalPolar, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    connection = json.loads(os.environ["AIRFLOW_CONN_POLAR_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(connection | {"password": "polar_oat_wrong"}))
    running = Running(trigger().run())
    await polls(polar_server)
    monkeypatch.setenv("AIRFLOW_CONN_POLAR_DEFAULT", json.dumps(connection))
    while all(record.status == 401 for record in polar_server.requests):
        await asyncio.sleep(0.01)
    await polls(polar_server)
    due = paid(polar_server)
    assert await running.ids(1) == due
    await running.kill()


async def test_a_backlog_of_many_pages_is_read_through_faults(polar_server: LocalPolar) -> None:
    paid(polar_server, 2_000)
    polar_server.fail("status", path="list", every=7)
    running = Running(trigger(start=(datetime.now(UTC) - timedelta(hours=1)).isoformat()).run())
    async with asyncio.timeout(30):
        while not running.payloads:
            await asyncio.sleep(0.05)
    assert running.payloads[0]["count"] == 2_000
    await running.kill()


class Triggerer:
    """Runs watchers as Airflow's triggerer does, through its own shared streams.

    :ivar stores: False where its supervisor is stalled and stores no asset event.
    """

    def __init__(self) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        self.manager = SharedStreamManager()
        self.stores = True
        self.handed_on: list[int] = []
        self._running: list[tuple[Running, int, Any]] = []

    def run(self, watching: PolarEventWatchTrigger, *assets: str) -> Running:
        from airflow.sdk import Asset
        from airflow.sdk.execution_time.context import AssetStateStoreAccessors

        if assets:
            watching.asset_state_store = AssetStateStoreAccessors(inlets=[Asset(name) for name in assets])
        return self.run_as_it_is(watching)

    def run_as_it_is(self, watching: PolarEventWatchTrigger) -> Running:
        number, key = len(self._running), watching.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=watching, key=key)

        def hand_on() -> None:
            sequence = self.manager.bind_pending_event(trigger_id=number, key=key)
            assert sequence is not None, "an event that no cursor waits for"
            self.handed_on.append(sequence)
            if self.stores:
                asyncio.get_running_loop().call_later(0.01, self.manager.confirm_persisted, [sequence])

        running = Running(watching.filter_shared_stream(stream), hand_on)
        self._running.append((running, number, key))
        return running

    async def kill(self) -> None:
        for running, number, key in self._running:
            if not running.task.done():
                await running.kill()
            await self.manager.unsubscribe(number, key)
        await self.manager.stop_all()
        self._running = []


@pytest.fixture
async def triggerer() -> AsyncIterator[Triggerer]:
    running = Triggerer()
    yield running
    await running.kill()


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Airflow's asset state stores hold, by asset and key; the accessors are Airflow's own."""
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor

    held: dict[str, Any] = {}

    async def aget(self: Any, key: str, default: Any = None) -> Any:
        return held.get(f"{self._name}/{key}", default)

    async def aset(self: Any, key: str, value: Any) -> None:
        held[f"{self._name}/{key}"] = json.loads(json.dumps(value))

    monkeypatch.setattr(AssetStateStoreAccessor, "aget", aget, raising=False)
    monkeypatch.setattr(AssetStateStoreAccessor, "aset", aset, raising=False)
    return held


def cursors(stored: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in stored.values() if isinstance(value, dict)]


async def until_stored(stored: dict[str, Any], known: int) -> None:
    """Until stored cursors know so many events."""
    from airflow_provider_polar.engine.waiting.cursor import WatchCursor

    async with asyncio.timeout(60):
        while sum(len(WatchCursor.from_dict(value).known) for value in cursors(stored)) < known:
            await asyncio.sleep(0.01)


@store_exists
@pytest.mark.parametrize("assets", [("orders",), ("orders", "invoices")])
async def test_a_restart_goes_on_where_it_was(polar_server: LocalPolar, stored: Any, assets: tuple[str, ...]) -> None:
    first = Triggerer()
    running = first.run(trigger(), *assets)
    await polls(polar_server)
    before = paid(polar_server, 3)
    await running.ids(3)
    await until_stored(stored, 3 * len(assets))
    await first.kill()
    down = paid(polar_server, 4)
    assert len(cursors(stored)) == len(assets)
    second = Triggerer()
    assert sorted(await second.run(trigger(), *assets).ids(4)) == sorted(down)
    assert not set(before) & set(down)
    await second.kill()


@store_exists
async def test_a_watcher_that_two_assets_share_moves_no_cursor_for_one_that_has_got_another(
    polar_server: LocalPolar, stored: Any
) -> None:
    """Airflow lets it run on for the other asset, and it does not learn whom its events still reach."""
    first = Triggerer()
    running = first.run(trigger(), "orders", "invoices")
    await polls(polar_server)
    due = paid(polar_server, 3)
    assert sorted(await running.ids(3)) == sorted(due)
    await until_stored(stored, 6)
    await first.kill()
    second = Triggerer()
    assert sorted(await second.run(trigger(poll_interval=0.03), "invoices").ids(3)) == sorted(due)
    await until_stored(stored, 6)
    await second.kill()
    third = Triggerer()
    more = paid(polar_server)
    assert await third.run(trigger(poll_interval=0.03), "invoices").ids(1) == more
    await third.kill()


@store_exists
async def test_killed_before_airflow_has_stored_the_event_it_is_delivered_again(
    polar_server: LocalPolar, stored: Any
) -> None:
    first = Triggerer()
    running = first.run(trigger(), "orders")
    await polls(polar_server)
    first.stores = False
    due = paid(polar_server)
    assert await running.ids(1) == due
    await polls(polar_server, 5)
    more = paid(polar_server)
    assert await running.ids(2) == due + more
    await polls(polar_server, 5)
    await first.kill()
    second = Triggerer()
    assert sorted(await second.run(trigger(), "orders").ids(2)) == sorted(due + more)
    await second.kill()


@store_exists
async def test_one_watcher_whose_events_are_not_stored_holds_up_nobody_for_good(
    polar_server: LocalPolar, stored: Any, triggerer: Triggerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    triggerer.manager._ack_timeout = 0.3
    one, other = triggerer.run(trigger(), "orders"), triggerer.run(trigger(event_name="order.made"), "orders")
    await polls(polar_server)
    triggerer.stores = False
    due = paid(polar_server)
    assert await one.ids(1) == due
    with pytest.raises(Exception, match="did not finish processing"):
        await one.task
    triggerer.stores = True
    # As Airflow starts a watcher that failed.
    assert await triggerer.run(trigger(), "orders").ids(1) == due
    made = paid(polar_server, name="order.made")
    assert await other.ids(1) == made
    await until_stored(stored, 2)


@store_exists
async def test_two_watchers_of_one_asset_keep_their_own_cursors(
    polar_server: LocalPolar, stored: Any, triggerer: Triggerer
) -> None:
    for name in ("order.paid", "order.made"):
        triggerer.run(trigger(event_name=name), "orders")
    while len(cursors(stored)) < 2:
        await asyncio.sleep(0.01)


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"event_name": ["order.paid", "order.made"]}),
    ({"event_name": ["order.made", "order.paid"]}, {"event_name": ["order.paid", "order.made"]}),
    ({"event_name": ["order.made", "order.paid"]}, {}),
    ({}, {"filters": {"external_customer_id": "c"}}),
    ({"filters": {"external_customer_id": "c"}}, {}),
    ({}, {"poll_interval": 0.03}),
    ({}, {"overlap": 1800}),
    ({}, {"min_interval": 0.1}),
]


@store_exists
@pytest.mark.parametrize(("before", "after"), CHANGES)
async def test_a_change_of_arguments_loses_nothing_that_came_meanwhile(
    polar_server: LocalPolar, stored: Any, before: dict[str, Any], after: dict[str, Any]
) -> None:
    first = Triggerer()
    running = first.run(trigger(**before), "orders")
    await polls(polar_server)
    told = paid(polar_server, 5)
    await running.ids(5)
    await until_stored(stored, 5)
    await first.kill()
    meanwhile = paid(polar_server, 4)
    second = Triggerer()
    running = second.run(trigger(**after), "orders")
    assert sorted(await running.ids(4)) == sorted(meanwhile)
    new = paid(polar_server, 2)
    assert set(await running.ids(6)) == {*meanwhile, *new}
    assert not set(told) & {event for payload in running.payloads for event in payload["ids"]}
    await second.kill()


@store_exists
async def test_what_airflow_drops_as_it_takes_a_watcher_away_is_delivered_by_the_next(
    polar_server: LocalPolar, stored: Any, triggerer: Triggerer
) -> None:
    """A watcher with other arguments is another one to Airflow: it forgets the old one, then drops an event of it, and
    confirms that event in the same message by which it starts the new watcher and ends the old one."""
    running = triggerer.run(trigger(), "orders")
    await polls(polar_server)
    await running_delivers(running, paid(polar_server, 3))
    await until_stored(stored, 3)
    triggerer.stores = False
    triggerer.handed_on.clear()
    due = paid(polar_server, 2)
    await running.ids(5)
    triggerer.manager.confirm_persisted(triggerer.handed_on)
    for _ in range(20):
        await asyncio.sleep(0)
    await running.kill()
    triggerer.stores = True
    await running_delivers(triggerer.run(trigger(event_name=["order.paid", "order.made"]), "orders"), due)


@store_exists
async def test_a_start_that_is_given_later_has_its_effect(polar_server: LocalPolar, stored: Any) -> None:
    older = paid(polar_server, 3)
    first = Triggerer()
    running = first.run(trigger(), "orders")
    await polls(polar_server)
    await running_delivers(running, paid(polar_server, 2))
    await until_stored(stored, 5)
    await first.kill()
    start = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    second = Triggerer()
    running = second.run(trigger(start=start), "orders")
    await running_delivers(running, older)
    async with asyncio.timeout(60):
        while cursors(stored)[0]["origin"] != start.replace("+00:00", "Z"):
            await asyncio.sleep(0.01)
    await second.kill()
    third = Triggerer()
    running = third.run(trigger(start=start), "orders")
    await running_delivers(running, paid(polar_server, 1))
    await third.kill()


async def running_delivers(running: Running, due: list[str]) -> None:
    assert sorted(await running.ids(len(due))) == sorted(due)


@store_exists
async def test_what_happens_before_the_first_poll_that_succeeds_is_delivered(
    polar_server: LocalPolar, stored: Any
) -> None:
    before = paid(polar_server, 3)
    polar_server.fail("status")
    first = Triggerer()
    first.run(trigger(), "orders")
    await polls(polar_server, 1)
    await first.kill()
    meanwhile = paid(polar_server, 2)
    second = Triggerer()
    running = second.run(trigger(), "orders")
    await polls(polar_server, 1)
    meanwhile += paid(polar_server, 2)
    polar_server.clear_faults()
    await running_delivers(running, meanwhile)
    assert not set(before) & set(meanwhile)
    await second.kill()


@store_exists
async def test_a_store_that_is_away_is_waited_for(
    polar_server: LocalPolar, stored: Any, monkeypatch: pytest.MonkeyPatch, triggerer: Triggerer
) -> None:
    first = Triggerer()
    first.run(trigger(), "orders")
    await polls(polar_server)
    await first.kill()
    due = paid(polar_server)

    class Away:
        def __init__(self, store: Any) -> None:
            self.store, self.asked = store, 0

        async def aget(self, *args: Any) -> Any:
            self.asked += 1
            if self.asked < 3:
                raise RuntimeError("no answer")
            return await self.store.aget(*args)

        async def aset(self, *args: Any) -> None:
            raise RuntimeError("no answer")

    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    watching = trigger()
    watching.asset_state_store = Away(AssetStateStoreAccessors(inlets=[Asset("orders")]))  # type: ignore[assignment]
    monkeypatch.setattr(Checkpoint, "pause", 0.01)
    assert await triggerer.run_as_it_is(watching).ids(1) == due
    await polls(polar_server)


@store_exists
async def test_a_store_that_hangs_does_not_hold_up_the_end(
    polar_server: LocalPolar, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.context import AssetStateStoreAccessor

    running = Triggerer()
    watcher = running.run(trigger(), "orders")
    await polls(polar_server)
    from airflow_provider_polar.triggers._watch_stream import WatchStream

    monkeypatch.setattr(WatchStream, "patience", 0.1)
    monkeypatch.setattr(AssetStateStoreAccessor, "aset", lambda *args: asyncio.Event().wait())
    paid(polar_server)
    await watcher.ids(1)
    async with asyncio.timeout(60):
        await running.kill()


@store_exists
async def test_watchers_share_one_poll_and_late_joiners_miss_nothing(
    polar_server: LocalPolar, triggerer: Triggerer
) -> None:
    def join(name: str) -> Running:
        return triggerer.run(trigger(event_name=name, poll_interval=0.1))

    names = [f"event.{number}" for number in range(20)]
    running = {name: join(name) for name in names[:10]}
    await polls(polar_server, 2)
    due = {name: paid(polar_server, 2, name) for name in names[:10]}
    running |= {name: join(name) for name in names[10:]}
    for name in names[:10]:
        assert sorted(await running[name].ids(2)) == sorted(due[name])
    await polls(polar_server, 2)
    there = lists(polar_server)
    due = {name: paid(polar_server, 2, name) for name in names}
    for name in names:
        assert set(await running[name].ids(4 if name in names[:10] else 2)) >= set(due[name])
    await asyncio.sleep(0.5)
    assert lists(polar_server) - there < 15
    assert all(
        sum(p["count"] for p in r.payloads) == len({i for p in r.payloads for i in p["ids"]}) for r in running.values()
    )


@store_exists
async def test_the_shared_poll_waits_faults_out(polar_server: LocalPolar, triggerer: Triggerer) -> None:
    running = triggerer.run(trigger())
    await polls(polar_server, 3)
    polar_server.fail("status", path="list", times=3)
    due = paid(polar_server, 5)
    assert sorted(await running.ids(5)) == sorted(due)


@store_exists
async def test_a_burst_is_gathered_into_one_event_and_is_not_lost_by_a_kill(
    polar_server: LocalPolar, stored: Any
) -> None:
    first = Triggerer()
    running = first.run(trigger(min_interval=600), "orders")
    await polls(polar_server)
    due = paid(polar_server, 2)
    await polls(polar_server)
    due += paid(polar_server, 2)
    await polls(polar_server)
    assert running.payloads == []
    await first.kill()
    second = Triggerer()
    running = second.run(trigger(min_interval=0.3), "orders")
    await polls(polar_server)
    due += paid(polar_server, 2)
    assert sorted(await running.ids(6)) == sorted(due)
    assert len(running.payloads) == 1
    await second.kill()


def test_the_identity_is_the_same_however_it_is_written() -> None:
    several = PolarEventWatchTrigger(event_name=["b", "a", "b"]).serialize()
    assert several == PolarEventWatchTrigger(event_name=["a", "b"]).serialize()
    one = PolarEventWatchTrigger(event_name="a", poll_interval=60, overlap=timedelta(minutes=15)).serialize()
    assert one == PolarEventWatchTrigger(event_name=["a"], poll_interval=timedelta(minutes=1), filters={}).serialize()
    assert one == PolarEventWatchTrigger(**one[1]).serialize()
    json.dumps(one)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"event_name": []}, "event_name is empty"),
        ({"filters": {"nmae": "x"}}, "filter nmae: unknown"),
        ({"filters": {"name": "b"}}, "name them in event_name only"),
        ({"start": "yesterday"}, "not an ISO 8601 moment"),
        ({"min_interval": -1}, "min_interval is -1.0 seconds; it cannot be negative"),
        ({"poll_interval": float("nan")}, "poll_interval is nan seconds"),
    ],
)
def test_a_wrong_watcher_is_refused_when_the_dag_is_parsed(wrong: Any, words: str) -> None:
    from airflow.sdk import DAG, Asset, AssetWatcher

    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # Airflow before 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

    watcher = AssetWatcher(name="w", trigger=PolarEventWatchTrigger(**{"event_name": "a"} | wrong))
    dag = DAG("refused", schedule=[Asset("refused", watchers=[watcher])])
    # Airflow's own SerializationError with our words, shown as the file's import error.
    with pytest.raises(Exception, match=words):
        DagSerialization.to_dict(dag)


def test_importing_the_face_costs_nothing() -> None:
    code = (
        "import sys, airflow_provider_polar.sensors.event, airflow_provider_polar.triggers.watch, "
        "airflow_provider_polar.triggers.event; "
        "print([m for m in sys.modules if m.startswith(('airflow_provider_polar.api', 'airflow_provider_polar.engine', "
        "'pyarrow'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_the_example_exports_each_window_that_the_watcher_names(example: Any) -> None:
    from airflow_provider_polar.windows import resolve_window

    moments = [datetime(2026, 11, 1, 12, second, tzinfo=UTC) for second in (0, 30)]
    named = [{"start": f"{moment:%FT%T}Z", "end": f"{moment:%FT%T}.000001Z"} for moment in moments]
    # As Airflow hands on what a watcher yields.
    events = [SimpleNamespace(extra={"from_trigger": True, "payload": {"window": window}}) for window in named]
    dag = example("run_on_order_paid")
    assert dag.task_ids == ["windows", "export_orders"]
    found = dag.get_task("windows").python_callable(triggering_asset_events={"paid_orders": [*events, events[0]]})
    assert found == named
    # A task that is not mapped exports one window, which holds them all.
    whole = resolve_window({"dag": dag, "triggering_asset_events": {"paid_orders": events}})
    assert whole.to_dict() == {"start": named[0]["start"], "end": named[1]["end"]}

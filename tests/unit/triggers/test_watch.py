"""The watcher's trigger: it never ends, never spins, never yields an error, and stores its cursor last."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_polar.engine.waiting import cadence
from airflow_provider_polar.testing import LocalPolar
from airflow_provider_polar.triggers._checkpoint import Checkpoint
from airflow_provider_polar.triggers.watch import PolarEventWatchTrigger

store_exists = pytest.mark.skipif(
    not hasattr(BaseEventTrigger, "shared_stream_key"),
    reason="asset state stores and shared streams are of Airflow 3.3",
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, polar_server: LocalPolar) -> None:
    monkeypatch.setattr(PolarEventWatchTrigger, "shortest_poll_interval", 0.02)
    monkeypatch.setattr(Checkpoint, "turns", 0)
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

    def __init__(self, events: AsyncIterator[Any]) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._take(events))

    async def _take(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            self.payloads.append(event.payload)

    async def ids(self, number: int) -> list[str]:
        """So many delivered ids."""
        async with asyncio.timeout(10):
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
    watching = trigger()
    said: list[str] = []
    monkeypatch.setattr(watching.log, "warning", lambda *args: said.append("warning"))
    monkeypatch.setattr(watching.log, "error", lambda *args: said.append("error"))
    running = Running(watching.run())
    await polls(polar_server)
    polar_server.fail(**fault)
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


def with_store(watching: PolarEventWatchTrigger, *assets: str) -> PolarEventWatchTrigger:
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    watching.asset_state_store = AssetStateStoreAccessors(inlets=[Asset(name) for name in assets])
    return watching


@store_exists
@pytest.mark.parametrize("assets", [("orders",), ("orders", "invoices")])
async def test_a_restart_goes_on_where_it_was(polar_server: LocalPolar, stored: Any, assets: tuple[str, ...]) -> None:
    first = Running(with_store(trigger(), *assets).run())
    await polls(polar_server)
    before = paid(polar_server, 3)
    await first.ids(3)
    await polls(polar_server)
    await first.kill()
    down = paid(polar_server, 4)
    assert len(stored) == len(assets)
    second = Running(with_store(trigger(), *assets).run())
    assert sorted(await second.ids(4)) == sorted(down)
    assert not set(before) & set(down)
    await second.kill()


@store_exists
async def test_killed_before_airflow_has_the_event_it_is_delivered_again(
    polar_server: LocalPolar, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "turns", 5)
    first = Running(with_store(trigger(), "orders").run())
    await polls(polar_server, 1)
    while not stored:
        await asyncio.sleep(0.01)
    due = paid(polar_server)
    assert await first.ids(1) == due
    await asyncio.sleep(0.2)
    await first.kill()
    second = Running(with_store(trigger(), "orders").run())
    assert await second.ids(1) == due
    await second.kill()


@store_exists
async def test_two_watchers_of_one_asset_keep_their_own_cursors(polar_server: LocalPolar, stored: Any) -> None:
    running = [Running(with_store(trigger(event_name=name), "orders").run()) for name in ("order.paid", "order.made")]
    while len(stored) < 2:
        await asyncio.sleep(0.01)
    for watcher in running:
        await watcher.kill()


@store_exists
async def test_a_store_that_is_away_is_waited_for(
    polar_server: LocalPolar, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Running(with_store(trigger(), "orders").run())
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

    watching = with_store(trigger(), "orders")
    watching.asset_state_store = Away(watching.asset_state_store)  # type: ignore[assignment]
    monkeypatch.setattr(Checkpoint, "pause", 0.01)
    second = Running(watching.run())
    assert await second.ids(1) == due
    await polls(polar_server)
    await second.kill()


@store_exists
async def test_watchers_share_one_poll_and_late_joiners_miss_nothing(polar_server: LocalPolar) -> None:
    from airflow.triggers.shared_stream import SharedStreamManager

    manager = SharedStreamManager()

    def join(number: int, name: str) -> Running:
        watching = trigger(event_name=name, poll_interval=0.1)
        stream = manager.subscribe(trigger_id=number, trigger=watching, key=watching.shared_stream_key())
        return Running(watching.filter_shared_stream(stream))

    names = [f"event.{number}" for number in range(20)]
    running = {name: join(number, name) for number, name in enumerate(names[:10])}
    await polls(polar_server, 12)
    due = {name: paid(polar_server, 2, name) for name in names[:10]}
    running |= {name: join(number, name) for number, name in enumerate(names) if number >= 10}
    for name in names[:10]:
        assert sorted(await running[name].ids(2)) == sorted(due[name])
    await asyncio.sleep(0.3)
    there = lists(polar_server)
    due = {name: paid(polar_server, 2, name) for name in names}
    for name in names:
        assert set(await running[name].ids(4 if name in names[:10] else 2)) >= set(due[name])
    await asyncio.sleep(0.5)
    assert lists(polar_server) - there < 15
    assert all(
        sum(p["count"] for p in r.payloads) == len({i for p in r.payloads for i in p["ids"]}) for r in running.values()
    )
    for number, name in enumerate(names):
        await running[name].kill()
        await manager.unsubscribe(number, trigger(event_name=name, poll_interval=0.1).shared_stream_key())


@store_exists
async def test_the_shared_poll_waits_faults_out(polar_server: LocalPolar) -> None:
    from airflow.triggers.shared_stream import SharedStreamManager

    manager, watching = SharedStreamManager(), trigger()
    stream = manager.subscribe(trigger_id=1, trigger=watching, key=watching.shared_stream_key())
    running = Running(watching.filter_shared_stream(stream))
    await polls(polar_server, 3)
    polar_server.fail("status", path="list", times=3)
    due = paid(polar_server, 5)
    assert sorted(await running.ids(5)) == sorted(due)
    await running.kill()
    await manager.unsubscribe(1, watching.shared_stream_key())


def test_the_identity_is_the_same_however_it_is_written() -> None:
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

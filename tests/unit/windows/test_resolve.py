"""What is read from a task's context and its DAG, and the watermark that is kept between runs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import DAG, Asset, AssetAny

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows import advance_watermark, resolve_window
from airflow_provider_polar.windows.schedules import Schedule

JAN = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 10)]
DAY = timedelta(days=1)
ORDERS, USAGE = Asset("orders"), Asset("usage")


class RunType(Enum):
    MANUAL = "manual"
    SCHEDULED = "scheduled"


def dag(schedule: Any = None, **options: Any) -> DAG:
    return DAG("billing", schedule=schedule, **{"start_date": JAN[0]} | options)


class Store(dict[str, Any]):
    """An asset's state store."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def context(run: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A task's context; a run of no kind unless said otherwise."""
    made = {"run_type": RunType.MANUAL, "run_id": "run 1", "dag_id": "billing"} | (run or {})
    task = SimpleNamespace(outlets=[ORDERS], inlets=[USAGE])
    ti = SimpleNamespace(dag_id="billing", task_id="export", map_index=-1)
    given = {"dag_run": SimpleNamespace(**made), "run_id": made["run_id"], "dag": dag(), "task": task, "ti": ti}
    return given | more


def stored(store: Store, run_id: str = "run 1", until: datetime = JAN[4], **more: Any) -> dict[str, Any]:
    """The context of a run of its own time, with the store of the task's outlet."""
    run = {"run_id": run_id, "run_after": until, "run_type": RunType.MANUAL} | more.pop("run", {})
    return context(run, **{"asset_state_store": {ORDERS: store}} | more)


class TestTheRun:
    @pytest.mark.parametrize("where", ["context", "dag_run"])
    @pytest.mark.parametrize(
        ("said", "window"),
        [
            ({"data_interval_start": JAN[0], "data_interval_end": JAN[2]}, EventWindow(JAN[0], JAN[2])),
            ({"data_interval_start": JAN[2], "data_interval_end": JAN[2]}, EventWindow(JAN[1], JAN[2])),
            ({"logical_date": JAN[4]}, EventWindow(JAN[3], JAN[4])),
            ({"partition_key": "2026-01-03"}, EventWindow(JAN[2], JAN[3])),
            ({"partition_key": "x", "partition_date": JAN[4]}, EventWindow(JAN[4], JAN[5])),
        ],
    )
    def test_says_the_same_in_the_context_and_in_the_dag_run(
        self, where: str, said: dict[str, Any], window: EventWindow
    ) -> None:
        made = context(said) if where == "dag_run" else context(**said)
        assert resolve_window(made, window="1 day") == window

    def test_the_windows_zone_is_the_one_that_is_given_else_the_dags(self) -> None:
        made = context(
            dag=dag(start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))), partition_key="2026-01-03"
        )
        assert resolve_window(made).start == JAN[2] - timedelta(hours=9)
        assert resolve_window(made, timezone="Europe/Berlin").start == JAN[2] - timedelta(hours=1)

    def test_a_length_in_a_zone_of_its_own_follows_the_clocks_there(self) -> None:
        end = datetime(2026, 3, 29, 22, tzinfo=UTC)
        made = context(data_interval_start=end, data_interval_end=end)
        assert resolve_window(made, window="1 day Europe/Berlin").start == end - timedelta(hours=23)
        assert resolve_window(made, window="1 day").start == end - DAY
        starts = resolve_window(made, start=end - timedelta(hours=23), window="1 day Europe/Berlin")
        assert starts.end == end

    def test_a_tasks_dag_is_the_runs(self) -> None:
        made = context(partition_key="2026-01-03")
        made["task"].dag = made.pop("dag")
        with pytest.raises(PolarWindowError, match="DAG 'billing' with the schedule none"):
            resolve_window(made | {"partition_key": None})

    def test_a_run_without_its_dag_is_named_all_the_same(self) -> None:
        made = context({"run_id": "the run"})
        del made["dag"], made["run_id"]
        with pytest.raises(PolarWindowError, match=r"DAG 'billing' .* its run 'the run'"):
            resolve_window(made)

    def test_the_window_is_logged_with_its_length_and_origin(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        resolve_window(context(data_interval_start=JAN[0], data_interval_end=JAN[1]), window="1 hour")
        told = [(record.levelname, record.getMessage()) for record in caplog.records]
        assert told[0][0] == "INFO"
        assert all(text in told[0][1] for text in (str(EventWindow(JAN[0], JAN[1])), "1 day, 0:00:00", "data interval"))
        assert any(level == "WARNING" and "not used" in text for level, text in told[1:])

    def test_every_note_on_a_window_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        berlin = dag("0 0 * * *", start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")))
        end = datetime(2026, 3, 29, 22, tzinfo=UTC)
        run = {"run_type": RunType.SCHEDULED, "run_id": "run 1", "dag_id": "billing"}
        made = context(run, dag=berlin, data_interval_start=end - DAY, data_interval_end=end)
        assert resolve_window(made, window="1 hour") == EventWindow(end - DAY, end)
        clocks, length = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
        assert "1:00:00" in clocks or "2026-03-28T23:00:00Z" in clocks
        assert "window=1:00:00 is not used" in length


class TestParameters:
    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"start": "soon", "end": JAN[1]}, "start is 'soon'"),
            ({"start": JAN[1], "end": "soon"}, "end is 'soon'"),
            ({"start": "soon", "window": "1 day"}, "start is 'soon'"),
            ({"end": "soon", "window": "1 day"}, "end is 'soon'"),
            ({"start": JAN[1]}, "start is given without end: give both, or start and window="),
            ({"end": JAN[1]}, "end is given without start: give both, or end and window="),
            ({"start": JAN[1], "end": JAN[3], "window": "1 day"}, "window=1 day says another length"),
        ],
    )
    def test_what_is_refused_is_named(self, given: dict[str, Any], says: str) -> None:
        with pytest.raises(PolarWindowError) as refused:
            resolve_window(context(), **given)
        assert says in str(refused.value)

    @pytest.mark.parametrize("given", [{"start": JAN[1]}, {"end": JAN[2]}, {"start": JAN[1], "end": JAN[2]}])
    @pytest.mark.parametrize("length", ["1 day", DAY])
    def test_one_bound_and_a_length_are_as_good_as_two(self, given: dict[str, Any], length: Any) -> None:
        assert resolve_window(context(), **given, window=length) == EventWindow(JAN[1], JAN[2])


class TestAssetEvents:
    @pytest.mark.parametrize(
        ("asset", "name"),
        [
            (SimpleNamespace(uri="polar://orders", name="orders"), "polar://orders"),
            (SimpleNamespace(uri="", name="orders"), "orders"),
        ],
    )
    def test_the_asset_is_named_where_its_window_is_not_valid(self, asset: Any, name: str) -> None:
        class Hashed(SimpleNamespace):
            __hash__ = object.__hash__

        event = SimpleNamespace(extra={"window": {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}})
        with pytest.raises(PolarWindowError, match=f"asset '{name}'"):
            resolve_window(context(triggering_asset_events={Hashed(**vars(asset)): [SimpleNamespace(), event]}))

    def test_all_events_of_all_assets_are_read_together(self) -> None:
        events = [SimpleNamespace(extra={"window": EventWindow(*days).to_dict()}) for days in pairwise(JAN)]
        made = context(triggering_asset_events={"a": events[:2], "b": events[2:4]})
        assert resolve_window(made) == EventWindow(JAN[0], JAN[4])


class TestTheWatermark:
    def test_runs_go_on_where_the_one_before_ended(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        store = Store()
        first = resolve_window(stored(store), window="1 day", settle=timedelta(hours=1))
        assert first == EventWindow(JAN[3] - timedelta(hours=1), JAN[4] - timedelta(hours=1))
        advance_watermark(stored(store), first)
        assert "2026-01-04T23:00:00Z" in caplog.messages[-1]
        assert resolve_window(stored(store)) == first, "the same run, cleared or retried"
        second = resolve_window(stored(store, "run 2", JAN[6]))
        assert second == EventWindow(first.end, JAN[6])
        advance_watermark(stored(store, "run 2", JAN[6]), second)
        assert resolve_window(stored(store, "run 3", JAN[7])) == EventWindow(JAN[6], JAN[7])

    def test_the_first_run_without_a_length_begins_with_the_dag(self) -> None:
        assert resolve_window(stored(Store())) == EventWindow(JAN[0], JAN[4])

    def test_a_window_that_does_not_go_on_from_it_leaves_it(self) -> None:
        store = Store()
        advance_watermark(stored(store), EventWindow(JAN[0], JAN[1]))
        kept = dict(store)
        for apart in (EventWindow(JAN[0], JAN[1]), EventWindow(JAN[2], JAN[3])):
            advance_watermark(stored(store, "run 2"), apart)
        assert store == kept

    @pytest.mark.parametrize(
        "own",
        [
            {"data_interval_start": JAN[0], "data_interval_end": JAN[1]},
            {"partition_key": "2026-01-01"},
            {"partition_date": JAN[0]},
            {"run_type": RunType.SCHEDULED},
            {"run_type": "backfill"},
        ],
    )
    def test_a_run_with_a_window_of_its_own_leaves_it(self, own: dict[str, Any]) -> None:
        store = Store()
        advance_watermark(stored(store, run=own), EventWindow(JAN[0], JAN[1]))
        assert not store

    def test_an_empty_data_interval_is_no_window_of_its_own(self) -> None:
        store = Store()
        moment = {"data_interval_start": JAN[1], "data_interval_end": JAN[1]}
        advance_watermark(stored(store, run=moment), EventWindow(JAN[0], JAN[1]))
        assert store

    def test_it_is_the_first_outlets_that_has_a_store_else_an_inlets(self) -> None:
        orders, usage = Store(), Store()
        window = EventWindow(JAN[0], JAN[1])
        advance_watermark(stored(orders, asset_state_store={ORDERS: orders, USAGE: usage}), window)
        assert (len(orders), len(usage)) == (1, 0)
        advance_watermark(stored(orders, asset_state_store={USAGE: usage}), window)
        assert len(usage) == 1
        advance_watermark(stored(orders, asset_state_store={}), window)
        advance_watermark(context(), window)
        assert (len(orders), len(usage)) == (1, 1)

    def test_each_task_and_each_mapped_one_has_its_own(self) -> None:
        store = Store()
        for task_id, map_index in (("a", -1), ("b", -1), ("a", 0), ("a", 1), ("c", None)):
            ti = SimpleNamespace(dag_id="billing", task_id=task_id, map_index=map_index)
            advance_watermark(stored(store, ti=ti), EventWindow(JAN[0], JAN[1]))
        assert len(store) == 5

    @pytest.mark.parametrize(
        "damaged",
        [{**EventWindow(JAN[0], JAN[1]).to_dict()}, {"start": "soon", "end": "later", "run_id": "x"}, "text"],
    )
    def test_a_damaged_one_is_refused_by_name(self, damaged: Any) -> None:
        store = Store()
        advance_watermark(stored(store), EventWindow(JAN[0], JAN[1]))
        (key,) = store
        store[key] = damaged
        with pytest.raises(PolarWindowError, match=key):
            resolve_window(stored(store, "run 2"))


class TestSchedules:
    @pytest.mark.parametrize(
        ("schedule", "shown"),
        [
            ("0 2 * * *", "0 2 * * * (CronTriggerTimetable)"),
            ("@daily", "0 0 * * * (CronTriggerTimetable)"),
            (timedelta(hours=6), "6:00:00 (DeltaTriggerTimetable)"),
            (None, "none (NullTimetable)"),
        ],
    )
    def test_of_a_dag(self, schedule: Any, shown: str) -> None:
        made = Schedule.of(dag(schedule))
        assert (str(made), str(made.timezone)) == (shown, "UTC")

    def test_of_assets(self) -> None:
        made = Schedule.of(dag(AssetAny(ORDERS, USAGE)))
        assert made.kind == "AssetTriggeredTimetable"
        assert made.summary.startswith("assets")

    def test_without_a_dag(self) -> None:
        assert str(Schedule.of(None)) == "none (no schedule)"

    def test_of_several_crons_and_of_assets_or_a_time(self) -> None:
        try:
            from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, MultipleCronTriggerTimetable
        except ImportError:  # Airflow before 3.2
            from airflow.timetables.assets import AssetOrTimeSchedule
            from airflow.timetables.trigger import CronTriggerTimetable, MultipleCronTriggerTimetable
        several = Schedule.of(dag(MultipleCronTriggerTimetable("0 1 * * *", "0 2 * * *", timezone="Europe/Berlin")))
        assert several.summary == "0 1 * * *, 0 2 * * *"
        either = AssetOrTimeSchedule(
            timetable=CronTriggerTimetable("0 3 * * *", timezone="Asia/Tokyo"), assets=[ORDERS]
        )
        timed = Schedule.of(dag(either))
        assert timed.summary == "0 3 * * *"
        assert [str(made.timezone) for made in (several, timed)] == ["Europe/Berlin", "Asia/Tokyo"]
        assert str(Schedule.of(dag(either), "UTC").timezone) == "UTC"

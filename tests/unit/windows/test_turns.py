"""Work that is spread over consecutive runs: each run has its number, and each window its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.windows.schedules import Schedule
from airflow_provider_polar.windows.ticks import Ticks
from airflow_provider_polar.windows.turns import is_due, turn_of

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOURS = [EventWindow(START + n * DAY / 24, START + (n + 1) * DAY / 24) for n in range(24 * 60)]


def context(dag: DAG, moment: datetime) -> dict[str, Any]:
    return {"dag": dag, "dag_run": SimpleNamespace(run_type="scheduled", run_after=moment)}


def ticks(dag: DAG, number: int) -> Iterator[datetime]:
    tick: datetime | None = START
    for _ in range(number):
        assert tick is not None
        tick = Schedule.of(dag).ticks.next(tick)
        assert tick is not None
        yield tick


@pytest.mark.parametrize(
    "schedule",
    [
        "0 3 * * *",
        "30 2 * * 1-5",
        "@weekly",
        "@monthly",
        "15 */6 * * *",
        timedelta(days=7),
        CronTriggerTimetable("30 2 * * *", timezone="Europe/Berlin"),
        CronTriggerTimetable("0 12 * * *", timezone="Pacific/Auckland"),
    ],
    ids=lambda schedule: getattr(schedule, "summary", str(schedule)),
)
def test_consecutive_runs_have_consecutive_numbers_and_every_window_its_turn(schedule: Any, monkeypatch: Any) -> None:
    # Counting from a time near by is faster.
    monkeypatch.setattr("airflow_provider_polar.windows.turns._FIRST", START - 5 * DAY)
    dag = DAG("nightly", schedule=schedule, start_date=START)
    runs = list(ticks(dag, 50))
    turns = [turn_of(context(dag, run), 0.05) for run in runs]
    assert turns == list(range(turns[0], turns[0] + len(runs)))
    by_hand = turn_of(context(dag, runs[0] + timedelta(minutes=1)), 0.05)
    assert by_hand == turns[0]
    for first in (0, 17):
        chosen = Counter(window for turn in turns[first : first + 20] for window in HOURS if is_due(window, turn, 0.05))
        assert chosen == Counter(HOURS)


@pytest.mark.parametrize("schedule", ["*/5 * * * *", "@hourly", timedelta(minutes=5)], ids=str)
def test_a_frequent_schedule_counts_thousands_of_ticks_and_no_more(schedule: Any, monkeypatch: Any) -> None:
    counted = 0

    def next_tick(ticks: Ticks, moment: datetime) -> datetime | None:
        nonlocal counted
        counted += 1
        return tick_after(ticks, moment)

    tick_after = Ticks.next
    dag = DAG("often", schedule=schedule, start_date=START)
    step = timedelta(hours=1) if schedule == "@hourly" else timedelta(minutes=5)
    edge = datetime(2025, 1, 1, tzinfo=UTC) + 40 * 5_000 * step
    # Ticks are counted anew at this moment, and the turns go on.
    turns = [turn_of(context(dag, edge + n * step), 0.05) for n in range(-2, 3)]
    assert [(one - turns[0]) % 20 for one in turns] == list(range(5))
    monkeypatch.setattr(Ticks, "next", next_tick)
    turn_of(context(dag, edge - step), 0.05)
    assert counted < 5_010


def test_without_a_schedule_each_day_has_its_number() -> None:
    dag = DAG("asset", schedule=None, start_date=START)
    turns = [turn_of(context(dag, START + n * DAY + timedelta(hours=n % 20)), 0.05) for n in range(30)]
    assert turns == list(range(turns[0], turns[0] + 30))


@pytest.mark.parametrize("share", [0.05, 0.07, 0.3, 0.5, 0.6, 1.0])
def test_a_share_is_at_least_so_many_windows_and_none_waits_longer_than_it_says(share: float) -> None:
    turns = int(1 / share)
    for turn in range(turns):
        due = sum(is_due(window, turn, share) for window in HOURS)
        assert abs(due - len(HOURS) / turns) <= 1
    for window in HOURS[:50]:
        assert sum(is_due(window, turn, share) for turn in range(100, 100 + turns)) == 1

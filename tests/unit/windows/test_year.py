"""What forty schedules export over a year, both changes of the clocks included, by the runs of Airflow's timetables.

Schedules of many ticks are followed over the first of them and the changes of the clocks; with the environment variable
``POLAR_WHOLE_YEAR`` over all days, and in more time zones.
"""

from __future__ import annotations

import datetime as datetime_module
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.timetables import trigger
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable, DeltaDataIntervalTimetable
from pendulum import instance

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows import WindowChoice, check_schedule
from airflow_provider_polar.windows.choice import choose_window
from airflow_provider_polar.windows.explain import remedies
from airflow_provider_polar.windows.facts import RunFacts
from airflow_provider_polar.windows.lengths import zone
from airflow_provider_polar.windows.schedules import Schedule

WHOLE = bool(os.environ.get("POLAR_WHOLE_YEAR"))
ZONES = ["Europe/Berlin", "America/New_York", *(["Africa/Cairo", "UTC"] if WHOLE else [])]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 2, tzinfo=UTC))

# Cron expressions, and what someone may write for window= without much thought.
CRONS = {
    "0 * * * *": "1 hour",
    "*/15 * * * *": "15 minutes",
    "5,35 * * * *": "30 minutes",
    "0,20 * * * *": "20 minutes",
    "0 */2 * * *": "2 hours",
    "0 */5 * * *": "5 hours",
    "0 */6 * * *": "6 hours",
    "0 9-17 * * *": "1 hour",
    "*/30 9-17 * * 1-5": "30 minutes",
    "*/30 1-3 * * *": "30 minutes",
    "*/10 2 * * *": "10 minutes",
    "30 1,2 * * *": "1 hour",
    "0 0,12 * * *": "12 hours",
    "0 0 * * *": "1 day",
    "0 2 * * *": "1 day",
    "30 2 * * *": "1 day",
    "0 3 * * *": timedelta(days=1),
    "0 2 * * 1-5": "1 day",
    "0 0 * * 1": "1 week",
    "30 2 * * 0": "1 week",
    "0 0 * * 1,4": "1 week",
    "0 0 */2 * *": "2 days",
    "0 0 1 * *": "1 month",
    "0 2 1 * *": timedelta(days=30),
    "0 0 1,15 * *": "2 weeks",
    "0 0 31 * *": "1 month",
    "0 0 L * *": "1 month",
    "0 0 1 */3 *": "1 month",
    "0 0 1 1 *": "1 year",
    "0 0 1 * 1": "1 week",
}
SEVERAL = {
    ("0 9 * * *", "0 17 * * 1-5"): "8 hours",
    ("30 2 * * *", "0 3 * * *"): "1 day",
    ("0 0 * * *", "0 12 * * *"): "12 hours",
}
DELTAS = {DAY: "1 day", timedelta(hours=6): "6 hours", timedelta(days=7): "1 week", timedelta(minutes=90): "90 minutes"}


@cache
def timetables(where: str) -> dict[str, tuple[Any, Any]]:
    """By name: the timetable, and a ``window=`` for those that need one."""
    found: dict[str, tuple[Any, Any]] = {
        cron: (trigger.CronTriggerTimetable(cron, timezone=where), window) for cron, window in CRONS.items()
    }
    found |= {
        " + ".join(crons): (trigger.MultipleCronTriggerTimetable(*crons, timezone=where), window)
        for crons, window in SEVERAL.items()
    }
    found |= {str(delta): (trigger.DeltaTriggerTimetable(delta), window) for delta, window in DELTAS.items()}
    found["interval=1 day"] = trigger.CronTriggerTimetable("0 0 * * *", timezone=where, interval=DAY), None
    found["intervals of 1 day"] = DeltaDataIntervalTimetable(DAY), None
    found["intervals of */10 2"] = CronDataIntervalTimetable("*/10 2 * * *", where), None
    if hasattr(trigger, "CronPartitionTimetable"):  # Airflow 3.2 and newer
        for cron in ("0 2 * * *", "0 * * * *", "*/10 2 * * *"):
            name = f"partitions of {cron}"
            found[name] = trigger.CronPartitionTimetable(cron, timezone=where, run_offset=-1), None
    return found


CASES = [(where, name) for where in ZONES for name in timetables(where)]


@cache
def changes(where: str) -> list[datetime]:
    """The hours of the year in which the clocks change."""
    hours = [YEAR[0] + n * HOUR for n in range(365 * 24)]
    offsets = pairwise(hour.astimezone(zone(where)).utcoffset() for hour in hours)
    return [hour for hour, (one, other) in zip(hours, offsets, strict=False) if one != other]


def stretches(timetable: Any, where: str) -> list[tuple[datetime, datetime]]:
    """The whole year, or of a schedule of many ticks some at its start and around each change of the clocks."""
    often = len(runs(timetable, (YEAR[0], YEAR[0] + 2 * DAY)))
    if WHOLE or often < 2:
        return [YEAR]
    margin = 12 * 2 * DAY / often
    return [(moment - margin, moment + margin) for moment in [YEAR[0], *changes(where)]]


def runs(timetable: Any, stretch: tuple[datetime, datetime]) -> list[Any]:
    """What the scheduler makes of a timetable, with ``catchup=True``."""
    restriction = TimeRestriction(instance(stretch[0]), instance(stretch[1]), True)
    found: list[Any] = [None]
    while True:
        last = found[-1]
        if hasattr(timetable, "_run_offset"):
            info = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)
        else:
            info = timetable.next_dagrun_info(
                last_automated_data_interval=last and last.data_interval, restriction=restriction
            )
        if info is None:
            return found[1:]
        found.append(info)


class Year:
    """What a timetable's runs export in a year.

    :ivar never: hours that no run exported.
    :ivar twice: hours that a run exported again after the one before it.
    :ivar notes: how many runs said so.
    :ivar told: whether each run whose window does not meet the one before it said so, with the hours, and no other.
    """

    def __init__(self, timetable: Any, where: str, window: Any = None) -> None:
        self.never = self.twice = 0.0
        self.notes = 0
        self.told = True
        self.schedule = Schedule.of(dag(timetable, where))
        for stretch in stretches(timetable, where):
            choices = (self._choose(info, window) for info in runs(timetable, stretch))
            for before, after in pairwise(choices):
                self._compare(before, after)

    def _choose(self, info: Any, window: Any) -> WindowChoice:
        start, end = info.data_interval or (None, None)
        facts = RunFacts(
            dag_id="dag",
            run_id="run",
            run_type="scheduled",
            schedule=self.schedule,
            interval=EventWindow(start, end) if start != end else None,
            moment=end,
            partition_key=getattr(info, "partition_key", None),
            partition_date=getattr(info, "partition_date", None),
            run_after=info.run_after,
        )
        return choose_window(facts, window=window, now=YEAR[1] + DAY)

    def _compare(self, before: WindowChoice, after: WindowChoice) -> None:
        apart = (after.window.start - before.window.end) / HOUR
        self.never += max(apart, 0)
        self.twice += max(-apart, 0)
        said = [note for note in after.notes if "does not begin at" in note]
        self.notes += len(said)
        hours = f"({round(abs(apart), 2):g} hour"
        self.told &= [hours in note for note in said] == ([True] if apart else [])

    def __str__(self) -> str:
        return f"{round(self.never, 2):>8,g}{round(self.twice, 2):>8,g}{self.notes:>6}"


def dag(timetable: Any, where: str) -> Any:
    return SimpleNamespace(timetable=timetable, timezone=zone(where), dag_id="dag")


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """A row for each schedule and what is written for it, printed when a whole year was followed."""
    rows: list[str] = []
    yield rows
    if WHOLE:
        head = f"{'schedule':27}{'zone':17}{'what':48}{'never':>8}{'twice':>8}{'told':>6}"
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n\nhours exported never and twice, and the runs that said so\n{head}", *rows, sep="\n")


@pytest.mark.parametrize(("where", "name"), CASES)
def test_what_is_proposed_exports_each_hour_once_and_what_is_not_is_told(
    where: str, name: str, table: list[str]
) -> None:
    timetable, careless = timetables(where)[name]
    years = {}
    if careless is None:
        years["as it is"] = Year(timetable, where)
    else:
        with pytest.raises(PolarWindowError, match="gives its runs no window"):
            check_schedule(dag(timetable, where))
        for code, _ in remedies(Schedule.of(dag(timetable, where))):
            parameter, _, written = code.partition("=")
            if parameter == "window":
                years[written] = Year(timetable, where, eval(written))
            elif parameter == "schedule":
                years[written] = Year(eval(written, globals() | {"datetime": datetime_module}), where)
    for year in years.values():
        assert year.told
        assert (year.never, year.twice) == (0, 0) or year.notes
    if careless is not None and repr(careless).replace("'", '"') not in years:
        years[f"unasked: {careless}"] = all_the_same = Year(timetable, where, careless)
        assert all_the_same.told
        assert all_the_same.notes
    table += [f"{name:27}{where:17}{what[:47]:48}{year}" for what, year in years.items()]

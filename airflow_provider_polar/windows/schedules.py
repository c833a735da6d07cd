"""What a DAG's schedule says about time: its cron ticks, its time zone, its partitions.

Reads both shapes of a timetable, the task SDK's (Airflow 3.2 and newer on workers) and the core's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pendulum
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_polar.windows.lengths import CalendarWindow, Length, at_wall_clock, wall_clock, zone

# A tick that the clocks' change has put off lies this far, at most, from the time that the cron expression names.
_LONGEST_CHANGE = timedelta(hours=3)


@dataclass(frozen=True)
class Schedule:
    """A DAG's schedule as far as windows need it.

    :param kind: class name of the timetable, e.g. ``CronTriggerTimetable``.
    :param summary: how users know it, e.g. ``0 * * * *``.
    :param timezone: of the schedule's ticks, else of the DAG.
    :param cron: cron expression, None where there is none.
    :param delta: distance of the runs of a timedelta schedule.
    :param key_format: ``strptime`` format of the partition keys that the timetable itself makes.
    :param mappers: class names of the partition mappers of an asset-partitioned schedule.
    :param utc_keys_of: on Airflow 3.2, the zone of the ticks that the timetable writes its partition keys of: it writes
        them in UTC all the same. None on Airflow 3.3 and newer, which writes them in the schedule's zone.
    """

    kind: str
    summary: str
    timezone: tzinfo
    cron: str | None = None
    delta: timedelta | None = None
    key_format: str | None = None
    mappers: tuple[str, ...] = ()
    utc_keys_of: tzinfo | None = None

    def __str__(self) -> str:
        return f"{self.summary} ({self.kind})" if self.summary else self.kind

    @classmethod
    def of(cls, dag: Any, timezone: str | tzinfo | None = None) -> Schedule:
        """The schedule of a DAG object; ``timezone`` goes before the schedule's own."""
        timetable = getattr(dag, "timetable", None)
        crons = list(getattr(timetable, "timetables", None) or getattr(timetable, "_timetables", None) or [])
        mappers = list(_mappers(timetable))
        own = _attribute(getattr(timetable, "timetable", timetable), "timezone") or next(
            (z for z in (_attribute(t, "timezone") for t in [*crons, *mappers]) if z), None
        )
        # Of a schedule by asset or time, the time's.
        timed = getattr(timetable, "timetable", None) or timetable
        cron = _attribute(timed, "expression")
        kind = type(timetable).__name__ if timetable is not None else "no schedule"
        summary = cron or ", ".join(str(_attribute(t, "expression")) for t in crons) or _summary(dag, timetable)
        return cls(
            kind=kind,
            summary=summary,
            timezone=zone(timezone, zone(own, zone(getattr(dag, "timezone", None)))),
            cron=cron if isinstance(cron, str) else None,
            delta=delta if isinstance(delta := _attribute(timed, "delta"), timedelta) else None,
            key_format=_attribute(timetable, "key_format"),
            mappers=tuple(type(mapper).__name__ for mapper in mappers),
            utc_keys_of=None if AIRFLOW_V_3_3_PLUS or kind != "CronPartitionTimetable" else zone(own),
        )

    def nominal(self, moment: datetime) -> datetime:
        """The wall-clock time that a tick at ``moment`` stands for.

        When the clocks skip 02:00, a run of ``0 2 * * *`` comes at 03:00 but stands for 02:00.
        """
        shown = wall_clock(moment, self.timezone)
        if self.cron is None:
            return shown
        named: datetime = _croniter(self.cron, shown + timedelta(microseconds=1)).get_prev(datetime)
        put_off = shown - named <= _LONGEST_CHANGE and at_wall_clock(named, self.timezone) == moment
        return named if put_off else shown

    def next_tick(self, moment: datetime) -> datetime | None:
        """The first cron tick after ``moment``, as Airflow's cron timetables count them; None without a cron."""
        if self.cron is None:
            return None
        shown = wall_clock(moment, self.timezone)
        ticks = _croniter(self.cron, shown)
        named: datetime = ticks.get_next(datetime)
        if ticks.expanded[1] == ["*"]:
            return moment + (named - shown)
        return at_wall_clock(named, self.timezone)

    def before(self, moment: datetime, length: Length) -> datetime:
        """The moment ``length`` before ``moment``."""
        if isinstance(length, timedelta):
            return moment - length
        # The nominal time belongs to the schedule's zone; a length in another zone counts from its own clock.
        where = zone(length.timezone, self.timezone)
        shown = self.nominal(moment) if str(where) == str(self.timezone) else wall_clock(moment, where)
        return at_wall_clock(length.before(shown), where)

    def after(self, moment: datetime, length: Length) -> datetime:
        """The moment ``length`` after ``moment``."""
        if isinstance(length, timedelta):
            return moment + length
        where = zone(length.timezone, self.timezone)
        shown = self.nominal(moment) if str(where) == str(self.timezone) else wall_clock(moment, where)
        return at_wall_clock(length.after(shown), where)

    def usual_length(self) -> str:
        """``window=`` text for the usual distance of two runs, ``1 day`` where that can't be told."""
        distance = self.delta or timedelta(days=1)
        if self.cron is not None:
            ticks = _croniter(self.cron, pendulum.naive(2026, 1, 4))
            first = ticks.get_next(datetime)
            distance = ticks.get_next(datetime) - first
        for unit, length in (("year", 365), ("month", 28), ("week", 7), ("day", 1)):
            if self.cron is not None and distance >= timedelta(days=length):
                return f"1 {unit}"
        for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
            count, rest = divmod(round(distance.total_seconds()), seconds)
            if count and not rest:
                return f"{count} {unit}{'s' if count > 1 else ''}"
        return "1 day"


MAPPER_LENGTHS: dict[str, Length] = {
    "StartOfHourMapper": timedelta(hours=1),
    "StartOfDayMapper": CalendarWindow(days=1),
    "StartOfWeekMapper": CalendarWindow(weeks=1),
    "StartOfMonthMapper": CalendarWindow(months=1),
    "StartOfQuarterMapper": CalendarWindow(months=3),
    "StartOfYearMapper": CalendarWindow(years=1),
}
"""How long a partition of each of Airflow's temporal partition mappers is."""


def _croniter(expression: str, start: datetime) -> Any:
    # Imported late: only schedules with a cron expression need it.
    from croniter import croniter  # type: ignore[import-untyped,unused-ignore]

    return croniter(expression, start)


def _attribute(timetable: Any, name: str) -> Any:
    """The task SDK names it openly, the core's timetables with an underscore."""
    value = getattr(timetable, name, None)
    return value if value is not None else getattr(timetable, f"_{name}", None)


def _summary(dag: Any, timetable: Any) -> str:
    if "Asset" in type(timetable).__name__:
        return f"assets {getattr(timetable, 'asset_condition', '') or ''}".strip()
    delta = _attribute(timetable, "delta")
    if delta is not None:
        return str(delta)
    schedule = getattr(dag, "schedule", None)
    return str(schedule) if isinstance(schedule, (str, timedelta)) else "none"


def _mappers(timetable: Any) -> Iterator[Any]:
    default = getattr(timetable, "default_partition_mapper", None)
    named = getattr(timetable, "partition_mapper_config", None) or {}
    for mapper in [default, *(named.values() if hasattr(named, "values") else ())]:
        if mapper is not None:
            yield getattr(mapper, "downstream_mapper", None) or mapper

"""What a DAG's schedule says about time: its ticks, its time zone, its partitions.

Reads both shapes of a timetable, the task SDK's (Airflow 3.2 and newer on workers) and the core's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_polar.engine.window import moment_text
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows.lengths import CalendarWindow, Length, at_wall_clock, wall_clock, zone
from airflow_provider_polar.windows.ticks import LONGEST_CHANGE, Ticks


@dataclass(frozen=True)
class Schedule:
    """A DAG's schedule as far as windows need it.

    :param kind: class name of the timetable, e.g. ``CronTriggerTimetable``.
    :param summary: how users know it, e.g. ``0 * * * *``.
    :param timezone: whose days windows and partition keys mean: that of the schedule's ticks, else of the DAG.
    :param ticks: when its runs are, as far as it is known.
    :param moments: whether its runs stand for moments: their data interval is always empty.
    :param intervals: whether the timetable makes data intervals out of its ticks.
    :param run_offset: how many ticks after its own run a partition starts.
    :param key_format: ``strptime`` format of the partition keys that the timetable itself makes.
    :param mappers: class names of the partition mappers of an asset-partitioned schedule.
    :param utc_keys: the timetable writes its partition keys in UTC, as on Airflow 3.2, and not in its own zone.
    """

    kind: str
    summary: str
    timezone: tzinfo
    ticks: Ticks
    moments: bool = False
    intervals: bool = False
    run_offset: int = 0
    key_format: str | None = None
    mappers: tuple[str, ...] = ()
    utc_keys: bool = False

    def __str__(self) -> str:
        return f"{self.summary} ({self.kind})" if self.summary else self.kind

    @classmethod
    def of(cls, dag: Any, timezone: str | tzinfo | None = None) -> Schedule:
        """The schedule of a DAG object; ``timezone`` goes before the schedule's own."""
        timetable = getattr(dag, "timetable", None)
        kind = type(timetable).__name__ if timetable is not None else "no schedule"
        # Of a schedule by asset or time, the time's; of several crons, each.
        timed = getattr(timetable, "timetable", None) or timetable
        each = _attribute(timed, "timetables") or [timed]
        crons = tuple(cron for one in each if isinstance(cron := _attribute(one, "expression"), str))
        mappers = tuple(_mappers(timetable))
        own = zone(
            next((where for one in [*each, *mappers] if (where := _attribute(one, "timezone"))), None),
            zone(getattr(dag, "timezone", None)),
        )
        return cls(
            kind=kind,
            summary=", ".join(crons) or _summary(dag, timetable),
            timezone=zone(timezone, own),
            ticks=Ticks(own, crons, _attribute(timed, "delta")),
            moments=kind in _MOMENTS and not _attribute(each[0], "interval"),
            intervals="DataInterval" in type(timed).__name__,
            run_offset=_attribute(timetable, "run_offset") or 0,
            key_format=_attribute(timetable, "key_format"),
            mappers=tuple(type(mapper).__name__ for mapper in mappers),
            utc_keys=kind == "CronPartitionTimetable" and not AIRFLOW_V_3_3_PLUS,
        )

    def reached(self, end: datetime) -> datetime | None:
        """Where the window before the one that ends at a tick ends; None for a schedule without ticks."""
        last = self.ticks.last(end)
        if last is not None and self.intervals:
            # A data interval begins at the time named before the end of the one before; where the clocks have put that
            # off, it may lie after the end.
            tick = self.ticks.next(last - LONGEST_CHANGE)
            while tick is not None and tick < last:
                if self.ticks.named_before(tick) == last:
                    return tick
                tick = self.ticks.next(tick)
        return last

    def before(self, moment: datetime, length: Length) -> datetime:
        """The moment ``length`` before ``moment``."""
        return self._moved(moment, length, -1)

    def after(self, moment: datetime, length: Length) -> datetime:
        """The moment ``length`` after ``moment``."""
        return self._moved(moment, length, +1)

    def _moved(self, moment: datetime, length: Length, direction: int) -> datetime:
        try:
            if isinstance(length, timedelta):
                return moment + direction * length
            where = zone(length.timezone, self.timezone)
            move = length.before if direction < 0 else length.after
            return at_wall_clock(move(self._shown(moment, where)), where)
        except PolarWindowError:
            raise
        except (OverflowError, ValueError):
            side = "before" if direction < 0 else "after"
            raise PolarWindowError(f"{length} {side} {moment_text(moment)} is no time of the calendar") from None

    def _shown(self, moment: datetime, where: tzinfo) -> datetime:
        # The nominal time belongs to the zone of the ticks; a length in another zone counts from its own clock.
        return self.ticks.nominal(moment) if str(where) == str(self.ticks.zone) else wall_clock(moment, where)


_MOMENTS = (
    "CronTriggerTimetable",
    "DeltaTriggerTimetable",
    "MultipleCronTriggerTimetable",
    "EventsTimetable",
    "OnceTimetable",
)

MAPPER_LENGTHS: dict[str, Length] = {
    "StartOfHourMapper": timedelta(hours=1),
    "StartOfDayMapper": CalendarWindow(days=1),
    "StartOfWeekMapper": CalendarWindow(weeks=1),
    "StartOfMonthMapper": CalendarWindow(months=1),
    "StartOfQuarterMapper": CalendarWindow(months=3),
    "StartOfYearMapper": CalendarWindow(years=1),
}
"""How long a partition of each of Airflow's temporal partition mappers is."""


def _attribute(timetable: Any, name: str) -> Any:
    """The task SDK names it openly, the core's timetables with an underscore."""
    value = getattr(timetable, name, None)
    return value if value is not None else getattr(timetable, f"_{name}", None)


def _summary(dag: Any, timetable: Any) -> str:
    if assets := ", ".join(_asset_names(getattr(timetable, "asset_condition", None))):
        return f"assets {assets}"
    delta = _attribute(timetable, "delta")
    if delta is not None:
        return str(delta)
    schedule = getattr(dag, "schedule", None)
    return str(schedule) if isinstance(schedule, (str, timedelta)) else "none"


def _asset_names(condition: Any) -> Iterator[str]:
    for one in getattr(condition, "objects", ()):
        yield from _asset_names(one)
    if name := asset_name(condition):
        yield name


def asset_name(asset: Any) -> str:
    """How messages call an asset, a reference to one or an alias: by its URI, else by its name."""
    return getattr(asset, "uri", None) or getattr(asset, "name", None) or ""


def _mappers(timetable: Any) -> Iterator[Any]:
    default = getattr(timetable, "default_partition_mapper", None)
    named = getattr(timetable, "partition_mapper_config", None) or {}
    for mapper in [default, *(named.values() if hasattr(named, "values") else ())]:
        if mapper is not None:
            yield getattr(mapper, "downstream_mapper", None) or mapper

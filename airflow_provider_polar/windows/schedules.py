"""What a DAG's schedule says about time: its ticks, its time zone, its partitions.

Reads both shapes of a timetable, the task SDK's (Airflow 3.2 and newer on workers) and the core's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_polar.windows.lengths import (
    CalendarWindow,
    Length,
    at_wall_clock,
    parse_length,
    wall_clock,
    zone,
)

# A tick that the clocks' change has put off lies this far, at most, from the time that the cron expression names.
_LONGEST_CHANGE = timedelta(hours=3)
# The year whose ticks a length must fill. It has no 29 February: what fills it fills a longer one, too.
_YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Schedule:
    """A DAG's schedule as far as windows need it.

    :param kind: class name of the timetable, e.g. ``CronTriggerTimetable``.
    :param summary: how users know it, e.g. ``0 * * * *``.
    :param timezone: whose days windows and partition keys mean: that of the schedule's ticks, else of the DAG.
    :param ticks_zone: time zone of the cron expressions.
    :param crons: cron expressions, none where the schedule has none.
    :param delta: distance of the runs of a timedelta or relativedelta schedule.
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
    ticks_zone: tzinfo = UTC
    crons: tuple[str, ...] = ()
    delta: Any = None
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
            ticks_zone=own,
            crons=crons,
            delta=_attribute(timed, "delta"),
            moments=kind in _MOMENTS and not _attribute(each[0], "interval"),
            intervals="DataInterval" in type(timed).__name__,
            run_offset=_attribute(timetable, "run_offset") or 0,
            key_format=_attribute(timetable, "key_format"),
            mappers=tuple(type(mapper).__name__ for mapper in mappers),
            utc_keys=kind == "CronPartitionTimetable" and not AIRFLOW_V_3_3_PLUS,
        )

    @cached_property
    def _croniters(self) -> list[Any]:
        # Imported late: only schedules with a cron expression need it.
        from croniter import croniter  # type: ignore[import-untyped,unused-ignore]

        return [croniter(cron) for cron in self.crons]

    def nominal(self, moment: datetime) -> datetime:
        """The wall-clock time that a tick at ``moment`` stands for.

        When the clocks skip 02:00, a run of ``0 2 * * *`` comes at 03:00 but stands for 02:00.
        """
        shown = wall_clock(moment, self.ticks_zone)
        named = (cron.get_prev(datetime, shown + timedelta(microseconds=1)) for cron in self._croniters)
        put_off = (n for n in named if shown - n <= _LONGEST_CHANGE and at_wall_clock(n, self.ticks_zone) == moment)
        return max(put_off, default=shown)

    def next_tick(self, moment: datetime) -> datetime | None:
        """The first tick after ``moment``, as Airflow's timetables count them; None for a schedule without ticks."""
        if self.delta is not None:
            later: datetime = moment + self.delta
            return later
        return min((self._named(cron, cron.get_next, moment) for cron in self._croniters), default=None)

    def last_tick(self, tick: datetime) -> datetime | None:
        """The tick before this one; None for a schedule without ticks.

        Ticks are counted forward, as the scheduler counts: backward they are others where the clocks change.
        """
        if self.delta is not None:
            earlier: datetime = tick - self.delta
            return earlier
        found = min((self._well_before(cron, tick) for cron in self._croniters), default=None)
        while found is not None and (following := self.next_tick(found)) is not None and following < tick:
            found = following
        return found

    def _well_before(self, cron: Any, tick: datetime) -> datetime:
        """An earlier tick of a cron expression, to count on from: none that the clocks put off."""
        shown = wall_clock(tick, self.ticks_zone)
        while True:
            shown = cron.get_prev(datetime, shown - _LONGEST_CHANGE)
            moment = at_wall_clock(shown, self.ticks_zone)
            if wall_clock(moment, self.ticks_zone) == shown:
                return moment

    def reached(self, end: datetime) -> datetime | None:
        """Where the window before the one that ends at the tick ``end`` ends; None for a schedule without ticks."""
        last = self.last_tick(end)
        if last is not None and self.intervals:
            # A data interval begins at the time named before the end of the one before. That the clocks have put off
            # may lie after that end.
            for cron in self._croniters:
                tick = self.next_tick(last - _LONGEST_CHANGE)
                while tick is not None and tick < last:
                    if self._named(cron, cron.get_prev, tick) == last:
                        return tick
                    tick = self.next_tick(tick)
        return last

    def _named(self, cron: Any, step: Callable[[type[datetime], datetime], datetime], moment: datetime) -> datetime:
        """The moment that the cron expression names after or before another, as Airflow reads it."""
        shown = wall_clock(moment, self.ticks_zone)
        named = step(datetime, shown)
        # Airflow counts the ticks of every hour through the hour that comes twice, and no others.
        every_hour = cron.expanded[1] == ["*"]
        return moment + (named - shown) if every_hour else at_wall_clock(named, self.ticks_zone)

    def before(self, moment: datetime, length: Length) -> datetime:
        """The moment ``length`` before ``moment``."""
        if isinstance(length, timedelta):
            return moment - length
        where = zone(length.timezone, self.timezone)
        return at_wall_clock(length.before(self._shown(moment, where)), where)

    def after(self, moment: datetime, length: Length) -> datetime:
        """The moment ``length`` after ``moment``."""
        if isinstance(length, timedelta):
            return moment + length
        where = zone(length.timezone, self.timezone)
        return at_wall_clock(length.after(self._shown(moment, where)), where)

    def _shown(self, moment: datetime, where: tzinfo) -> datetime:
        # The nominal time belongs to the zone of the ticks; a length in another zone counts from its own clock.
        return self.nominal(moment) if str(where) == str(self.ticks_zone) else wall_clock(moment, where)

    def filling_window(self) -> str | None:
        """``window=`` text for windows before each tick that fill a year, both changes of the clocks included.

        None where no length does.
        """
        first = self.next_tick(_YEAR[0])
        second = first and self.next_tick(first)
        if first is None or second is None:
            return None
        return next((text for text in _lengths(second - first) if self._filled_by(parse_length(text))), None)

    def _filled_by(self, length: Length) -> bool:
        if length == self.delta:
            return True
        for start, end in self._looked_at(length):
            tick = self.next_tick(start)
            while tick is not None and tick < end:
                following = self.next_tick(tick)
                if following is None or self.before(following, length) != tick:
                    return False
                tick = following
        return True

    def _looked_at(self, length: Length) -> Iterator[tuple[datetime, datetime]]:
        """The parts of the year to try a length in: hours on one day and where the clocks change, as days are alike."""
        start, end = _YEAR
        if isinstance(length, CalendarWindow) or any(cron.expanded[2:5] != [["*"]] * 3 for cron in self._croniters):
            yield _YEAR
            return
        yield start, start + timedelta(days=1)
        while start < end:
            following = start + timedelta(hours=1)
            if wall_clock(following, self.ticks_zone) - wall_clock(start, self.ticks_zone) != timedelta(hours=1):
                yield start - length - _LONGEST_CHANGE, following + length + _LONGEST_CHANGE
            start = following


_MOMENTS = ("CronTriggerTimetable", "DeltaTriggerTimetable", "MultipleCronTriggerTimetable", "EventsTimetable")

MAPPER_LENGTHS: dict[str, Length] = {
    "StartOfHourMapper": timedelta(hours=1),
    "StartOfDayMapper": CalendarWindow(days=1),
    "StartOfWeekMapper": CalendarWindow(weeks=1),
    "StartOfMonthMapper": CalendarWindow(months=1),
    "StartOfQuarterMapper": CalendarWindow(months=3),
    "StartOfYearMapper": CalendarWindow(years=1),
}
"""How long a partition of each of Airflow's temporal partition mappers is."""


def _lengths(distance: timedelta) -> Iterator[str]:
    """``window=`` texts for about this distance, the calendar's first."""
    for unit, days in (("year", 365), ("month", 28), ("week", 7), ("day", 1)):
        if count := distance // timedelta(days=days):
            yield f"{count} {unit}{'s' if count > 1 else ''}"
    for unit in ("hour", "minute", "second"):
        count, rest = divmod(distance, timedelta(**{f"{unit}s": 1}))
        if count and not rest:
            yield f"{count} {unit}{'s' if count > 1 else ''}"


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

"""The moments of a schedule, counted as Airflow's scheduler counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import Any

from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows.lengths import at_wall_clock, wall_clock

Get = Callable[[type[datetime], datetime], datetime]
LONGEST_CHANGE = timedelta(hours=3)
"""A tick that the clocks' change has put off lies this far, at most, from the time that the cron expression names."""


@dataclass(frozen=True)
class Ticks:
    """A schedule's ticks; none where it has neither a cron expression nor a distance.

    :param zone: time zone of the cron expressions.
    :param crons: cron expressions, each of which adds its ticks.
    :param delta: distance of the ticks, a timedelta or relativedelta.
    """

    zone: tzinfo = UTC
    crons: tuple[str, ...] = ()
    delta: Any = None

    @cached_property
    def _croniters(self) -> list[Any]:
        # Imported late: only schedules with a cron expression need it.
        from croniter import croniter  # type: ignore[import-untyped,unused-ignore]

        return [croniter(cron) for cron in self.crons]

    @property
    def alike_every_day(self) -> bool:
        """Whether each day has the same ticks, but where the clocks change."""
        return all(cron.expanded[2:5] == [["*"]] * 3 for cron in self._croniters)

    def nominal(self, tick: datetime) -> datetime:
        """The wall-clock time that a tick stands for.

        When the clocks skip 02:00, a run of ``0 2 * * *`` comes at 03:00 but stands for 02:00.
        """
        shown = wall_clock(tick, self.zone)
        named = (_step(cron.get_prev, shown + timedelta(microseconds=1)) for cron in self._croniters)
        put_off = (n for n in named if shown - n <= LONGEST_CHANGE and at_wall_clock(n, self.zone) == tick)
        return max(put_off, default=shown)

    def next(self, moment: datetime) -> datetime | None:
        """The first tick after a moment."""
        if self.delta is not None:
            later: datetime = moment + self.delta
            return later
        return min((self._named(cron, cron.get_next, moment) for cron in self._croniters), default=None)

    def last(self, tick: datetime) -> datetime | None:
        """The tick before a tick. It is found by counting forward, as the scheduler does."""
        if self.delta is not None:
            earlier: datetime = tick - self.delta
            return earlier
        found = min((self._well_before(cron, tick) for cron in self._croniters), default=None)
        while found is not None and (following := self.next(found)) is not None and following < tick:
            found = following
        return found

    def named_before(self, tick: datetime) -> datetime | None:
        """What Airflow takes for the tick before, where it counts back: where the clocks change it may be another."""
        return max((self._named(cron, cron.get_prev, tick) for cron in self._croniters), default=None)

    def _named(self, cron: Any, get: Get, moment: datetime) -> datetime:
        shown = wall_clock(moment, self.zone)
        named = _step(get, shown)
        # Airflow counts the ticks of every hour through the hour that comes twice, and no others.
        every_hour = cron.expanded[1] == ["*"]
        return moment + (named - shown) if every_hour else at_wall_clock(named, self.zone)

    def _well_before(self, cron: Any, tick: datetime) -> datetime:
        """An earlier tick of a cron expression to count on from: none that the clocks have put off."""
        named = wall_clock(tick, self.zone)
        while True:
            named = _step(cron.get_prev, named - LONGEST_CHANGE)
            moment = at_wall_clock(named, self.zone)
            if wall_clock(moment, self.zone) == named:
                return moment


def _step(get: Get, named: datetime) -> datetime:
    """The time that a cron expression names next, or before.

    :raises PolarWindowError: it names none within decades (``0 0 31 2 *``). A retry does not help.
    """
    from croniter import CroniterBadDateError

    try:
        return get(datetime, named)
    except CroniterBadDateError:
        raise PolarWindowError(f"the DAG's cron expression names no moment near {named}: it never fires") from None

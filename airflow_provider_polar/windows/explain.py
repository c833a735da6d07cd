"""What to tell a user whose run says no window, or one that does not meet the one before."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow_provider_polar.engine.window import EventWindow, moment_text
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows.facts import RunFacts
from airflow_provider_polar.windows.lengths import Length
from airflow_provider_polar.windows.schedules import Schedule

Remedy = tuple[str, str]
"""What to write, and where."""

_PARAMS = ('start="{{ params.start }}", end="{{ params.end }}"', "on this task, with params of the DAG")


def remedies(schedule: Schedule) -> list[Remedy]:
    """What to write, and where, so that the windows of a schedule's runs meet: a length only where it fills a year."""
    found = []
    if filling := schedule.filling_window():
        found.append((f'window="{filling}"', "on this task: what lies before each run"))
    elif schedule.kind in ("NullTimetable", "no schedule"):
        found.append(('window="1 day"', "on this task: the day before each run's logical date"))
    return [*found, *with_intervals(schedule), _PARAMS][:2]


def with_intervals(schedule: Schedule) -> list[Remedy]:
    """The timetable, if there is one, that makes data intervals out of a schedule's ticks."""
    if schedule.crons:
        one = "" if len(schedule.crons) == 1 else ": one cron, as Airflow makes no data intervals of several"
        timetable = f'CronDataIntervalTimetable("{schedule.crons[0]}", timezone="{schedule.ticks_zone}")'
        return [(f"schedule={timetable}", f"on the DAG{one}")]
    if schedule.delta is not None:
        return [(f"schedule=DeltaDataIntervalTimetable({schedule.delta!r})", "on the DAG")]
    return []


def check_schedule(dag: Any) -> None:
    """Refuses the DAG of a task that is given neither ``start``, ``end`` nor ``window``, if its schedule gives none.

    It can be called when the DAG file is parsed.

    :raises PolarWindowError: the schedule names moments, so that no run would have a window; a retry does not help.
    """
    schedule = Schedule.of(dag)
    if schedule.moments:
        what = f"DAG {getattr(dag, 'dag_id', '')!r} with the schedule {schedule} gives its runs no window"
        raise PolarWindowError(_text(what, _moments(schedule), remedies(schedule)))


def not_meeting(schedule: Schedule, window: EventWindow, last: datetime, fixes: list[Remedy]) -> str:
    """Says which hours a window leaves out, or reads again, that does not begin at the last tick before its end."""
    harm = left_out(last, window.start) if last < window.start else read_twice(window.start, last)
    advice = "" if schedule.intervals or not fixes else f" Write {fixes[0][0]} {fixes[0][1].partition(':')[0]}."
    return f"the window {window} does not begin at {moment_text(last)}, the last tick of {schedule}: it {harm}.{advice}"


def left_out(start: datetime, end: datetime) -> str:
    """That no run reads what lies between the two."""
    return f"leaves out {EventWindow(start, end)} ({_hours(start, end)}), which is for you to read with start= and end="


def read_twice(start: datetime, end: datetime) -> str:
    """That two runs read what lies between the two."""
    return f"shares {EventWindow(start, end)} ({_hours(start, end)}) with the run next to it"


def _hours(start: datetime, end: datetime) -> str:
    count = round((end - start) / timedelta(hours=1), 2)
    return f"{count:g} hour{'' if count == 1 else 's'}"


def no_window(facts: RunFacts, length: Length | None = None) -> str:
    """Names the schedule, says why it gives no window, and gives the lines that fix it."""
    schedule = facts.schedule
    if facts.partition_key or facts.partition_date:
        why = f"the run's partition {facts.partition_key or facts.partition_date!r} "
        why += "does not say how long it is, or is no moment" if length is None else "is no moment"
        lines = [('start="...", end="..."', "on this task, as templates: the moments themselves")]
        if length is None:
            lines.insert(0, ('window="..."', 'on this task: how long a partition is, such as "1 hour" or "1 day"'))
    elif facts.moment:
        why = _moments(schedule)
        lines = remedies(schedule)
    else:
        why = "the run has no data interval, no logical date and no partition"
        if facts.asset_events:
            why += ", and the asset events that triggered it say no window (an extra with window.start and window.end)"
        if facts.watermarks is not None:
            why += ", and no watermark is kept yet to go on from"
        lines = [
            _PARAMS,
            ('outlets=[...], window="1 day"', "or here, Airflow 3.3: from the last run on, first this far back"),
        ]
    moment = f" at {moment_text(facts.moment)}" if facts.moment else ""
    run = f"DAG {facts.dag_id!r} with the schedule {schedule} gives its run {facts.run_id!r}{moment} no window"
    return _text(run, why, lines)


def _moments(schedule: Schedule) -> str:
    if not schedule.moments:
        return "the run's data interval starts and ends at the same moment"
    what = "a timedelta" if schedule.delta is not None else "a cron" if schedule.crons else "such a"
    return f"in Airflow 3 {what} schedule names moments, and the data interval starts and ends at the same one"


def _text(what: str, why: str, lines: list[Remedy]) -> str:
    write = "Write one of these two lines" if len(lines) > 1 else "Write this line"
    return f"{what}: {why}. {write}:\n" + "\n".join(f"    {code}  # {where}" for code, where in lines)

"""Which window a run means: the decision, without Airflow."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from airflow_provider_polar.engine.window import EventWindow, aware, moment_text
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows.explain import no_window
from airflow_provider_polar.windows.facts import RunFacts
from airflow_provider_polar.windows.lengths import CalendarWindow, Length, parse_length
from airflow_provider_polar.windows.partitions import parse_key
from airflow_provider_polar.windows.schedules import MAPPER_LENGTHS, Schedule

Origin = Literal["parameters", "data interval", "partition", "window=", "asset event", "watermark"]


@dataclass(frozen=True)
class WindowChoice:
    """A window and where it comes from.

    :param notes: what the user should know of it; logged as warnings.
    """

    window: EventWindow
    origin: Origin
    notes: tuple[str, ...] = field(default=())


def choose_window(
    facts: RunFacts,
    *,
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    window: timedelta | str | CalendarWindow | None = None,
    settle: timedelta | None = None,
    now: datetime | None = None,
) -> WindowChoice:
    """The window of a run.

    It comes from the first of these that gives one: the parameters, a data interval that is not empty, the partition,
    ``window=`` before the run's moment, the triggering asset events, the watermark.

    :param now: the clock, for tests.
    :raises PolarWindowError: none of them gives one, or the one that does is impossible. A retry does not help, except
        for a partition that is not over yet.
    """
    length = None if window is None else parse_length(window)
    now = datetime.now(UTC) if now is None else now
    if start is not None or end is not None:
        return _from_parameters(facts.schedule, start, end, length)
    choice = (
        _from_data_interval(facts, length)
        or _from_partition(facts, length, now)
        or _from_length(facts, length)
        or _from_asset_events(facts)
        or _from_watermark(facts, length, settle or timedelta(0), now)
    )
    if choice is not None:
        return choice
    raise PolarWindowError(no_window(facts))


def _from_parameters(schedule: Schedule, start: Any, end: Any, length: Length | None) -> WindowChoice:
    if start is not None and end is not None:
        chosen = EventWindow(aware(start, "start"), aware(end, "end"))
        if length is not None and schedule.before(chosen.end, length) != chosen.start:
            raise PolarWindowError(
                f"start and end say {chosen}, window={length} says another length: leave one of the three out"
            )
        return WindowChoice(chosen, "parameters")
    if length is None:
        given, missing = ("start", "end") if end is None else ("end", "start")
        raise PolarWindowError(f"{given} is given without {missing}: give both, or {given} and window=")
    if end is None:
        first = aware(start, "start")
        return WindowChoice(EventWindow(first, schedule.after(first, length)), "parameters")
    last = aware(end, "end")
    return WindowChoice(EventWindow(schedule.before(last, length), last), "parameters")


def _from_data_interval(facts: RunFacts, length: Length | None) -> WindowChoice | None:
    if facts.data_interval is None or facts.data_interval[0] == facts.data_interval[1]:
        return None
    chosen = EventWindow(*facts.data_interval)
    notes = _moved_clocks(facts.schedule, chosen)
    if length is not None and facts.schedule.before(chosen.end, length) != chosen.start:
        notes += (
            f"window={length} is not used: this run has a data interval, {chosen}, of {chosen.duration}. "
            "Leave window= out, or give start= and end=.",
        )
    return WindowChoice(chosen, "data interval", notes)


def _from_partition(facts: RunFacts, length: Length | None, now: datetime) -> WindowChoice | None:
    schedule = facts.schedule
    parsed = parse_key(facts.partition_key, schedule) if facts.partition_key else None
    if facts.partition_date is not None:
        first: datetime = aware(facts.partition_date, "partition_date")
        period = parsed[1] if parsed else None
    elif parsed is not None:
        first, period = aware(parsed[0], "partition_key"), parsed[1]
    else:
        return None
    if length is None:
        length = period or next((MAPPER_LENGTHS[name] for name in schedule.mappers if name in MAPPER_LENGTHS), None)
    end = schedule.next_tick(first) if length is None else schedule.after(first, length)
    if end is None:
        return None
    chosen = EventWindow(first, end)
    if chosen.end > now:
        raise PolarWindowError(
            f"the partition {facts.partition_key or moment_text(first)} of DAG {facts.dag_id!r} is the window "
            f"{chosen}, which is not over yet (it is {moment_text(now)}), so it would be read in part only. With the "
            f"schedule {schedule}, let each run work on the partition before it:\n"
            f'    schedule=CronPartitionTimetable("{schedule.cron or "0 0 * * *"}", timezone="{schedule.timezone}", '
            "run_offset=-1)"
        )
    return WindowChoice(chosen, "partition", _moved_clocks(schedule, chosen, length))


def _from_length(facts: RunFacts, length: Length | None) -> WindowChoice | None:
    moment = facts.data_interval[1] if facts.data_interval else facts.logical_date
    if length is None or moment is None:
        return None
    end = aware(moment, "logical_date")
    chosen = EventWindow(facts.schedule.before(end, length), end)
    return WindowChoice(chosen, "window=", _moved_clocks(facts.schedule, chosen, length))


def _from_asset_events(facts: RunFacts) -> WindowChoice | None:
    found: list[tuple[EventWindow, str]] = []
    for asset, extra in facts.asset_events:
        if isinstance(extra, dict) and isinstance(extra.get("payload"), dict):
            extra = extra["payload"]  # how Airflow wraps what a watcher yields
        said = extra.get("window", extra) if isinstance(extra, dict) else None
        if isinstance(said, dict) and said.get("start") and said.get("end"):
            try:
                found.append((EventWindow.from_dict(said), asset))
            except PolarWindowError as error:
                raise PolarWindowError(
                    f"the event of asset {asset!r} that triggered this run has a window that is not valid: {error}"
                ) from None
    if not found:
        return None
    windows = sorted({window for window, _ in found})
    whole = EventWindow(windows[0].start, max(window.end for window in windows))
    gaps, reached = [], windows[0].end
    for following in windows[1:]:
        if following.start > reached:
            gaps.append(str(EventWindow(reached, following.start)))
        reached = max(reached, following.end)
    notes = (
        f"the {len(windows)} asset events that triggered this run leave gaps between their windows; {whole}, which "
        f"holds them all, is read, with the gaps {', '.join(gaps[:5])}{', ...' if len(gaps) > 5 else ''}.",
    )
    return WindowChoice(whole, "asset event", notes if gaps else ())


def _from_watermark(facts: RunFacts, length: Length | None, settle: timedelta, now: datetime) -> WindowChoice | None:
    # A run that stands for a moment must mean the same window however often and late it runs; a watermark can't.
    if facts.watermark is None or (facts.run_type in ("scheduled", "backfill") and facts.logical_date is not None):
        return None
    mark = facts.watermark()
    end = aware(facts.run_after or now, "run_after") - settle
    if mark is None:
        first = facts.schedule.before(end, length) if length is not None else facts.beginning
        if first is None:
            return None
        chosen = EventWindow(first, end)
        return WindowChoice(chosen, "watermark", (f"no watermark yet: this first run reads {chosen}.",))
    if mark.run_id == facts.run_id:
        return WindowChoice(mark.window, "watermark")
    if mark.window.end >= end:
        raise PolarWindowError(
            f"the run {facts.run_id!r} of DAG {facts.dag_id!r} has nothing to read: everything up to "
            f"{moment_text(mark.window.end)} was read by the run {mark.run_id!r}, and this run reaches only to "
            f"{moment_text(end)} (its own time, less settle). To read again, give start= and end=."
        )
    return WindowChoice(EventWindow(mark.window.end, end), "watermark")


def _moved_clocks(schedule: Schedule, window: EventWindow, length: Length | None = None) -> tuple[str, ...]:
    """What to say of a window of whole times 24 hours in which the clocks change."""
    days, rest = divmod(window.duration, timedelta(days=1))
    if isinstance(length, CalendarWindow) or not days or rest:
        return ()
    gap = window.start - schedule.before(window.end, CalendarWindow(days=days))
    if not gap:
        return ()
    text = "1 day" if days == 1 else f"{days} days"
    harm = "leaves a gap of" if gap > timedelta(0) else "repeats"
    return (
        f"the clocks of {schedule.timezone} change inside {window}: {days * 24} hours are not {text} here, and between "
        f'this window and the one before it a daily schedule {harm} {abs(gap)}. Write window="{text}" instead of a '
        "timedelta or of a data interval of a fixed length.",
    )

"""Which window a run means: the decision, without Airflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from airflow_provider_polar.engine.window import EventWindow, aware, moment_text
from airflow_provider_polar.exceptions import PolarWindowError
from airflow_provider_polar.windows.explain import (
    Remedy,
    left_out,
    no_window,
    not_meeting,
    read_twice,
    remedies,
    with_intervals,
)
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
    raise PolarWindowError(no_window(facts, length))


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
    if facts.interval is None:
        return None
    chosen = facts.interval
    notes = _begins(facts, chosen, with_intervals)
    if length is not None and facts.schedule.before(chosen.end, length) != chosen.start:
        notes += (
            f"window={length} is not used: this run has a data interval, {chosen}, of {chosen.duration}. "
            "Leave window= out, or give start= and end=.",
        )
    return WindowChoice(chosen, "data interval", notes)


def _from_partition(facts: RunFacts, length: Length | None, now: datetime) -> WindowChoice | None:
    schedule = facts.schedule
    named, period = (parse_key(facts.partition_key, schedule) if facts.partition_key else None) or (None, None)
    if (given := facts.partition_date or named) is None:
        return None
    first = aware(given, "the partition's date")
    notes: tuple[str, ...] = ()
    if own := _put_off(facts, first):
        notes = (
            f"Airflow gives the partition {facts.partition_key or moment_text(first)} to two runs, as the clocks of "
            f"{schedule.ticks.zone} change; this run reads from {moment_text(own)}, the tick before it, on.",
        )
        first = own
    period = period or next((MAPPER_LENGTHS[name] for name in schedule.mappers if name in MAPPER_LENGTHS), None)
    due = schedule.ticks.next(first) if period is None else schedule.after(first, period)
    end = due if length is None else schedule.after(first, length)
    if end is None:
        return None
    chosen = EventWindow(first, end)
    if chosen.end > now:
        raise PolarWindowError(_not_over(facts, chosen, now))
    if due is not None and due != end:
        notes += (
            f"the partition ends at {moment_text(due)}, so window={length} "
            f"{left_out(end, due) if end < due else read_twice(due, end)}. Leave window= out.",
        )
    return WindowChoice(chosen, "partition", notes)


def _put_off(facts: RunFacts, first: datetime) -> datetime | None:
    """Where a scheduled run's partition starts if Airflow, counting ticks back, came to another one; else None."""
    ticks, offset = facts.schedule.ticks, facts.schedule.run_offset
    if facts.run_type != "scheduled" or facts.run_after is None:
        return None
    forward = backward = aware(facts.run_after, "run_after")
    for _ in range(-offset):
        forward, backward = ticks.last(forward) or forward, ticks.named_before(backward) or backward
    return forward if backward == first != forward else None


def _not_over(facts: RunFacts, window: EventWindow, now: datetime) -> str:
    schedule = facts.schedule
    text = (
        f"the partition {facts.partition_key or moment_text(window.start)} of DAG {facts.dag_id!r} with the schedule "
        f"{schedule} is the window {window}, which is not over yet (it is {moment_text(now)}), so it would be read in "
        "part only. "
    )
    if not schedule.ticks.crons or schedule.run_offset < 0:
        return f"{text}Run it again after {moment_text(window.end)}."
    ticks = f'"{schedule.ticks.crons[0]}", timezone="{schedule.ticks.zone}"'
    return (
        f"{text}Let each run work on the partition before it:\n"
        f"    schedule=CronPartitionTimetable({ticks}, run_offset=-1)"
    )


def _from_length(facts: RunFacts, length: Length | None) -> WindowChoice | None:
    if length is None or facts.moment is None:
        return None
    end = aware(facts.moment, "logical_date")
    chosen = EventWindow(facts.schedule.before(end, length), end)
    return WindowChoice(chosen, "window=", _begins(facts, chosen, remedies))


def _begins(facts: RunFacts, window: EventWindow, fixes: Callable[[Schedule], list[Remedy]]) -> tuple[str, ...]:
    """What to say of a scheduled run's window that does not begin where the one before it ends."""
    last = facts.schedule.reached(window.end) if facts.scheduled else None
    if last is None or last == window.start:
        return ()
    return (not_meeting(facts.schedule, window, last, fixes(facts.schedule)),)


def _from_asset_events(facts: RunFacts) -> WindowChoice | None:
    named = [(asset, extra) for asset, extra in facts.asset_events if asset in facts.inlets]
    found: dict[str, list[EventWindow]] = {}
    for asset, extra in named or facts.asset_events:
        if isinstance(extra, dict) and isinstance(extra.get("payload"), dict):
            extra = extra["payload"]  # how Airflow wraps what a watcher yields
        said = extra.get("window", extra) if isinstance(extra, dict) else None
        if isinstance(said, dict) and said.get("start") and said.get("end"):
            try:
                found.setdefault(asset, []).append(EventWindow.from_dict(said))
            except PolarWindowError as error:
                raise PolarWindowError(
                    f"the event of asset {asset!r} that triggered this run has a window that is not valid: {error}"
                ) from None
    if not found:
        return None
    wholes = {asset: _union(windows)[0] for asset, windows in found.items()}
    if not named and len(set(wholes.values())) > 1:
        said = ", ".join(f"{asset!r} {whole}" for asset, whole in wholes.items())
        raise PolarWindowError(
            f"the assets that triggered the run {facts.run_id!r} of DAG {facts.dag_id!r} say different windows: "
            f"{said}. Name in inlets=[...] of this task the asset that it works on, or several to read all they say"
        )
    windows = [window for some in found.values() for window in some]
    whole, gaps = _union(windows)
    left = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
    notes = (
        f"the {len(set(windows))} asset events that triggered this run leave gaps between their windows; {whole}, "
        f"which holds them all, is read, with the gaps {left}.",
    )
    return WindowChoice(whole, "asset event", notes if gaps else ())


def _union(windows: Sequence[EventWindow]) -> tuple[EventWindow, list[EventWindow]]:
    """The window that holds them all, and what of it none of them holds."""
    first, *others = sorted(windows)
    gaps, reached = [], first.end
    for window in others:
        if window.start > reached:
            gaps.append(EventWindow(reached, window.start))
        reached = max(reached, window.end)
    return EventWindow(first.start, reached), gaps


def _from_watermark(facts: RunFacts, length: Length | None, settle: timedelta, now: datetime) -> WindowChoice | None:
    # A run that stands for a moment must mean the same window however often and late it runs; a watermark can't.
    if facts.watermarks is None or (facts.scheduled and facts.moment is not None):
        return None
    marks = facts.watermarks()
    end = aware(facts.run_after or now, "run_after") - settle
    if not marks:
        first = facts.schedule.before(end, length) if length is not None else facts.beginning
        if first is None:
            return None
        chosen = EventWindow(first, end)
        return WindowChoice(chosen, "watermark", (f"no watermark yet: this first run reads {chosen}.",))
    for mark in marks:
        if mark.run_id == facts.run_id:
            return WindowChoice(mark.window, "watermark")
    last = marks[-1]
    if last.window.end >= end:
        raise PolarWindowError(
            f"the run {facts.run_id!r} of DAG {facts.dag_id!r} has nothing to read: everything up to "
            f"{moment_text(last.window.end)} was read by the run {last.run_id!r}, and this run reaches only to "
            f"{moment_text(end)} (its own time, less settle). To read again, give start= and end=."
        )
    return WindowChoice(EventWindow(last.window.end, end), "watermark")

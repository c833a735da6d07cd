"""What is known of each window of each destination, from the records of exports and checks. Plain code, no I/O."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError

ACTIVE = ("queued", "scheduled", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule")
"""States of a task that is still to do its work."""
_KINDS = {"destination": str, "filters": str, "names": list, "filtered_by": list, "zone": str}
_MOST_CELLS = 2_000
"""A gap of more windows than this is shown as one."""

log = logging.getLogger(__name__)


class Task(NamedTuple):
    """A task in a run."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int


class Record(NamedTuple):
    """What a task has kept for the ledger, see :mod:`.records`, and when."""

    task: Task
    at: datetime
    value: Mapping[str, Any]


class Attempt(NamedTuple):
    """The state of a task that has not succeeded, and its run's logical date."""

    state: str | None
    logical_date: datetime | None


class Due(NamedTuple):
    """The next run of a DAG: its data interval, empty ones left out, its logical date and when it can start."""

    interval: EventWindow | None
    logical_date: datetime | None
    after: datetime
    paused: bool


@dataclass(slots=True)
class Window:
    """A window and what is known of it.

    :param state: ``verified``, ``exported``, ``exporting``, ``changed``, ``incomplete``, ``failed`` or ``hole``.
    :param task: that owns the answer; None where no run is known.
    :param at: when it said so.
    """

    span: EventWindow
    state: str
    task: Task | None = None
    at: datetime | None = None
    logical_date: datetime | None = None
    rows: int | None = None
    files: int | None = None
    manifest: str | None = None

    @property
    def published(self) -> bool:
        """Whether a manifest was written for it."""
        return self.rows is not None


@dataclass(slots=True)
class Calendar:
    """The windows of a destination that are exported with the same filters, in order of time, holes included.

    :param owner: the task that exported last.
    :param offset: from the start of its window to the logical date of its run; None where its runs have none.
    :param due: the next window of the owner's DAG, and whether that is paused.
    """

    destination: str
    filters: str
    names: Sequence[str]
    filtered_by: Sequence[str]
    zone: str
    windows: list[Window] = field(default_factory=list)
    owner: Task | None = None
    offset: timedelta | None = None
    due: EventWindow | None = None
    next_run: Due | None = None


def calendars(
    exports: Iterable[Record],
    checks: Iterable[Record],
    attempts: Mapping[Task, Attempt],
    due: Mapping[str, Due],
) -> list[Calendar]:
    """A calendar for each destination and filter that an export names.

    :param attempts: the tasks that have not succeeded; those without a record had no time to keep one.
    :param due: the next run of each DAG.
    """
    by_place: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(filter(_is_whole, exports), key=lambda record: record.at):
        by_place[record.value["destination"], record.value["filters"]].append(record)
    checked: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for check in sorted(filter(_is_whole, checks), key=lambda record: record.at):
        checked[check.value["destination"], check.value["filters"]].append(check)
    unrecorded = _unrecorded(attempts, {record.task for records in by_place.values() for record in records})
    return [_calendar(records, checked[place], attempts, unrecorded, due) for place, records in by_place.items()]


def _is_whole(record: Record) -> bool:
    """Whether a record can be read: any task may write one, and one that is wrong must not hide the others."""
    value = record.value
    try:
        EventWindow.from_dict(dict(value))
        _logical_date(record)
        for key in ("changed", "incomplete", "missing"):
            for window in value.get(key, ()):
                EventWindow.from_dict(window)
        for key, kind in _KINDS.items():
            if not isinstance(value[key], kind):
                raise TypeError(key)
    except (KeyError, TypeError, ValueError, PolarWindowError) as error:
        log.warning("The ledger leaves out what %s says of itself: %s", record.task, type(error).__name__)
        return False
    return True


def _unrecorded(attempts: Mapping[Task, Attempt], recorded: set[Task]) -> dict[tuple[str, str, int], list[Task]]:
    found = defaultdict(list)
    for task, attempt in attempts.items():
        if task not in recorded and attempt.logical_date is not None:
            found[task.dag_id, task.task_id, task.map_index].append(task)
    return found


def _calendar(
    records: Sequence[Record],
    checks: Sequence[Record],
    attempts: Mapping[Task, Attempt],
    unrecorded: Mapping[tuple[str, str, int], Sequence[Task]],
    due: Mapping[str, Due],
) -> Calendar:
    last = records[-1]
    calendar = Calendar(**{key: last.value[key] for key in _KINDS}, owner=last.task)
    claims = [claim for record in records for claim in _claims(record, attempts)]
    for model in _owners(records).values():
        offset, length = _shape(model)
        if offset is None:
            continue
        for task in unrecorded.get((model.task.dag_id, model.task.task_id, model.task.map_index), ()):
            state, logical_date = attempts[task]
            if logical_date is not None:
                start = logical_date - offset
                told = "exporting" if state in ACTIVE else "failed"
                claims.append(Window(EventWindow(start, start + length), told, task, None, logical_date))
    windows = _newest(claims)
    _apply(checks, windows)
    calendar.offset, length = _shape(last)
    calendar.next_run = due.get(last.task.dag_id)
    calendar.due = _next_window(calendar, length)
    until = calendar.due.start if calendar.due else windows[-1].span.end
    calendar.windows = [*_with_holes(_outermost(windows), until)]
    return calendar


def _owners(records: Iterable[Record]) -> dict[tuple[str, str, int], Record]:
    """The last record of each task."""
    return {(record.task.dag_id, record.task.task_id, record.task.map_index): record for record in records}


def _shape(record: Record) -> tuple[timedelta | None, timedelta]:
    """How a task's window lies to the logical date of its run, and its length."""
    window, logical_date = EventWindow.from_dict(dict(record.value)), _logical_date(record)
    return None if logical_date is None else logical_date - window.start, window.duration


def _logical_date(record: Record) -> datetime | None:
    text = record.value["logical_date"]
    return datetime.fromisoformat(text) if text else None


def _claims(record: Record, attempts: Mapping[Task, Attempt]) -> Iterator[Window]:
    value, about = record.value, (record.task, record.at, _logical_date(record))
    span = EventWindow.from_dict(dict(value))
    if "rows" not in value:
        # Where the task is not among the attempts, somebody has marked it a success: nothing is published.
        attempt = attempts.get(record.task)
        yield Window(span, "exporting" if attempt and attempt.state in ACTIVE else "failed", *about)
        return
    state = "exported" if value["complete"] else "incomplete"
    yield Window(span, state, *about, value["rows"], value["files"], value["manifest"])
    for changed in value["changed"]:
        name = changed["manifest"].rpartition("/")[2]
        yield Window(EventWindow.from_dict(changed), "exported", *about[:2], None, changed["rows"], None, name)


def _newest(claims: Iterable[Window]) -> list[Window]:
    """One of each window, in order: the newest that is published, else the newest; longer ones first."""
    newest: dict[EventWindow, Window] = {}
    for claim in claims:
        before = newest.get(claim.span)
        if before is None or not before.published or claim.published or claim.state == "exporting":
            newest[claim.span] = claim
    return sorted(newest.values(), key=lambda window: (window.span.start, -window.span.duration))


def _apply(checks: Iterable[Record], windows: Sequence[Window]) -> None:
    """Lets each check say what it found of the windows that were published before it."""
    starts = [window.span.start for window in windows]
    longest = max((window.span.duration for window in windows), default=timedelta(0))
    for check in checks:
        span = EventWindow.from_dict(dict(check.value))
        changed, incomplete, missing = (
            [EventWindow.from_dict(value) for value in check.value[key]] for key in ("changed", "incomplete", "missing")
        )
        for window in windows[bisect_right(starts, span.start - longest) : bisect_left(starts, span.end)]:
            if not window.published or window.span.end <= span.start or (window.at and window.at > check.at):
                continue
            if any(gap.start <= window.span.start and window.span.end <= gap.end for gap in missing):
                window.state = "hole"
            elif window.span in changed:
                window.state = "changed"
            elif window.span in incomplete:
                window.state = "incomplete"
            elif window.state != "incomplete":
                window.state = "verified"


def _outermost(windows: Iterable[Window]) -> Iterator[Window]:
    """Leaves out the windows within a published one, such as the shards that it was assembled of."""
    around: Window | None = None
    for window in windows:
        if around is not None and window.span.end <= around.span.end:
            continue
        if window.published:
            around = window
        yield window


def _with_holes(windows: Iterable[Window], until: datetime) -> Iterator[Window]:
    """The windows, and between them, and after them up to ``until``, those that should be there."""
    found = [*windows]
    usual = Counter(window.span.duration for window in found).most_common(1)[0][0]
    cursor = found[0].span.start
    for window in found:
        yield from _holes(cursor, window.span.start, usual)
        yield window
        cursor = max(cursor, window.span.end)
    yield from _holes(cursor, until, usual)


def _holes(start: datetime, end: datetime, usual: timedelta) -> Iterator[Window]:
    if start >= end:
        return
    gap = EventWindow(start, end)
    number, rest = divmod(gap.duration, usual)
    spans: Iterable[EventWindow] = [gap] if rest or number > _MOST_CELLS else gap.steps(usual)
    for span in spans:
        yield Window(span, "hole")


def _next_window(calendar: Calendar, length: timedelta) -> EventWindow | None:
    run = calendar.next_run
    try:
        if run is None:
            return None
        if run.interval is not None and calendar.offset == timedelta(0):
            return run.interval
        if run.logical_date is not None and calendar.offset is not None:
            start = run.logical_date - calendar.offset
            return EventWindow(start, start + length)
    except (OverflowError, PolarWindowError) as error:
        log.debug("The next window of %s cannot be told: %s", calendar.owner, error)
    return None

"""What is known of each window of each destination, from the records of exports and checks. Plain code, no I/O."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import msgspec

from airflow_provider_polar.engine.exporting.index import Entry
from airflow_provider_polar.engine.exporting.manifest import ExportName
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarWindowError

ACTIVE = ("queued", "scheduled", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule")
"""States of a task that is still to do its work."""
_PLACE = ("destination", "filters", "names", "filtered_by", "zone")
_NEVER = datetime.min.replace(tzinfo=UTC)
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


class _Again(msgspec.Struct):
    """An earlier window that was exported again."""

    start: datetime
    end: datetime
    rows: int
    manifest: str


class _Kept(msgspec.Struct):
    """What :mod:`.records` writes of an export or a check; ``rows`` and what follows of a published export."""

    destination: str
    filters: str
    names: list[str]
    filtered_by: list[str]
    zone: str
    start: datetime
    end: datetime
    logical_date: Annotated[datetime, msgspec.Meta(tz=True)] | None
    rows: int | None = None
    files: int | None = None
    complete: bool = True
    manifest: str | None = None
    again: list[_Again] = []
    changed: list[EventWindow] = []
    incomplete: list[EventWindow] = []
    missing: list[EventWindow] = []


class _Parsed(NamedTuple):
    """A record, and what its texts mean."""

    task: Task
    at: datetime
    value: _Kept
    span: EventWindow

    @property
    def place(self) -> tuple[str, str]:
        return self.value.destination, self.value.filters

    @property
    def logical_date(self) -> datetime | None:
        return self.value.logical_date

    @property
    def offset(self) -> timedelta | None:
        """From the window's start to the logical date of the run."""
        return None if self.logical_date is None else self.logical_date - self.span.start


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
    :param due: the next window of the owner's DAG.
    :param indexed: how many of the windows only the index of the destination knows.
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
    indexed: int = 0


def calendars(
    exports: Iterable[Record],
    checks: Iterable[Record],
    attempts: Mapping[Task, Attempt],
    due: Mapping[str, Due],
    indexed: Mapping[str, Mapping[ExportName, Entry]] = MappingProxyType({}),
) -> list[Calendar]:
    """A calendar for each destination and filter that an export names.

    :param attempts: the tasks that have not succeeded; those without a record had no time to keep one.
    :param due: the next run of each DAG.
    :param indexed: what the indexes of destinations say. It completes calendars, and makes none of its own: whose they
        would be is not known.
    """
    by_place: dict[tuple[str, str], list[_Parsed]] = defaultdict(list)
    for export in _parsed(exports):
        by_place[export.place].append(export)
    checked: dict[tuple[str, str], list[_Parsed]] = defaultdict(list)
    for check in _parsed(checks):
        checked[check.place].append(check)
    unrecorded = _unrecorded(attempts, {export.task for found in by_place.values() for export in found})
    return [
        _calendar(found, checked[place], attempts, unrecorded, due, [*_indexed(indexed.get(place[0], {}), place[1])])
        for place, found in by_place.items()
    ]


def _indexed(entries: Mapping[ExportName, Entry], filters: str) -> Iterator[Window]:
    for export, entry in entries.items():
        if export.filters_tag == filters:
            state = "exported" if entry.complete else "incomplete"
            known = (entry.rows, entry.files, export.manifest)
            yield Window(export.window, state, None, entry.at, None, *known)


def _parsed(records: Iterable[Record]) -> Iterator[_Parsed]:
    """The records, in order of time. Any task may write one, and one that is wrong must not hide the others."""
    for record in sorted(records, key=lambda record: record.at):
        try:
            value = msgspec.convert(record.value, _Kept)
            yield _Parsed(record.task, record.at, value, EventWindow(value.start, value.end))
        except (msgspec.ValidationError, PolarWindowError) as error:
            log.warning("The ledger leaves out what %s says of itself: %s", record.task, type(error).__name__)


def _unrecorded(attempts: Mapping[Task, Attempt], recorded: set[Task]) -> dict[tuple[str, str, int], list[Task]]:
    found = defaultdict(list)
    for task, attempt in attempts.items():
        if task not in recorded and attempt.logical_date is not None:
            found[task.dag_id, task.task_id, task.map_index].append(task)
    return found


def _calendar(
    exports: Sequence[_Parsed],
    checks: Sequence[_Parsed],
    attempts: Mapping[Task, Attempt],
    unrecorded: Mapping[tuple[str, str, int], Sequence[Task]],
    due: Mapping[str, Due],
    indexed: Sequence[Window],
) -> Calendar:
    last = exports[-1]
    calendar = Calendar(**{key: getattr(last.value, key) for key in _PLACE}, owner=last.task, offset=last.offset)
    claims = [claim for export in exports for claim in _claims(export, attempts)]
    claims += [claim for check in checks for claim in _again(check)]
    claims.sort(key=lambda claim: claim.at or _NEVER)
    # What Airflow remembers says more, so it goes before what an index says of the same window.
    claims = [*indexed, *claims]
    last_of_each = {(export.task.dag_id, export.task.task_id, export.task.map_index): export for export in exports}
    for key, model in last_of_each.items():
        claims += _supposed(model, {task: attempts[task] for task in unrecorded.get(key, ())})
    windows = _newest(claims)
    calendar.indexed = sum(window.published and window.task is None for window in windows)
    _apply(checks, windows)
    calendar.next_run = due.get(last.task.dag_id)
    calendar.due = _next_window(calendar, last.span.duration)
    until = calendar.due.start if calendar.due else windows[-1].span.end
    calendar.windows = [*_with_holes(_outermost(windows), until)]
    return calendar


def _supposed(model: _Parsed, attempts: Mapping[Task, Attempt]) -> Iterator[Window]:
    """The windows of runs that had no time to say theirs: they lie to their runs as that of the last one does."""
    for task, (state, logical_date) in attempts.items():
        if model.offset is not None and logical_date is not None:
            start = logical_date - model.offset
            told = "exporting" if state in ACTIVE else "failed"
            yield Window(EventWindow(start, start + model.span.duration), told, task, None, logical_date)


def _claims(export: _Parsed, attempts: Mapping[Task, Attempt]) -> Iterator[Window]:
    value, about = export.value, (export.task, export.at, export.logical_date)
    if value.rows is None:
        # Where the task is not among the attempts, somebody has marked it a success: nothing is published.
        attempt = attempts.get(export.task)
        yield Window(export.span, "exporting" if attempt and attempt.state in ACTIVE else "failed", *about)
        return
    state = "exported" if value.complete else "incomplete"
    yield Window(export.span, state, *about, value.rows, value.files, value.manifest)
    yield from _again(export)


def _again(record: _Parsed) -> Iterator[Window]:
    """Earlier windows that a look-back or a check has exported again."""
    for one in record.value.again:
        name = one.manifest.rpartition("/")[2]
        yield Window(EventWindow(one.start, one.end), "exported", record.task, record.at, None, one.rows, None, name)


def _newest(claims: Iterable[Window]) -> list[Window]:
    """One of each window, in order: the newest that is published, else the newest; longer ones first."""
    newest: dict[EventWindow, Window] = {}
    for claim in claims:
        before = newest.get(claim.span)
        if before is None or not before.published or claim.published or claim.state == "exporting":
            newest[claim.span] = claim
    return sorted(newest.values(), key=lambda window: (window.span.start, -window.span.duration))


def _apply(checks: Iterable[_Parsed], windows: Sequence[Window]) -> None:
    """Lets each check say what it found of the windows that were published before it."""
    starts = [window.span.start for window in windows]
    longest = max((window.span.duration for window in windows), default=timedelta(0))
    for check in checks:
        span, found = check.span, check.value
        for window in windows[bisect_right(starts, span.start - longest) : bisect_left(starts, span.end)]:
            if not window.published or window.span.end <= span.start or (window.at and window.at >= check.at):
                continue
            if any(gap.start <= window.span.start and window.span.end <= gap.end for gap in found.missing):
                window.state = "hole"
            elif window.span in found.changed:
                window.state = "changed"
            elif window.span in found.incomplete:
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

"""What the ledger makes of records: one answer for each window, and a hole where there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.plugins.ledger.calendars import Attempt, Calendar, Due, Record, Task, calendars

DAY = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hour(number: float, length: float = 1) -> EventWindow:
    return EventWindow(DAY + number * HOUR, DAY + (number + length) * HOUR)


def task(name: Any, task_id: str = "export") -> Task:
    return Task("lake", task_id, f"run {name}", -1)


def record(window: EventWindow, *, at: float = 100, run: Any = None, logical: bool = True, **value: Any) -> Record:
    """Of an export that has begun, or, with rows, has published."""
    if "rows" in value:
        value = {"files": 1, "complete": True, "manifest": "m", "again": []} | value
    place = {"destination": "file:///lake", "filters": "", "names": [], "filtered_by": [], "zone": "UTC"}
    moment = (window.end if logical else None) and window.end.isoformat()
    name = window.start.isoformat() if run is None else run
    return Record(task(name), DAY + at * HOUR, {**place, **window.to_dict(), "logical_date": moment, **value})


def check(window: EventWindow, *, at: float = 200, **found: list[EventWindow]) -> Record:
    differences = {key: [w.to_dict() for w in found.get(key, [])] for key in ("changed", "incomplete", "missing")}
    return record(window, at=at, run="check", **differences)


def one(exports: list[Record], checks: Any = (), attempts: Any = None, due: Any = None) -> Calendar:
    [calendar] = calendars(exports, checks, attempts or {}, due or {})
    return calendar


def states(calendar: Calendar) -> list[str]:
    return [window.state for window in calendar.windows]


def test_a_gap_is_as_many_holes_as_windows_are_missing() -> None:
    calendar = one([record(hour(0), rows=1), record(hour(1), rows=0), record(hour(4), rows=2)])
    assert states(calendar) == ["exported", "exported", "hole", "hole", "exported"]
    assert [window.span for window in calendar.windows] == [hour(n) for n in range(5)]


def test_a_gap_that_is_no_number_of_windows_is_one_hole() -> None:
    calendar = one([record(hour(0), rows=1), record(hour(1.5), rows=1)])
    assert calendar.windows[1].span == hour(1, 0.5)


@pytest.mark.parametrize(
    ("state", "told"), [("running", "exporting"), ("deferred", "exporting"), ("failed", "failed"), (None, "failed")]
)
def test_an_export_without_a_result_is_what_its_task_is(state: str | None, told: str) -> None:
    """One that was marked a success is not among the attempts, and has published nothing."""
    mine = record(hour(0))
    assert states(one([mine], attempts={mine.task: Attempt(state, None)} if state else {})) == [told]


def test_a_failure_takes_nothing_away_that_is_published() -> None:
    again = record(hour(0), at=101, run="again")
    calendar = one([record(hour(0), rows=1), again], attempts={again.task: Attempt("failed", None)})
    assert states(calendar) == ["exported"]
    assert states(one([record(hour(0), rows=1), again], attempts={again.task: Attempt("running", None)})) == [
        "exporting"
    ]


def test_published_without_all_is_incomplete() -> None:
    exports = [record(hour(0), rows=1, complete=False)]
    assert states(one(exports)) == ["incomplete"]
    assert states(one(exports, [check(hour(0))])) == ["incomplete"]


def test_a_check_speaks_of_what_was_exported_before_it() -> None:
    exports = [record(hour(n), rows=1) for n in range(5)] + [record(hour(5), rows=1, at=300)]
    found = check(hour(1, 9), changed=[hour(2)], incomplete=[hour(3)], missing=[hour(4)])
    assert states(one(exports, [found])) == ["exported", "verified", "changed", "incomplete", "hole", "exported"]


def test_the_last_check_counts() -> None:
    exports = [record(hour(0), rows=1)]
    first, second = check(hour(0), at=200, changed=[hour(0)]), check(hour(0), at=201)
    assert states(one(exports, [second, first])) == ["verified"]
    assert states(one([*exports, record(hour(0), rows=2, at=202, run="again")], [first, second])) == ["exported"]


def test_a_check_of_a_range_is_about_windows_over_its_edges_too() -> None:
    assert states(one([record(hour(0, 24), rows=1)], [check(hour(23, 4))])) == ["verified"]


def test_a_look_back_exports_earlier_windows_again() -> None:
    changed = {**hour(0).to_dict(), "manifest": "file:///lake/new", "rows": 9}
    exports = [record(hour(0), rows=1), record(hour(1), rows=1, at=101, again=[changed])]
    calendar = one(exports, [check(hour(0, 2), at=100.5, changed=[hour(0)])])
    assert states(calendar) == ["exported", "exported"]
    assert (calendar.windows[0].rows, calendar.windows[0].task) == (9, exports[1].task)


def test_a_check_may_export_again_what_it_finds() -> None:
    found = check(hour(0, 2), changed=[hour(0)])
    again = {**hour(0).to_dict(), "manifest": "file:///lake/new", "rows": 9}
    found = found._replace(value={**found.value, "again": [again]})
    calendar = one([record(hour(0), rows=1), record(hour(1), rows=1)], [found])
    assert [(window.state, window.rows) for window in calendar.windows] == [("exported", 9), ("verified", 1)]
    assert calendar.windows[0].task == found.task


def test_shards_give_way_to_what_is_made_of_them() -> None:
    shards = [record(hour(n), rows=1) for n in range(4)]
    assert len(one(shards).windows) == 4
    calendar = one([*shards, record(hour(0, 4), rows=4, at=101, run="assemble")])
    assert [(window.span, window.rows) for window in calendar.windows] == [(hour(0, 4), 4)]


def test_a_run_that_failed_before_it_knew_its_window_is_no_hole() -> None:
    exports = [record(hour(0), rows=1), record(hour(3), rows=1)]
    attempts = {
        task(1): Attempt("failed", hour(1).end),
        task(2): Attempt("running", hour(2).end),
        task("another task", "other"): Attempt("failed", hour(2).end),
    }
    calendar = one(exports, attempts=attempts)
    assert states(calendar) == ["exported", "failed", "exporting", "exported"]
    assert calendar.windows[1].task == task(1)


def test_what_should_have_been_exported_before_the_next_run_is_a_hole() -> None:
    next_run = Due(None, hour(4).end, hour(4).end, False)
    calendar = one([record(hour(0), rows=1), record(hour(1), rows=1)], due={"lake": next_run})
    assert states(calendar) == ["exported", "exported", "hole", "hole"]
    assert (calendar.due, calendar.offset) == (hour(4), HOUR)


def test_of_a_run_without_a_date_nothing_is_said_about_the_next() -> None:
    calendar = one([record(hour(0), rows=1, logical=False)], due={"lake": Due(None, hour(4).end, DAY, False)})
    assert (calendar.due, calendar.offset, states(calendar)) == (None, None, ["exported"])


def test_destinations_and_filters_have_calendars_of_their_own() -> None:
    elsewhere = record(hour(0), rows=1, destination="s3://lake", run=1)
    filtered = record(hour(0), rows=1, filters="_12345678", names=["order.paid"], run=2)
    found = calendars([record(hour(0), rows=1), elsewhere, filtered], [check(hour(0))], {}, {})
    assert [(c.destination, c.filters, states(c)) for c in found] == [
        ("file:///lake", "", ["verified"]),
        ("s3://lake", "", ["exported"]),
        ("file:///lake", "_12345678", ["exported"]),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 1},
        {"end": "2026"},
        {"end": "2026-10-31T00:00:00Z"},
        {"zone": None},
        {"logical_date": "soon"},
        {"logical_date": "2026-11-01T00:00:00"},
        {"rows": "many"},
        {"rows": 1, "again": [3]},
        {"rows": 1, "again": [{**hour(0).to_dict(), "rows": 1}]},
        {"changed": [{"start": "2026-11-01T00:00:00Z"}]},
    ],
)
def test_a_record_that_somebody_wrote_wrongly_hides_no_other(wrong: dict[str, Any]) -> None:
    broken = record(hour(1), run="broken")
    broken = broken._replace(value={**broken.value, **wrong})
    assert states(one([record(hour(0), rows=1), broken])) == ["exported"]

"""Which slices a window is planned in."""

from __future__ import annotations

from itertools import pairwise

import pytest

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.reading.slices import Plan, TargetRows, plan_slices
from airflow_provider_polar.engine.window import EventWindow
from tests.unit.engine.listing import Client
from tests.unit.engine.reading.index import DAY, Index, Indexed, moment

WINDOW = EventWindow(DAY, moment(86_400_000))


def plan(index: Index, target_rows: TargetRows) -> Plan:
    planned = drive(Client(index), plan_slices(WINDOW, EventFilters(), target_rows=target_rows))  # type: ignore[arg-type]
    windows = [window for window, _ in planned.slices]
    assert (windows[0].start, windows[-1].end) == (WINDOW.start, WINDOW.end)
    assert all(one.end == other.start for one, other in pairwise(windows))
    assert all(count >= 0 for _, count in planned.slices)
    return planned


def index(count: int, apart: int = 1_000, **more) -> Index:  # type: ignore[no-untyped-def]
    return Index([Indexed(n, n * apart, **more) for n in range(count)])


@pytest.mark.parametrize(
    ("events", "target", "counts"),
    [
        (0, 10, [0]),
        (10, 10, [10]),
        (11, 10, [10, 1]),
        (30, 10, [10, 10, 10]),
        (3, 1, [1, 1, 1]),
        (30, lambda total: total // 2, [15, 15]),
    ],
)
def test_of_so_many_events_each(events: int, target: TargetRows, counts: list[int]) -> None:
    assert [count for _, count in plan(index(events), target).slices] == counts


def test_none_of_no_event() -> None:
    with pytest.raises(ValueError, match="target_rows is 0; it must be at least 1"):
        plan(index(3), 0)


def test_a_window_of_one_slice_is_read_from_the_response_that_planned_it() -> None:
    one, several = plan(index(10), 10), plan(index(30), 10)
    assert one.page is not None
    assert len(one.page.rows) == 10
    assert several.page is None


def test_boundaries_are_whole_seconds_and_in_a_burst_milliseconds() -> None:
    edges = [window.start for window, _ in plan(index(40, apart=1_007), 10).slices[1:]]
    assert edges == [moment(n * 10_070 // 1_000 * 1_000) for n in (1, 2, 3)]
    edges = [window.start for window, _ in plan(index(40, apart=7), 10).slices[1:]]
    assert edges == [moment(n * 70) for n in (1, 2, 3)]
    assert len(plan(index(40, apart=0), 10).slices) == 1


def test_fewer_events_than_at_first_end_the_plan() -> None:
    shrinking = index(100)

    def shrink(index: Index) -> None:
        if index.requests == 4:
            del index.events[50:]

    shrinking.before_request = shrink
    assert [count for _, count in plan(shrinking, 30).slices] == [30, 30, 0]


@pytest.mark.parametrize(("hidden", "slices"), [(1, 10), (2, 10), (3, 9)])
def test_places_that_give_no_row_move_a_boundary_or_join_two_slices(hidden: int, slices: int) -> None:
    events = [Indexed(n, n * 1_000, given=not 20 <= n < 20 + hidden) for n in range(100)]
    assert len(plan(Index(events), 10).slices) == slices
    none = [Indexed(n, n * 1_000, given=n < 20) for n in range(1_000)]
    several = Index(none)
    assert len(plan(several, 10).slices) == 2
    assert several.requests < 15, "planning must not ask for every place of what is not given"

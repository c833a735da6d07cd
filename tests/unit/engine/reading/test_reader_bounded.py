"""Servers that lie: the reader's decisions fed by hand. No responses make it loop, none make it claim a proof."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.rows import EventRow, RowPage, to_ms
from airflow_provider_polar.engine.drive import Steps, drive
from airflow_provider_polar.engine.reading.slices import find_changed, plan_slices
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError
from tests.unit.engine.listing import Client
from tests.unit.engine.reading.index import read, stream

DAY = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = EventWindow(DAY, DAY + timedelta(days=1))
NO_FILTERS = EventFilters()
Server = Callable[[dict[str, str]], RowPage]
Reading = Callable[..., tuple[list[EventRow], Any]]
T = TypeVar("T")


def row(number: int, ms: int) -> EventRow:
    moment = datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)
    return EventRow(
        {
            "id": msgspec.Raw(f'"{number:032x}"'.encode()),
            "timestamp": msgspec.Raw(f'"{moment.isoformat()}"'.encode()),
            "name": msgspec.Raw(b'"call"'),
            "metadata": msgspec.Raw(b'{"n":%d}' % (number % 1000)),
        }
    )


def after(params: dict[str, str]) -> int:
    """The request's exclusive lower bound in milliseconds."""
    return to_ms(datetime.fromisoformat(params["start_timestamp"]))


def before(params: dict[str, str]) -> int:
    """The request's exclusive upper bound in milliseconds."""
    return to_ms(datetime.fromisoformat(params["end_timestamp"]))


class Bounded:
    """Responds as a server does, and fails the test after so many requests."""

    def __init__(self, server: Server, most: int) -> None:
        self.server, self.most, self.requests = server, most, 0

    def __call__(self, request: PolarRequest) -> RowPage:
        self.requests += 1
        if self.requests > self.most:
            pytest.fail(f"still requesting after {self.most} requests")
        return self.server(dict(request.params))


def read_all(server: Server, most: int, window: EventWindow = WINDOW) -> tuple[list[EventRow], Any]:
    return read(window, Bounded(server, most))


def stream_all(server: Server, most: int) -> tuple[list[EventRow], Any]:
    return stream(WINDOW, Bounded(server, most))


def always_more(params: dict[str, str]) -> RowPage:
    """A full page of new events a millisecond apart, whatever is requested, and as many to come."""
    start = after(params) + 1
    return RowPage([row(ms, ms) for ms in range(start, min(start + 100, before(params)))], 500)


def always_empty(params: dict[str, str]) -> RowPage:
    return RowPage([], 10**9)


def one_row_a_page(params: dict[str, str]) -> RowPage:
    return RowPage([row(after(params) + 1, after(params) + 1)], 4_000)


def the_same_hundred(params: dict[str, str]) -> RowPage:
    """One moment that no split makes smaller."""
    ms = to_ms(DAY) + 1
    held = after(params) < ms < before(params)
    return RowPage([row(n, ms) for n in range(100)] if held else [], 10**6 if held else 0)


def rows_from_before(params: dict[str, str]) -> RowPage:
    return RowPage([row(n, after(params) - 5_000 + n) for n in range(100)], 300)


def rows_from_after(params: dict[str, str]) -> RowPage:
    return RowPage([row(n, to_ms(WINDOW.end) + n) for n in range(100)], 300)


@pytest.mark.parametrize(
    "server",
    [always_more, always_empty, one_row_a_page, the_same_hundred],
)
@pytest.mark.parametrize("read_window", [read_all, stream_all])
def test_work_is_bounded(server: Server, read_window: Reading) -> None:
    rows, report = read_window(server, most=40_000)
    assert report.missing
    assert len({item.id for item in rows}) == len(rows) == report.rows
    assert rows == sorted(rows, key=lambda item: (item.timestamp, item.id))


@pytest.mark.parametrize("server", [rows_from_before, rows_from_after])
@pytest.mark.parametrize("read_window", [read_all, stream_all])
def test_rows_that_were_not_requested_are_refused(server: Server, read_window: Reading) -> None:
    with pytest.raises(PolarIncompleteError, match="outside the bounds"):
        read_window(server, most=1_000)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(), most_rows=st.integers(0, 100), most_counted=st.sampled_from([1, 99, 101, 5_000]))
def test_nonsense_is_bounded_and_stays_in_order(seed: int, most_rows: int, most_counted: int) -> None:
    rng = random.Random(seed)

    def server(params: dict[str, str]) -> RowPage:
        low, high = after(params), before(params)
        base = rng.choice([low + 1, high - 50])
        moments = [base + rng.randrange(200) for _ in range(rng.randint(0, most_rows))]
        rows = [row(rng.randrange(10**6), ms) for ms in moments if low < ms < high]
        return RowPage(rows, rng.randint(0, most_counted))

    rows, report = read_all(server, most=60_000)
    assert all(item.timestamp in WINDOW for item in rows)
    assert [item.timestamp for item in rows] == sorted(item.timestamp for item in rows)
    assert report.rows == len(rows)


class Index:
    """An honest server of given milliseconds, that a test can make dishonest."""

    def __init__(self, moments: list[int]) -> None:
        self.rows = [row(n, ms) for n, ms in enumerate(sorted(moments))]
        self.hidden: set[str] = set()

    def __call__(self, params: dict[str, str]) -> RowPage:
        low, high = after(params), before(params)
        found = [item for item in self.rows if low < item.ms < high]
        limit = int(params.get("limit", 100))
        first = (int(params.get("page", 1)) - 1) * limit
        page = [item for item in found[first : first + limit] if item.id not in self.hidden]
        return RowPage(page, len(found) if first < len(found) else 0)


def test_a_loss_masked_by_an_arrival_is_seen_by_the_final_count() -> None:
    """A row left out of a page, and another that arrives ahead before the next: the running counts agree."""
    start = to_ms(DAY)
    index = Index([start + 10 * n for n in range(150)])
    index.hidden = {index.rows[50].id}
    asked = 0

    def server(params: dict[str, str]) -> RowPage:
        nonlocal asked
        asked += 1
        if asked == 2:
            index.hidden = set()
            index.rows.append(row(999, start + 10_000))
        return index(params)

    rows, report = read_all(server, most=100)
    assert len(rows) == 150
    assert report.proved
    changed, _ = _driven(find_changed([report], NO_FILTERS), index)
    assert changed == [WINDOW]
    rows, report = stream_all(index, most=100)
    assert len(rows) == 151
    assert not report.missing


def test_an_absurd_first_count_costs_next_to_nothing() -> None:
    index = Index([to_ms(DAY) + 1_000 * n for n in range(1_000)])

    def server(params: dict[str, str]) -> RowPage:
        page = index(params)
        return RowPage(page.rows, 10**9 if next(requests) == 1 else page.total_count)

    requests = itertools.count(1)
    rows, report = read_all(server, most=40)
    assert (len(rows), report.proved, report.counted) == (1_000, True, 1_000)
    assert report.requests <= 13
    requests = itertools.count(1)
    plan, planned = _driven(plan_slices(WINDOW, NO_FILTERS, target_rows=100), server)
    assert planned <= 11
    assert len(plan.slices) <= 11  # type: ignore[attr-defined]


def test_an_absurd_count_of_a_discrepancy_costs_next_to_nothing() -> None:
    """A row is left out of the first page, so the rest and the stretch are requested again; both counts are absurd."""
    index = Index([to_ms(DAY) + 1_000 * n for n in range(60)])
    requests = itertools.count(1)

    def server(params: dict[str, str]) -> RowPage:
        number = next(requests)
        page = index(params)
        return RowPage(page.rows[: 59 if number == 1 else 100], 10**9 if number in (2, 3) else page.total_count)

    rows, report = read_all(server, most=60)
    assert (len(rows), report.proved, report.counted) == (60, True, 60)


def test_a_count_of_a_discrepancy_that_stays_absurd_is_not_examined_for_ever() -> None:
    """The same, but every count is absurd that is not narrowed to the rows that are known."""
    index = Index([to_ms(DAY) + 1_000 * n for n in range(60)])

    def server(params: dict[str, str]) -> RowPage:
        page = index(params)
        return RowPage(page.rows, page.total_count if any("[" in name for name in params) else 10**9)

    rows, report = read_all(server, most=40_000)
    assert (len(rows), report.proved) == (60, False)


def test_a_count_that_stays_absurd_is_planned_no_further_than_there_are_rows() -> None:
    index = Index([to_ms(DAY) + 1_000 * n for n in range(1_000)])

    def server(params: dict[str, str]) -> RowPage:
        return RowPage(index(params).rows, 10**9)

    _, planned = _driven(plan_slices(WINDOW, NO_FILTERS, target_rows=100), server)
    assert planned < 30


def _driven(steps: Steps[T], server: Server) -> tuple[T, int]:
    """The result of the steps, and how many requests they took."""
    bounded = Bounded(server, 10_000)
    return drive(Client(bounded), steps), bounded.requests  # type: ignore[arg-type]


def test_a_changed_slice_is_found_by_halving() -> None:
    index = Index([to_ms(DAY) + 60_000 * n for n in range(1_024)])
    reports = []
    for window in WINDOW.split(64):
        _, report = read_all(index, 100, window)
        reports.append(report)
    index.rows.append(row(5_000, to_ms(DAY) + 7_000_001))
    changed, requests = _driven(find_changed(reports, NO_FILTERS), index)
    assert changed == [window for window in WINDOW.split(64) if DAY + timedelta(milliseconds=7_000_001) in window]
    assert requests <= 2 * 6 + 1


def test_plans_skip_places_that_the_store_lacks() -> None:
    index = Index([to_ms(DAY) + 1_000 * n for n in range(1_000)])
    index.hidden = {item.id for item in index.rows[300:400]}
    plan, _ = _driven(plan_slices(WINDOW, NO_FILTERS, target_rows=250), index)  # type: ignore[arg-type]
    assert [count for _, count in plan.slices] == [250, 250, 250, 250]  # type: ignore[misc]
    index.hidden = {item.id for item in index.rows[240:260]}
    plan, _ = _driven(plan_slices(WINDOW, NO_FILTERS, target_rows=250), index)  # type: ignore[arg-type]
    assert [count for _, count in plan.slices] == [500, 250, 250]  # type: ignore[misc]

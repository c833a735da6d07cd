"""The complete reader on a local Polar with its traps on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import Any

import pytest

from airflow_provider_polar.api.client import AsyncPolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.drive import adrive
from airflow_provider_polar.engine.reading.forward import read_slice
from airflow_provider_polar.engine.reading.queries import count_window
from airflow_provider_polar.engine.reading.slices import find_changed, plan_slices
from airflow_provider_polar.engine.reading.streaming import WindowStream
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarIncompleteError
from tests.unit.engine.reading.reading import DAY, MICROSECOND, TOKEN, WINDOW, Readings, event, readings, scattered

NOON = DAY + timedelta(hours=12)


@pytest.fixture
def polar() -> Iterator[Readings]:
    with readings() as reading:
        yield reading


def by_pages(reading: Readings, window: EventWindow = WINDOW) -> set[str]:
    """What a reader of pages gets, with the window's own bounds."""
    ids, page = set(), 1
    while items := reading.client.list(
        start_timestamp=window.start, end_timestamp=window.end, page=page, limit=100, sorting="timestamp"
    ).items:
        ids |= {item.id for item in items}
        page += 1
    return ids


# Ordinary data, and what it costs


@pytest.mark.parametrize(
    ("events", "overhead"),
    [
        pytest.param(scattered(6_000), 1.05, id="microseconds"),
        pytest.param(scattered(6_000, within=timedelta(hours=1), seconds=1), 1.05, id="whole seconds"),
        pytest.param(scattered(6_000, within=timedelta(minutes=5), seconds=1), 1.25, id="20 a second"),
        pytest.param([event(DAY + timedelta(minutes=i // 60), n=i) for i in range(6_000)], 1.7, id="60 a minute"),
        pytest.param([event(DAY + timedelta(minutes=i // 200), n=i) for i in range(6_000)], 2.6, id="200 a minute"),
    ],
)
def test_gives_every_event_once(polar: Readings, events: list[dict[str, Any]], overhead: float) -> None:
    polar.polar.add_events(events)
    report = polar.read()
    assert polar.ids == polar.truth()
    assert report.proved
    assert report.counted == len(events)
    assert report.requests <= ceil(len(events) / 100) * overhead + 1


def test_pages_lose_what_it_gives(polar: Readings) -> None:
    """The trap is real: on this server, pages lose events at the window's edge and in ties."""
    polar.polar.add_events([event(DAY), *scattered(3_000, within=timedelta(minutes=10), seconds=1)])
    lost = polar.truth() - by_pages(polar)
    assert len(lost) > 5
    polar.read()
    assert polar.ids == polar.truth()


def test_nothing_at_all_is_one_request(polar: Readings) -> None:
    assert polar.read().requests == 1


# Edges


def edge_moments() -> list[datetime]:
    rng = random.Random(7)
    edges = [DAY + timedelta(seconds=s) for s in (0, 1, 2, 60)]
    edges += [DAY + timedelta(milliseconds=rng.randrange(60_000)) for _ in range(6)]
    edges += [DAY + timedelta(microseconds=rng.randrange(60_000_000)) for _ in range(6)]
    steps = [timedelta(0), MICROSECOND, timedelta(microseconds=999), timedelta(milliseconds=1), timedelta(seconds=1)]
    return sorted({edge + sign * step for edge in edges for step in steps for sign in (1, -1)})


def test_adjacent_windows_meet(polar: Readings) -> None:
    """200 pairs of adjacent windows over events on, and right beside, every kind of edge."""
    rng = random.Random(11)
    moments = edge_moments()
    polar.polar.add_events([event(moment, n=n) for n, moment in enumerate(moments * 2)])
    for _ in range(200):
        first, middle, last = sorted(rng.sample(moments, 3))
        got = []
        for window in (EventWindow(first, middle), EventWindow(middle, last)):
            assert polar.read(window).proved
            assert polar.ids == polar.truth(window)
            got += [row.id for row in polar.rows]
        assert len(got) == len(set(got))
        assert set(got) == polar.truth(EventWindow(first, last))


def test_pages_lose_the_edge(polar: Readings) -> None:
    polar.polar.add_events([event(DAY), event(NOON), event(NOON - MICROSECOND)])
    halves = [EventWindow(DAY, NOON), EventWindow(NOON, WINDOW.end)]
    assert len(by_pages(polar, halves[0]) | by_pages(polar, halves[1])) == 1
    assert sum(polar.read(half).rows for half in halves) == 3


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_998, tzinfo=UTC),
    ],
)
def test_windows_of_a_microsecond_in_any_year(polar: Readings, moment: datetime) -> None:
    beside = [moment + MICROSECOND] + ([moment - MICROSECOND] if moment.microsecond else [])
    polar.polar.add_events([event(at) for at in (moment, *beside)])
    polar.read(EventWindow(moment, moment + MICROSECOND))
    assert [row.timestamp for row in polar.rows] == [moment]


# A moment with more than a page of events


@pytest.mark.parametrize(
    ("events", "most"),
    [
        pytest.param([event(NOON, n=n, customer=f"c{n}") for n in range(5_000)], 150, id="a number each"),
        pytest.param([event(NOON, n=n % 700 / 8) for n in range(1_500)], 60, id="fractions"),
        pytest.param([event(NOON, n=n**3 - 10**8) for n in range(1_500)], 60, id="numbers beyond 32 bits"),
        pytest.param([event(NOON, path=f"/r/{n:04}é") for n in range(1_500)], 60, id="texts"),
        pytest.param([event(NOON, name=f"n{n % 300}") for n in range(1_500)], 60, id="names"),
        pytest.param([event(NOON, customer=f"c{n % 30}") for n in range(1_500)], 60, id="customers"),
        pytest.param([event(NOON, a=bool(n % 2), b=bool(n // 2 % 2)) for n in range(300)], 15, id="booleans"),
        pytest.param([event(NOON, **({"n": n} if n % 3 else {})) for n in range(200)], 15, id="a key that some lack"),
        pytest.param([event(NOON) for _ in range(300)], 40, id="nothing that tells them apart"),
    ],
)
def test_a_moment_with_more_than_a_page(polar: Readings, events: list[dict[str, Any]], most: int) -> None:
    polar.polar.add_events([*events, *scattered(300)])
    assert len(by_pages(polar)) < len(events) + 300
    report = polar.read()
    assert polar.ids == polar.truth()
    assert report.proved
    assert report.requests <= most + 6


def test_events_that_nothing_tells_apart_are_given_up_in_the_end(polar: Readings) -> None:
    polar.polar.add_events([event(NOON) for _ in range(101)])
    polar.polar.add_events([event(NOON) for _ in range(30)], store=False)
    report = polar.read()
    (spot,) = report.missing
    assert spot.start == NOON
    assert spot.end == NOON + timedelta(milliseconds=1)
    assert spot.counted == 131
    assert spot.given == report.rows <= 101
    assert report.requests < 100


@pytest.mark.parametrize(
    "filters",
    [
        {"external_customer_id": ["c3", "c4", "c5", "absent"]},
        {"name": ["a", "b"], "filter": {"conjunction": "or", "clauses": [
            {"property": "n", "operator": "lt", "value": 300}, {"property": "n", "operator": "gte", "value": 900}]}},
        {"metadata": {"kind": ["1", "2"]}, "source": "user"},
    ],
)  # fmt: skip
def test_narrowing_keeps_within_the_users_filters(polar: Readings, filters: dict[str, Any]) -> None:
    polar.polar.add_events(event(NOON, name="abc"[n % 3], customer=f"c{n % 7}", n=n, kind=n % 4) for n in range(1_400))
    polar.filters = filters
    report = polar.read()
    assert report.proved
    values = [row.to_dict() for row in polar.rows]
    expected = [item for item in polar.polar.events() if _matches(item, filters)]
    assert {value["id"] for value in values} == {item["id"] for item in expected}
    assert len(expected) > 100


def _matches(item: dict[str, Any], filters: dict[str, Any]) -> bool:
    n = item["metadata"]["n"]
    return (
        item["external_customer_id"] in filters.get("external_customer_id", [item["external_customer_id"]])
        and item["name"] in filters.get("name", [item["name"]])
        and str(item["metadata"]["kind"]) in filters.get("metadata", {}).get("kind", [str(item["metadata"]["kind"])])
        and ("filter" not in filters or n < 300 or n >= 900)
    )


# The index and the store disagree


def test_rows_in_the_index_only_are_named(polar: Readings) -> None:
    polar.polar.add_events(scattered(2_000))
    lost = sorted(scattered(3, seed=2), key=lambda item: item["timestamp"])
    polar.polar.add_events(lost, store=False)
    report = polar.read()
    assert polar.ids == polar.truth()
    assert not report.proved
    assert report.counted == 2_003
    assert [(spot.counted, spot.given) for spot in report.missing] == [(1, 0)] * 3
    for spot, item in zip(report.missing, lost, strict=True):
        assert spot.start <= item["timestamp"] < spot.end
        assert spot.end - spot.start < timedelta(minutes=10)
        assert "not given" in spot.reason
    assert report.requests < 21 + 3 * 24


@pytest.mark.parametrize("given", [0, 400])
def test_many_rows_in_the_index_only(polar: Readings, given: int) -> None:
    polar.polar.add_events(scattered(given))
    polar.polar.add_events(scattered(2_000, seed=2), store=False)
    report = polar.read()
    assert polar.ids == polar.truth()
    assert report.lost == 2_000
    assert report.requests < 1_000


def test_the_iterator_says_what_is_missing_after_the_rows(polar: Readings) -> None:
    polar.polar.add_events(scattered(200))
    polar.polar.add_events([event(NOON)], store=False)
    rows = polar.reader.iter_rows(WINDOW)
    got = [next(rows).id for _ in range(200)]
    assert set(got) == polar.truth()
    with pytest.raises(PolarIncompleteError, match="1 events") as caught:
        next(rows)
    assert caught.value.missing[0]["counted"] == 1
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("collapsed", [False, True])
def test_rows_counted_twice_are_given_once(collapsed: bool) -> None:
    with readings(collapse_duplicates=collapsed) as polar:
        polar.polar.add_events(scattered(1_000))
        polar.polar.add_events(scattered(4, seed=2), copies=2)
        polar.polar.add_events([event(NOON, n=n) for n in range(150)])
        polar.polar.add_events([event(NOON, n=777)], copies=3)
        report = polar.read()
        assert polar.ids == polar.truth()
        assert report.proved
        assert report.repeated == 4 + 2
        assert report.counted == 1_000 + 8 + 150 + 3


@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize(("given", "same"), [(1, False), (2, True)])
def test_a_row_that_is_not_given_is_not_taken_for_a_repetition(collapsed: bool, given: int, same: bool) -> None:
    """In each of a dozen milliseconds, as places in a millisecond are a matter of chance."""
    hours = [DAY + timedelta(hours=hour) for hour in range(12)]
    with readings(collapse_duplicates=collapsed) as polar:
        polar.polar.add_events([event(hour, n=1) for hour in hours for _ in range(given)])
        polar.polar.add_events([event(hour, n=1 if same else 2) for hour in hours], store=False)
        reports = [polar.read(EventWindow(hour, hour + timedelta(hours=1))) for hour in hours]
        assert [(report.rows, report.repeated, report.lost) for report in reports] == [(given, 0, 1)] * 12


def test_alike_events_of_which_half_are_not_given_are_never_complete() -> None:
    """120 milliseconds in one window: each holds an event, and one like it that the store lacks."""
    moments = [DAY + timedelta(minutes=minute) for minute in range(120)]
    with readings(collapse_duplicates=True) as polar:
        polar.polar.add_events([event(moment, n=n) for n, moment in enumerate(moments)])
        polar.polar.add_events([event(moment, n=n) for n, moment in enumerate(moments)], store=False)
        report = polar.read()
        assert polar.ids == polar.truth()
        assert (report.rows, report.repeated, report.lost) == (120, 0, 120)


def bare(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Events that nothing but their time tells apart."""
    return [event(item["timestamp"]) for item in scattered(count, seed)]


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("once", "twice", "most"),
    [
        pytest.param(scattered(6_298), scattered(500, seed=2), 150, id="500 of 6,798"),
        pytest.param(
            scattered(6_298, within=HOUR, seconds=1), scattered(500, 2, HOUR, seconds=1), 150, id="on whole seconds"
        ),
        pytest.param([], scattered(600), 60, id="all of 600"),
        pytest.param([], bare(600), 90, id="all of 600 that only time tells apart"),
        pytest.param([], [event(NOON, n=n) for n in range(600)], 120, id="all of 600 of one millisecond"),
        pytest.param(bare(1_900), bare(20, seed=2), 400, id="a few that only time tells apart"),
        pytest.param([event(NOON, n=n) for n in range(60)], [event(NOON, n=99)], 40, id="one in a shared millisecond"),
        pytest.param([], [event(NOON)], 30, id="one alone"),
    ],
)
def test_events_counted_twice_cost_about_their_rows(
    once: list[dict[str, Any]], twice: list[dict[str, Any]], most: int
) -> None:
    with readings(collapse_duplicates=True) as polar:
        polar.polar.add_events(once)
        polar.polar.add_events(twice, copies=2)
        report = polar.read()
        assert polar.ids == polar.truth()
        assert report.proved
        assert report.repeated == len(twice)
        assert report.requests <= most
        assert polar.reader.verify([report]) == []


def test_events_not_given_are_found_among_many_counted_twice() -> None:
    with readings(collapse_duplicates=True) as polar:
        polar.polar.add_events(scattered(6_298))
        polar.polar.add_events(scattered(500, seed=2), copies=2)
        polar.polar.add_events(scattered(5, seed=3), store=False)
        report = polar.read()
        assert polar.ids == polar.truth()
        assert (report.rows, report.repeated, report.lost) == (6_798, 500, 5)


@pytest.mark.parametrize("value", [1.25, 5.0, 1e300, -(2.0**31), 2**31, 10**30, True, False, "", "true"])
def test_any_value_in_metadata_can_be_counted_twice(value: Any) -> None:
    """A number that is no 32-bit integer cannot be filtered by, and must not be tried out."""
    cost = {"amount": value, "currency": "usd"}
    with readings(collapse_duplicates=True) as polar:
        polar.polar.add_events([event(NOON, v=value, _cost=cost)], copies=2)
        polar.polar.add_events([event(NOON + HOUR, v=v, n=n) for n in range(130) for v in (value, 7)])
        report = polar.read()
        assert polar.ids == polar.truth()
        assert (report.proved, report.repeated) == (True, 1)
        assert report.requests < 60


@pytest.mark.parametrize(
    ("events", "most"),
    [
        pytest.param(scattered(12_533, within=HOUR), 131, id="microseconds"),
        pytest.param(scattered(12_533, within=HOUR, seconds=1), 135, id="whole seconds"),
        pytest.param([event(NOON, n=n) for n in range(5_000)], 150, id="one millisecond, told apart by an integer"),
        pytest.param(
            [event(NOON, customer=f"c{n}") for n in range(5_000)], 650, id="one millisecond, by customer alone"
        ),
        pytest.param([], 1, id="a quiet hour"),
    ],
)
def test_budget_of_requests(polar: Readings, events: list[dict[str, Any]], most: int) -> None:
    polar.polar.add_events(events)
    report = polar.read()
    assert polar.ids == polar.truth()
    assert report.proved
    assert report.requests <= most


def test_a_small_window_streamed_is_one_request(polar: Readings) -> None:
    polar.polar.add_events(scattered(99))
    assert len(list(polar.reader.iter_rows(WINDOW))) == 99
    assert len(polar.polar.requests) == 1


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("rows", [1, 100])
def test_short_pages_are_no_end(polar: Readings, every: int, rows: int) -> None:
    polar.polar.add_events([*scattered(1_500), *[event(NOON, n=n) for n in range(250)]])
    polar.polar.fail("short_page", path="list", every=every, rows=rows)
    report = polar.read()
    assert polar.ids == polar.truth()
    assert report.proved
    assert report.requests < 150


# Events that arrive while it reads


def arriving(reading: Readings, moment: datetime, at: int = 8) -> None:
    """Adds an event when the ``at``-th list request comes."""
    seen: list[int] = []

    def callback(record: Any) -> None:
        seen.append(1)
        if len(seen) == at:
            reading.polar.add_events([event(moment)])

    reading.polar.on_request(callback)


def test_an_event_that_arrives_ahead_is_read(polar: Readings) -> None:
    polar.polar.add_events(scattered(2_000))
    arriving(polar, WINDOW.end - MICROSECOND)
    report = polar.read()
    assert polar.ids == polar.truth()
    assert report.counted == 2_001
    assert report.proved
    assert polar.reader.verify([report]) == []


def test_an_event_that_arrives_behind_is_found_by_the_final_count(polar: Readings) -> None:
    polar.polar.add_events(scattered(2_000))
    arriving(polar, DAY)
    slices = [window for window, _ in polar.reader.plan(WINDOW, target_rows=500).slices]
    polar.polar.clear_requests()
    reports = {window: polar.read(window) for window in slices}
    (changed,) = polar.reader.verify(list(reports.values()))
    assert changed == slices[0]
    reports[changed] = polar.read(changed)
    assert polar.ids == polar.truth(changed)
    assert polar.reader.verify([reports[window] for window in slices]) == []


def test_the_iterator_has_what_arrives_behind_in_its_place(polar: Readings) -> None:
    polar.polar.add_events(scattered(2_000))
    arriving(polar, DAY)
    rows = list(polar.reader.iter_rows(WINDOW))
    assert {row.id for row in rows} == polar.truth()
    assert rows[0].timestamp == DAY
    assert rows == sorted(rows, key=lambda row: (row.timestamp, row.id))


def test_the_iterator_gives_up_on_a_window_that_never_rests(polar: Readings) -> None:
    polar.polar.add_events(scattered(300))
    polar.polar.on_request(lambda record: polar.polar.add_events([event(DAY)]) and None)
    with pytest.raises(PolarIncompleteError, match="arriving"):
        list(polar.reader.iter_rows(WINDOW))
    assert len(polar.polar.requests) < 40


# A server of before July 2026, whose bounds are whole seconds: nothing is lost in silence


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        pytest.param(scattered(2_500, within=timedelta(minutes=30)), 1_200.5, id="microseconds"),
        pytest.param(scattered(2_500, within=timedelta(seconds=8)), 3.5, id="more than a page a second"),
        pytest.param([event(DAY + timedelta(seconds=s)) for s in (3.25, 3.75)], 3.5, id="two events"),
        pytest.param([event(DAY + timedelta(seconds=3.25))], 3.5, id="one event, in the second that is cut off"),
    ],
)
def test_bounds_of_whole_seconds_are_refused(events: list[dict[str, Any]], seconds: float) -> None:
    with readings(bounds="second") as polar:
        polar.polar.add_events(events)
        with pytest.raises(PolarIncompleteError, match="bounds"):
            polar.read(EventWindow(DAY, DAY + timedelta(seconds=seconds)))


def test_bounds_of_whole_seconds_do_no_harm_where_events_are_on_whole_seconds() -> None:
    with readings(bounds="second") as polar:
        polar.polar.add_events([event(DAY + timedelta(seconds=i // 50), n=i) for i in range(1_500)])
        assert polar.read(EventWindow(DAY, DAY + timedelta(seconds=20))).rows == 1_000
        assert polar.ids == polar.truth(EventWindow(DAY, DAY + timedelta(seconds=20)))


# Slices


def test_slices_meet_and_are_the_same_again(polar: Readings) -> None:
    polar.polar.add_events([*scattered(2_000), *scattered(1_000, within=timedelta(seconds=3), seed=3)])
    polar.polar.add_events([event(NOON, n=n) for n in range(700)])
    plan = polar.reader.plan(WINDOW, target_rows=250)
    assert plan == polar.reader.plan(WINDOW, target_rows=250)
    windows = [window for window, _ in plan.slices]
    assert windows[0].start == WINDOW.start
    assert windows[-1].end == WINDOW.end
    assert all(a.end == b.start for a, b in pairwise(windows))
    assert sum(count for _, count in plan.slices) == 3_700
    assert 8 <= len(windows) <= 16
    got: set[str] = set()
    for window in windows:
        polar.read(window)
        assert polar.ids == polar.truth(window)
        # The moment of 700 cannot be cut.
        assert len(polar.rows) <= 550 or NOON in window
        got |= polar.ids
    assert got == polar.truth()


def test_planning_costs_little(polar: Readings) -> None:
    empty = EventWindow(DAY - timedelta(days=365), DAY)
    assert polar.reader.plan(empty).slices == [(empty, 0)]
    assert len(polar.polar.requests) == 1
    polar.polar.add_events(scattered(5_000))
    polar.polar.clear_requests()
    assert len(polar.reader.plan(WINDOW, target_rows=1_000).slices) == 5
    assert len(polar.polar.requests) <= 5


def test_the_iterator_costs_little(polar: Readings) -> None:
    polar.polar.add_events(scattered(25_000))
    polar.polar.clear_requests()
    rows = list(polar.reader.iter_rows(WINDOW))
    assert {row.id for row in rows} == polar.truth()
    assert len(polar.polar.requests) <= 250 * 1.05


# The seam with exports


def test_a_plan_of_one_slice_hands_on_the_response(polar: Readings) -> None:
    polar.polar.add_events(scattered(40))
    plan = polar.reader.plan(WINDOW)
    assert plan.slices == [(WINDOW, 40)]
    report = polar.reader.read(WINDOW, lambda rows, so_far: None, page=plan.page)
    assert len(polar.polar.requests) == report.requests == 1
    assert (report.rows, report.self_proved) == (40, True)


def test_a_full_page_is_not_its_own_proof(polar: Readings) -> None:
    polar.polar.add_events(scattered(100))
    report = polar.read()
    assert (report.rows, report.requests, report.self_proved) == (100, 1, False)


def test_a_page_with_more_rows_than_are_counted_is_not_its_own_proof(polar: Readings) -> None:
    """The rows that arrived after the count may stand for ones that are counted and not given."""
    polar.polar.add_events(scattered(3))
    polar.polar.add_events(scattered(1, seed=2), store=False)
    polar.polar.fail("arrival", path="list", before="page", events=scattered(2, seed=3), times=1)
    report = polar.read()
    assert (report.rows, report.requests, report.self_proved) == (5, 1, False)
    assert polar.reader.verify([report]) == [WINDOW]


def test_a_full_page_of_duplicates_with_a_count_too_low_is_not_its_own_proof(polar: Readings) -> None:
    polar.polar.add_events(scattered(120), copies=2)
    polar.polar.fail("count", path="list", total_count=1, times=1)
    report = polar.read()
    assert (report.rows, report.requests, report.self_proved) == (50, 1, False)
    assert polar.reader.verify([report]) == [WINDOW]


def test_what_follows_a_report_so_far_is_exactly_the_rest(polar: Readings) -> None:
    polar.polar.add_events([*scattered(700), *scattered(900, within=timedelta(minutes=5), seconds=1, seed=4)])
    polar.polar.add_events([event(NOON, n=n) for n in range(250)])
    window = EventWindow(DAY + timedelta(seconds=20, microseconds=300), WINDOW.end - timedelta(hours=1, microseconds=7))
    whole = polar.read(window)
    rows, reports = polar.rows, polar.so_far
    assert len(reports) > 10
    for so_far in reports[:-1]:
        rest = polar.read(EventWindow(so_far.window.end, window.end))
        assert [row.id for row in polar.rows] == [row.id for row in rows[so_far.rows :]]
        assert polar.reader.verify([so_far, rest]) == []
    assert reports[-1].window == window
    assert reports[-1].counted == whole.counted


# asyncio


async def test_asyncio_gives_the_same() -> None:
    with readings() as polar:
        polar.polar.add_events([*scattered(1_500), *[event(NOON, n=n) for n in range(300)]])
        polar.polar.add_events([event(NOON + timedelta(hours=1))], store=False)
        report = polar.read()
        polar.polar.clear_requests()
        async with AsyncPolarClient(TOKEN, base_url=polar.polar.base_url) as client:
            filters = EventFilters()
            rows: list[Any] = []
            read = read_slice(WINDOW, filters, lambda more, so_far: rows.extend(more))
            assert await adrive(client, read) == report
            assert [row.id for row in rows] == [row.id for row in polar.rows]
            assert await adrive(client, find_changed([report], filters)) == []
            assert await adrive(client, count_window(WINDOW, filters)) == report.counted
            assert (await adrive(client, plan_slices(WINDOW, filters, target_rows=500))).slices == polar.reader.plan(
                WINDOW, target_rows=500
            ).slices
            streamed: list[str] = []
            stream = WindowStream(WINDOW, filters)
            while not stream.ended:
                streamed += [row.id for row in await adrive(client, stream.read_on())]
            assert stream.missing
            assert streamed == [row.id for row in polar.rows]

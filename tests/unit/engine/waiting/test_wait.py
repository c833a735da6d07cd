"""The one decision of every wait, against a plain list of events: what it asks, and when the wait has ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.drive import adrive, drive
from airflow_provider_polar.engine.waiting.wait import SHOWN, EventWait, PollResult, unknown_names
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarError
from tests.unit.engine.listing import AsyncClient, Client, Listed, Listing

T = datetime(2026, 11, 1, 12, tzinfo=UTC)
US = timedelta(microseconds=1)
MS = timedelta(milliseconds=1)


def paid(*moments: datetime, name: str = "order.paid", **more) -> list[Listed]:  # type: ignore[no-untyped-def]
    return [Listed(moment, name, **more) for moment in moments]


def look(events: list[Listed], **wait) -> tuple[PollResult, int]:  # type: ignore[no-untyped-def]
    """The result of one poll, and the number of its requests."""
    listing = Listing(events)
    result = drive(Client(listing), EventWait.of(**({"event_name": "order.paid", "start": T} | wait)).poll())
    return result, len(listing.asked)


def test_a_wait_comes_back_from_its_json() -> None:
    wait = EventWait.of(
        ["order.paid", "order.refunded"],
        start=T + US,
        end=T + MS,
        match="all",
        min_count=3,
        filters={"source": "user"},
        fail_on="order.failed",
    )
    for one in (wait, EventWait.of("order.paid", start=T)):
        assert EventWait.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize("start", [T, T + 500 * US, T + 7 * MS + 3 * US])
@pytest.mark.parametrize(("offset", "found"), [(-US, False), (0 * US, True), (US, True)])
def test_start_is_exact_to_the_microsecond(start: datetime, offset: timedelta, found: bool) -> None:
    result, requests = look(paid(start + offset), start=start)
    assert (result.state == "found", requests) == (found, 1)


@pytest.mark.parametrize("end", [T + timedelta(hours=1), T + timedelta(hours=1, microseconds=1500)])
@pytest.mark.parametrize(("offset", "found"), [(-US, True), (0 * US, False), (US, False)])
def test_end_is_exact_to_the_microsecond(end: datetime, offset: timedelta, found: bool) -> None:
    result, requests = look(paid(end + offset), end=end)
    assert (result.state == "found", requests) == (found, 1)


def test_a_hundred_events_just_before_the_start_hide_nothing() -> None:
    start = T + 500 * US
    before = paid(*[T + i * US for i in range(130)])
    assert look(before, start=start)[0].state == "waiting"
    result, _ = look([*before, *paid(T + MS)], start=start)
    assert (result.state, result.count) == ("found", 1)


def test_beyond_a_page_what_lies_before_start_and_from_end_on_is_not_counted() -> None:
    start, end = T + 500 * US, T + timedelta(hours=1, microseconds=700)
    outside = paid(*[T + i * US for i in range(20)], *[end + i * US for i in range(30)])
    inside = paid(*[start + i * MS for i in range(1, 201)])
    wait = {"start": start, "end": end}
    result, _ = look(outside + inside, min_count=200, **wait)
    assert (result.state, result.count) == ("found", 200)
    assert look(outside + inside, min_count=201, **wait)[0].state == "waiting"


@pytest.mark.parametrize("events", [10, 11, 99, 5_000])
def test_any_of_many_events_is_one_request_and_counted(events: int) -> None:
    result, requests = look(paid(*[T + i * MS for i in range(events)]))
    assert (result.state, result.count, requests) == ("found", events, 1)
    assert len(result.events) == min(events, SHOWN)
    assert result.events[0]["timestamp"] == "2026-11-01T12:00:00Z"


def test_all_needs_every_name_its_own_number() -> None:
    both = {"event_name": ["order.paid", "order.created"], "match": "all", "min_count": 2}
    events = paid(T, T) + paid(T, name="order.created")
    assert look(events, **both)[0].state == "waiting"
    result, requests = look(events + paid(T, name="order.created"), **both)
    assert (result.state, result.count, requests) == ("found", 4, 1)


def test_all_finds_the_rare_name_behind_pages_of_the_frequent_one() -> None:
    both = {"event_name": ["order.paid", "order.created"], "match": "all"}
    many = paid(*[T + i * MS for i in range(500)])
    result, requests = look(many, **both)
    assert (result.state, requests) == ("waiting", 2)
    result, requests = look([*many, *paid(T + timedelta(hours=1), name="order.created")], **both)
    assert (result.state, result.count, requests) == ("found", 501, 2)


def test_any_counts_all_names_together() -> None:
    events = paid(T, T) + paid(T, name="order.created")
    assert look(events, event_name=["order.paid", "order.created"], min_count=3)[0].state == "found"
    assert look(events, event_name="order.paid", min_count=3)[0].state == "waiting"


def test_fail_on_counts_first_and_is_one_request() -> None:
    result, requests = look(paid(T) + paid(T, name="order.refunded"), fail_on="order.refunded")
    assert (result.state, result.count, requests) == ("failed", 1, 1)
    assert result.events[0]["name"] == "order.refunded"


def test_fail_on_is_found_behind_pages_of_others() -> None:
    many = paid(*[T + i * MS for i in range(500)])
    result, requests = look([*many, *paid(T + timedelta(days=1), name="order.refunded")], fail_on="order.refunded")
    assert (result.state, requests) == ("failed", 2)
    result, requests = look(many, fail_on="order.refunded", min_count=501)
    assert (result.state, requests) == ("waiting", 2)


def test_fail_on_outside_the_window_does_not_count() -> None:
    assert look(paid(T) + paid(T - US, name="order.refunded"), fail_on="order.refunded")[0].state == "found"


def test_an_event_that_is_counted_and_not_given_is_waited_for() -> None:
    result, _ = look(paid(T, given=False))
    assert (result.state, result.unlisted) == ("waiting", 1)


def test_an_event_that_is_counted_twice_counts_once() -> None:
    assert look(paid(T, copies=2), min_count=2)[0].state == "waiting"


def test_a_wait_may_start_with_the_calendar() -> None:
    assert look(paid(T), start=datetime.min.replace(tzinfo=UTC))[0].state == "found"


def test_the_embedded_customer_is_left_out() -> None:
    result, _ = look(paid(T))
    assert result.events[0].keys() == {"id", "timestamp", "name", "source"}


NAMES = ("order.paid", "order.created", "order.refunded")
EDGES = (T, T + 250 * US, T + MS, T + timedelta(seconds=1), T + timedelta(seconds=1, microseconds=300))


@settings(max_examples=300, deadline=None)
@given(
    crowds=st.lists(
        st.tuples(
            st.sampled_from(EDGES),
            st.integers(-3, 3),
            st.sampled_from(NAMES),
            st.sampled_from([1, 2, 9, 60, 150]),
            st.integers(0, 700),
        ),
        max_size=6,
    ),
    start=st.sampled_from(EDGES[:3]),
    end=st.sampled_from([None, *EDGES[3:]]),
    match=st.sampled_from(["any", "all"]),
    min_count=st.sampled_from([1, 2, 10, 100, 101, 140]),
    names=st.sampled_from([NAMES[:1], NAMES[:2]]),
    fail_on=st.sampled_from([(), NAMES[2:]]),
)
@example([(EDGES[1], -3, NAMES[0], 150, 0), (EDGES[2], 0, NAMES[0], 150, 1)], EDGES[1], None, "any", 140, NAMES[:1], ())
@example([(EDGES[3], 0, NAMES[0], 60, 0)], EDGES[0], EDGES[4], "any", 1, NAMES[:1], ())
def test_a_wait_ends_exactly_when_it_should(crowds, start, end, match, min_count, names, fail_on) -> None:  # type: ignore[no-untyped-def]
    """Any number of events around the edges, in and out of order."""
    events = [
        Listed(edge + offset * US + i * step * US, name)
        for edge, offset, name, many, step in crowds
        for i in range(many)
    ]
    inside = [event for event in events if start <= event.timestamp and (end is None or event.timestamp < end)]
    per_name = {name: sum(event.name == name for event in inside) for name in NAMES}
    enough = (
        all(per_name[name] >= min_count for name in names)
        if match == "all"
        else sum(per_name[name] for name in names) >= min_count
    )
    wait = {"event_name": names, "start": start, "end": end, "match": match, "min_count": min_count}
    result, requests = look(events, fail_on=fail_on, **wait)
    assert requests <= 8
    if fail_on and per_name[NAMES[2]]:
        assert result.state != "found"
    else:
        # Never too early. Too late only where more than a page of events shares the millisecond of a bound and lies
        # on both its sides.
        assert result.state != "found" or enough
        crowded = sum(abs(event.timestamp - start) < 2 * MS for event in events) > SHOWN
        crowded |= end is not None and sum(abs(event.timestamp - end) < 2 * MS for event in events) > 99
        if enough and not crowded:
            assert result.state == "found"
            assert result.count == sum(per_name[name] for name in names)


async def test_asynchronously_it_is_the_same_decision() -> None:
    listing = Listing(paid(T))
    wait = EventWait.of("order.paid", start=T)
    assert await adrive(AsyncClient(listing), wait.poll()) == drive(Client(listing), wait.poll())


@pytest.mark.parametrize(
    "parameters",
    [
        {"event_name": ""},
        {"event_name": []},
        {"event_name": [None]},
        {"event_name": 7},
        {"match": "both"},
        {"min_count": 0},
        {"min_count": True},
        {"min_count": "many"},
        {"fail_on": "order.paid"},
        {"filters": {"name": "order.paid"}},
        {"filters": {"nmae": "order.paid"}},
        {"start": "2026-11-01T12:00:00"},
        {"start": "None"},
        {"end": T},
        {"end": T - US},
    ],
)
def test_an_impossible_wait_is_refused(parameters) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PolarConfigurationError):
        EventWait.of(**({"event_name": "order.paid", "start": T} | parameters))


def test_an_unknown_name_is_told_with_the_nearest_ones() -> None:
    told = unknown_names(["order.payed", "order.paid", "zzz"], ["order.paid", "order.created"])
    assert len(told) == 2
    assert "'order.payed'" in told[0]
    assert "'order.paid'" in told[0]
    assert "no known name is near" in told[1]


def test_against_the_local_polar(polar_server) -> None:  # type: ignore[no-untyped-def]
    wait = EventWait.of("order.paid", start=T, filters={"external_customer_id": "c1"})
    with PolarClient(polar_server.token, base_url=polar_server.base_url) as client:
        polar_server.add_events([{"name": "order.paid", "external_customer_id": "c2", "timestamp": T}])
        assert drive(client, wait.poll()).state == "waiting"
        polar_server.add_events([{"name": "order.paid", "external_customer_id": "c1", "timestamp": T}])
        assert drive(client, wait.poll()).state == "found"
        polar_server.fail("status", path="list")
        with pytest.raises(PolarError):
            drive(client, wait.poll(), retries=client.retries.__class__(attempts=1))

"""What a wait says and what it takes from Polar, exactly: numbers, words and the rows of each request."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.waiting.wait import EventWait, unknown_names
from airflow_provider_polar.exceptions import PolarConfigurationError, PolarWindowError
from tests.unit.engine.listing import Client, Listed, Listing
from tests.unit.engine.waiting.test_wait import MS, US, T, look, paid

PAID_AND_CREATED = ["order.paid", "order.created"]


def limits(**wait) -> list[str]:  # type: ignore[no-untyped-def]
    """The ``limit`` of each request of a poll that finds nothing."""
    listing = Listing()
    drive(Client(listing), EventWait.of(**({"event_name": "order.paid", "start": T} | wait)).poll())
    return [dict(request.params)["limit"] for request in listing.asked]


@pytest.mark.parametrize(
    ("wait", "limit"),
    [
        ({}, "10"),
        ({"event_name": PAID_AND_CREATED}, "10"),
        ({"match": "all"}, "10"),
        ({"event_name": PAID_AND_CREATED, "match": "all"}, "100"),
        ({"min_count": 2}, "100"),
        ({"fail_on": "order.refunded"}, "100"),
    ],
)
def test_a_handful_is_requested_where_one_event_is_enough_and_else_a_page(wait: dict[str, object], limit: str) -> None:
    assert limits(**wait) == [limit]


def test_what_is_not_listed_is_told_only_where_a_page_shows_it() -> None:
    assert look(paid(T) + paid(T, given=False, name="order.created"), event_name=PAID_AND_CREATED)[0].unlisted == 1
    assert look(paid(T))[0].unlisted == 0
    assert look(paid(*[T + i * MS for i in range(300)]))[0].unlisted == 0
    assert look(paid(T, name="order.refunded"), fail_on="order.refunded")[0].unlisted == 0


def test_names_that_no_event_had_are_told_where_a_page_shows_all_events() -> None:
    assert look(paid(T), event_name=PAID_AND_CREATED)[0].unseen == ("order.created",)
    assert look([])[0].unseen == ("order.paid",)
    assert look(paid(*[T + i * MS for i in range(300)]), event_name=PAID_AND_CREATED)[0].unseen == ()


@pytest.mark.parametrize(("events", "state", "count"), [(150, "found", 150), (149, "waiting", 149)])
def test_one_request_tells_of_any_number_of_events_of_any_name(events: int, state: str, count: int) -> None:
    moments = [T + i * MS for i in range(events)]
    listed = paid(*moments[::2]) + paid(*moments[1::2], name="order.created")
    result, requests = look(listed, event_name=PAID_AND_CREATED, min_count=150)
    assert (result.state, result.count, requests) == (state, count, 1)


def test_all_of_two_behind_a_page_waits_for_the_rarer_and_is_counted() -> None:
    many = paid(*[T + i * MS for i in range(150)])
    both = {"event_name": PAID_AND_CREATED, "match": "all", "min_count": 2}
    rare = paid(*[T + timedelta(hours=1) + i * MS for i in range(2)], name="order.created")
    result, _ = look(many + rare[:1], **both)
    assert (result.state, result.count) == ("waiting", 100)
    result, _ = look(many + rare, **both)
    assert (result.state, result.count) == ("found", 152)


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        ({}, "order.paid from 2026-11-01T12:00:00Z"),
        (
            {"min_count": 2, "end": T + timedelta(hours=1)},
            "2 x order.paid from 2026-11-01T12:00:00Z and before 2026-11-01T13:00:00Z",
        ),
        ({"event_name": PAID_AND_CREATED}, "order.paid or order.created from 2026-11-01T12:00:00Z"),
        (
            {"event_name": PAID_AND_CREATED, "match": "all", "min_count": 3},
            "3 x every one of order.paid, order.created from 2026-11-01T12:00:00Z",
        ),
    ],
)
def test_a_wait_in_words(wait: dict[str, object], words: str) -> None:
    assert str(EventWait.of(**({"event_name": "order.paid", "start": T} | wait))) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(("end", "said"), [(None, None), (T + MS, "2026-11-01T12:00:00.001000Z")])
def test_the_outcome_has_the_window_and_the_events_without_the_customer(end: object, said: str | None) -> None:
    wait = EventWait.of("order.paid", start=T, end=end)  # type: ignore[arg-type]
    (event,) = paid(T)
    result = drive(Client(Listing([event])), wait.poll())
    assert wait.found(result) == {
        "count": 1,
        "events": [{"id": event.id, "timestamp": "2026-11-01T12:00:00Z", "name": "order.paid", "source": "user"}],
        "start": "2026-11-01T12:00:00Z",
        "end": said,
    }
    assert wait.to_dict()["end"] == said


def test_a_failure_names_the_event() -> None:
    wait = EventWait.of("order.paid", start=T, fail_on="order.refunded")
    (event,) = paid(T + US, name="order.refunded")
    said = wait.failure(drive(Client(Listing([event])), wait.poll()))
    assert said.startswith(f"order.refunded came (event {event.id} at 2026-11-01T12:00:00.000001Z) while waiting for ")
    assert str(wait) in said


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"event_name": []}, "event_name is empty"),
        ({"event_name": ["order.paid", " "]}, "event_name has ' '"),
        ({"event_name": "None"}, "event_name has 'None'"),
        ({"event_name": 7}, "event_name is 7"),
        ({"event_name": {"order.paid": 1}}, "event_name is {'order.paid': 1}"),
        ({"fail_on": ["order.refunded", ""]}, "fail_on has ''"),
        ({"match": "both"}, "match is 'both'"),
        ({"min_count": 0}, "min_count is 0"),
        ({"fail_on": ["order.created", "order.paid"]}, "'order.paid' is both in event_name and in fail_on"),
        ({"filters": {"name": ["order.paid", "order.created"]}}, "order.paid, order.created"),
        ({"end": T - US}, "starts at 2026-11-01T12:00:00Z and ends at 2026-11-01T11:59:59.999999Z"),
    ],
)
def test_what_is_refused_is_named(parameters: dict[str, object], says: str) -> None:
    with pytest.raises((PolarConfigurationError, PolarWindowError)) as refused:
        EventWait.of(**({"event_name": "order.paid", "start": T} | parameters))  # type: ignore[arg-type]
    assert says in str(refused.value)


def test_an_end_right_after_the_start_is_taken_and_numbers_may_be_text() -> None:
    wait = EventWait.of(["order.paid", "order.paid"], start=T, end=T + US, min_count="2")
    assert (wait.names, wait.min_count) == (("order.paid",), 2)
    assert drive(Client(Listing([Listed(T), Listed(T)])), wait.poll()).state == "found"


def test_every_unknown_name_is_told_with_at_most_three_near_ones() -> None:
    known = ["order.paid", "order.paid2", "order.paid3", "order.paid4", "x"]
    told = unknown_names(["order.payd", "x", "zzzz"], known)
    assert told[0].startswith("No event has ever had the name 'order.payd'; the nearest known names are 'order.paid'")
    assert told[0].count("'order.paid") == 3
    assert told[1] == "No event has ever had the name 'zzzz'; no known name is near it. The wait goes on."

"""Waits that look together see what each would see on its own, in fewer requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.drive import drive
from airflow_provider_polar.engine.waiting.together import groups_of, poll_together
from airflow_provider_polar.engine.waiting.wait import SHOWN, EventWait, PollResult
from airflow_provider_polar.testing import LocalPolar
from tests.unit.engine.listing import Client, Listed, Listing

T = datetime(2026, 11, 1, 12, tzinfo=UTC)
_example = count()


def look(waits: list[EventWait], client: Any) -> list[PollResult]:
    """One look of each, in their order."""
    results: dict[int, PollResult] = {}
    for group in groups_of(range(len(waits)), waits.__getitem__):
        polled = drive(client, poll_together([waits[number] for number in group]))
        results |= zip(group, polled, strict=True)
    return [results[number] for number in range(len(waits))]


def alone(waits: list[EventWait], client: Any) -> list[PollResult]:
    return [drive(client, wait.poll()) for wait in waits]


def told(results: list[PollResult]) -> list[tuple[Any, ...]]:
    """What must be the same; which of more events of one moment are shown is chance."""
    return [
        (result.state, result.count, {event["id"] for event in result.events} if result.count <= SHOWN else SHOWN)
        for result in results
    ]


@pytest.fixture(scope="module")
def polar() -> Iterator[tuple[LocalPolar, PolarClient, list[dict[str, Any]]]]:
    with LocalPolar() as server, PolarClient(server.token, base_url=server.base_url) as client:
        yield server, client, [server.add_customer("a"), server.add_customer("b"), server.add_customer()]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_together_each_sees_what_it_sees_alone(polar: Any, data: st.DataObject) -> None:
    server, client, customers = polar
    prefix = f"{next(_example)}."
    names = st.sampled_from([prefix + "paid", prefix + "created", prefix + "refunded"])
    # A customer is meant by either of its ids; "c" is known by its external id alone.
    ids = [customer["id"] for customer in customers]
    who = st.one_of(
        st.sampled_from(["a", "b", "c"]).map(lambda one: {"external_customer_id": one}),
        st.sampled_from(ids).map(lambda one: {"customer_id": one}),
    )
    moments = st.sampled_from([-1, 0, 1, 500_000, 1_000_000, 2_000_000]).map(lambda us: T + timedelta(microseconds=us))
    crowds = data.draw(st.lists(st.tuples(names, who, moments, st.sampled_from([1, 1, 2, 60])), max_size=6))
    server.add_events(
        {"name": name, "timestamp": moment, **whose} for name, whose, moment, many in crowds for _ in range(many)
    )
    some_names = st.lists(names, min_size=1, max_size=2, unique=True)
    filters = st.one_of(
        st.none(),
        st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2).map(lambda of: {"external_customer_id": of}),
        st.lists(st.sampled_from(ids), min_size=1, max_size=2).map(lambda of: {"customer_id": of}),
        st.just({"external_customer_id": "a", "customer_id": ids[0]}),
        st.just({"source": "user"}),
    )
    waits = [
        EventWait.of(
            named,
            start=start,
            end=start + timedelta(seconds=1) if ends else None,
            match=match,
            min_count=least,
            filters=filtered,
            fail_on=[] if (failing := prefix + "refunded") in named or not fails else failing,
        )
        for named, start, ends, match, least, filtered, fails in data.draw(
            st.lists(
                st.tuples(
                    some_names,
                    moments,
                    st.booleans(),
                    st.sampled_from(["any", "all"]),
                    st.sampled_from([1, 2, 61, 110]),
                    filters,
                    st.booleans(),
                ),
                min_size=2,
                max_size=12,
            )
        )
    ]
    for together, by_itself in zip(told(look(waits, client)), told(alone(waits, client)), strict=True):
        # A crowd around a bound, in one millisecond, may be more than a wait sees alone.
        assert together == by_itself or together[1] > by_itself[1] >= SHOWN


def test_a_thousand_names_are_a_few_requests() -> None:
    listing = Listing([Listed(T, f"usage.rolled_up.{number}") for number in range(90)])
    waits = [EventWait.of(f"usage.rolled_up.{number}", start=T - timedelta(hours=number)) for number in range(1000)]
    states = [result.state for result in look(waits, Client(listing))]
    assert states == ["found"] * 90 + ["waiting"] * 910
    assert len(listing.asked) <= 8
    assert max(len(request.target) for request in listing.asked) < 6_500


def test_a_thousand_customers_are_a_few_requests(polar: Any) -> None:
    server, client, _ = polar
    server.add_events({"name": "made", "timestamp": T, "external_customer_id": f"k{n}"} for n in range(90))
    waits = [EventWait.of("made", start=T, filters={"external_customer_id": f"k{n}"}) for n in range(1000)]
    before = client.requests_sent
    assert [result.state for result in look(waits, client)] == ["found"] * 90 + ["waiting"] * 910
    assert client.requests_sent - before <= 8


def test_when_all_of_them_come_at_once_it_costs_what_their_pages_cost() -> None:
    listing = Listing([Listed(T, f"usage.rolled_up.{number}") for number in range(1000)])
    waits = [EventWait.of(f"usage.rolled_up.{number}", start=T) for number in range(1000)]
    assert {result.state for result in look(waits, Client(listing))} == {"found"}
    assert len(listing.asked) <= 40


def test_one_with_pages_of_events_does_not_make_the_others_costly() -> None:
    listing = Listing([Listed(T + timedelta(milliseconds=i), "api.call") for i in range(5_000)])
    waits = [EventWait.of("api.call", start=T, min_count=9_000)]
    waits += [EventWait.of(f"usage.rolled_up.{number}", start=T) for number in range(255)]
    results = look(waits, Client(listing))
    assert (results[0].state, results[0].count) == ("waiting", 5_000)
    assert len(listing.asked) <= 40


def test_where_fail_on_may_be_missing_from_a_short_page_each_looks_alone() -> None:
    listing = Listing([Listed(T), Listed(T, "order.refunded", given=False)])
    waits = [EventWait.of("order.paid", start=T, fail_on="order.refunded"), EventWait.of("order.created", start=T)]
    assert told(look(waits, Client(listing))) == told(alone(waits, Client(listing)))

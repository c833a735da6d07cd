"""What a watch costs, where mutants of it delivered the same events with more requests."""

from __future__ import annotations

from datetime import timedelta

from airflow_provider_polar.api.limits import MAX_LIMIT
from tests.unit.engine.listing import Listed, Listing
from tests.unit.engine.waiting.test_watch import T, first_run, poll, seconds


def test_events_before_the_overlap_cost_a_poll_nothing() -> None:
    listing = Listing([Listed(T - timedelta(hours=1) - seconds(i)) for i in range(850)])
    first_run(listing)
    assert len(listing.asked) == 1


def test_a_full_overlap_costs_one_request_while_its_minutes_pass() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(850)])
    cursor = first_run(listing)
    for minute in range(1, 6):
        listing.asked.clear()
        assert poll(listing, cursor, T + timedelta(minutes=minute)) == []
        assert len(listing.asked) == 1


def test_a_full_page_is_read_by_the_request_that_counts_it() -> None:
    listing = Listing([Listed(T - seconds(i)) for i in range(MAX_LIMIT)])
    first_run(listing)
    assert len(listing.asked) == 1
